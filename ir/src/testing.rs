//! Programs for tests: the naive way from a packed program to a plan, and a small plan to run, damage and print.

use crate::plan::*;
use crate::slot::*;
use sotto_params::{ParamSet, bootstrap::BootstrapSpec, poly::depth};
use std::collections::HashMap;

/// Level of the test plan's KV state.
pub const STATE_LEVEL: u32 = 13;
/// The one bootstrap of the test plan.
pub const KIND: BootstrapKind = BootstrapKind {
    slots: 4,
    complex: false,
};
/// Where its output and the client's input are.
pub const TOP: u32 = 16;

/// Parameters of the test plan.
pub fn params() -> ParamSet {
    ParamSet::insecure_test(9)
}

/// Structure of the one bootstrap.
pub fn bootstrap() -> BootstrapSpec {
    BootstrapSpec::new(&params(), KIND.slots as usize, KIND.complex).unwrap()
}

/// Eager placement: every product is rescaled at once, and each step's result is refreshed.
pub fn level(program: &Program<Packed>) -> Program<Leveled> {
    let mut out = Program {
        name: program.name.clone(),
        model_digest: program.model_digest.clone(),
        slots: program.slots,
        block: program.block,
        capacity: program.capacity,
        data: program.data.clone(),
        plains: program.plains.clone(),
        matrices: program.matrices.clone(),
        polys: program.polys.clone(),
        states: program.states.clone(),
        templates: program
            .templates
            .iter()
            .map(|t| Template {
                name: t.name.clone(),
                params: vec![],
                nodes: vec![],
                results: vec![],
            })
            .collect(),
        steps: program.steps.clone(),
    };
    for state in &mut out.states {
        state.level = Some(STATE_LEVEL);
    }
    for step in &program.steps {
        level_template(program, &mut out, step.template, &[TOP], true);
    }
    out
}

fn level_template(
    program: &Program<Packed>,
    out: &mut Program<Leveled>,
    index: usize,
    params: &[u32],
    refresh: bool,
) -> Vec<At> {
    let template = &program.templates[index];
    let mut leveler = Leveler {
        nodes: vec![],
        values: HashMap::new(),
        next: 0,
    };
    let mut new_params = vec![];
    for (param, &level) in template.params.iter().zip(params) {
        let at = At { level, degree: 1 };
        let value = leveler.fresh();
        let ty = param.ty.clone();
        leveler.values.insert(param.value, (value, at, ty.clone()));
        new_params.push(Param {
            value,
            ty,
            note: at,
        });
    }
    for node in &template.nodes {
        leveler.node(program, out, node);
    }
    let mut results = vec![];
    let mut ats = vec![];
    for result in &template.results {
        let mut v = leveler.values[result].clone();
        if refresh {
            v = leveler.drop(v, bootstrap().input_level as u32);
            let at = At {
                level: TOP,
                degree: 1,
            };
            let op = Op::Bootstrap { v: v.0, kind: KIND };
            v = leveler.push(op, at, v.2, "layers.{i}.refresh");
        }
        results.push(v.0);
        ats.push(v.1);
    }
    out.templates[index] = Template {
        name: template.name.clone(),
        params: new_params,
        nodes: leveler.nodes,
        results,
    };
    ats
}

type Value = (ValueId, At, ValueType);

struct Leveler {
    nodes: Vec<Node<Leveled>>,
    values: HashMap<ValueId, Value>,
    next: u32,
}

impl Leveler {
    fn fresh(&mut self) -> ValueId {
        self.next += 1;
        ValueId(self.next - 1)
    }

    fn push(&mut self, op: Op<ValueId>, at: At, ty: ValueType, site: &str) -> Value {
        let value = self.fresh();
        self.nodes.push(Node {
            results: vec![value],
            op,
            types: vec![ty.clone()],
            notes: vec![at],
            site: site.into(),
        });
        (value, at, ty)
    }

    fn drop(&mut self, v: Value, level: u32) -> Value {
        if v.1.level == level {
            return v;
        }
        let at = At { level, degree: 1 };
        self.push(Op::Drop { v: v.0, level }, at, v.2, "drop")
    }

    fn node(&mut self, program: &Program<Packed>, out: &mut Program<Leveled>, node: &Node<Packed>) {
        let operands: Vec<Value> = node
            .op
            .operands()
            .iter()
            .map(|v| self.values[v].clone())
            .collect();
        let lowest = operands.iter().map(|v| v.1.level).min().unwrap();
        let lowest = if let Op::Append { .. } = node.op {
            STATE_LEVEL
        } else {
            lowest
        };
        let mut map = HashMap::new();
        for (old, value) in node.op.operands().into_iter().zip(operands) {
            map.insert(*old, self.drop(value, lowest).0);
        }
        let op = node.op.map(|v| map[v]);
        let mut at = At {
            level: lowest,
            degree: 1,
        };
        let product = matches!(
            op,
            Op::MulPlain { .. } | Op::MulConst { .. } | Op::Mul { .. } | Op::Linear { .. }
        );
        match &op {
            Op::Append { .. } => {
                self.nodes.push(Node {
                    results: vec![],
                    op,
                    types: vec![],
                    notes: vec![],
                    site: node.site.clone(),
                });
                return;
            }
            Op::Poly { poly, .. } => {
                at.level -= depth(program.polys[poly.0 as usize].degree() as usize) as u32;
            }
            Op::SumGroups {
                template,
                states,
                args,
            } => {
                let mut levels = vec![lowest; args.len()];
                levels.extend(states.iter().map(|_| STATE_LEVEL));
                at = level_template(program, out, *template, &levels, false)[0];
            }
            _ if product => at.degree = 2,
            _ => {}
        }
        let ty = node.types[0].clone();
        let mut value = self.push(op, at, ty.clone(), &node.site);
        if product {
            let at = At {
                level: lowest - 1,
                degree: 1,
            };
            value = self.push(Op::Rescale { v: value.0 }, at, ty, &node.site);
        }
        self.values.insert(node.results[0], value);
    }
}

/// Buffers for values: each is free for the next instruction after its value's last use.
pub fn lower(program: &Program<Leveled>) -> PlanProgram {
    PlanProgram {
        name: program.name.clone(),
        block: program.block,
        data: program.data.clone(),
        plains: program.plains.clone(),
        matrices: program.matrices.clone(),
        polys: program.polys.clone(),
        states: program.states.clone(),
        templates: program.templates.iter().map(lower_template).collect(),
        steps: program.steps.clone(),
    }
}

fn lower_template(template: &Template<Leveled>) -> PlanTemplate {
    let mut last = HashMap::new();
    for (i, node) in template.nodes.iter().enumerate() {
        last.extend(node.op.operands().into_iter().map(|v| (*v, i)));
    }
    let mut bufs: HashMap<ValueId, Buf> = HashMap::new();
    let (mut spare, mut buffers) = (vec![], 0);
    let mut take = |spare: &mut Vec<Buf>| {
        spare.pop().unwrap_or_else(|| {
            buffers += 1;
            Buf(buffers - 1)
        })
    };
    let mut params = vec![];
    for p in &template.params {
        let buf = take(&mut spare);
        bufs.insert(p.value, buf);
        params.push((buf, p.note, p.ty.clone()));
    }
    let mut instrs = vec![];
    for (i, node) in template.nodes.iter().enumerate() {
        let op = node.op.map(|v| bufs[v]);
        let dst: Vec<Buf> = node.results.iter().map(|_| take(&mut spare)).collect();
        let mut free: Vec<Buf> = node
            .op
            .operands()
            .into_iter()
            .filter(|v| last[v] == i && !template.results.contains(v))
            .map(|v| bufs[v])
            .collect();
        free.dedup();
        spare.extend(&free);
        for (value, buf) in node.results.iter().zip(&dst) {
            bufs.insert(*value, *buf);
        }
        instrs.push(Instr {
            op,
            dst,
            at: node.notes.clone(),
            types: node.types.clone(),
            free,
            site: node.site.clone(),
        });
    }
    PlanTemplate {
        name: template.name.clone(),
        params,
        instrs,
        results: template.results.iter().map(|v| bufs[v]).collect(),
        buffers,
    }
}

/// A plan around a program, on the parameters of the smallest test ring.
pub fn plan(program: &Program<Leveled>) -> Plan {
    let params = params();
    let wire = Wire {
        block: 1,
        count: 4,
        width: 4,
        unit: 1.0,
        level: TOP,
    };
    let decode = lower(program);
    Plan {
        version: PLAN_VERSION,
        compiler: "test".into(),
        model: ModelFacts {
            name: "test".into(),
            digest: program.model_digest.clone(),
            weights: Weights::Checkpoint,
            hidden: 4,
            intermediate: 4,
            layers: 2,
            heads: 1,
            kv_heads: 1,
            head_dim: 4,
            vocab: 4,
        },
        security: Security::of(&params),
        disclosures: vec!["The server learns the number of tokens.".into()],
        client: ClientPart {
            input: wire,
            outputs: vec![wire],
            output_kind: OutputKind::Logits,
            embedding: Placement::Client,
            head: Placement::Server,
            bos: Some(0),
            eos: vec![1],
            tokenizer: None,
            embedding_table: Some(file("client/embedding.f32", 64)),
            learned_positions: false,
            position_table: None,
            head_table: None,
        },
        capacity: program.capacity,
        estimate: Estimate {
            bootstraps: vec![BootstrapCount {
                kind: KIND,
                count: 2,
            }],
            ..Estimate::default()
        },
        keys: KeyList::of([&decode], &[bootstrap()], program.slots),
        bootstraps: vec![bootstrap()],
        approximations: vec![],
        sites: vec![],
        search: SearchNote::default(),
        decisions: vec![],
        params,
        decode,
        prefill: None,
        arrays: (0..2)
            .map(|layer| ArrayEntry {
                data: DataId(0),
                layer,
                file: file("server/0", 32),
                encoding: Encoding::I16,
                scale: 1e-4,
                error: 5e-5,
            })
            .collect(),
    }
}

fn file(path: &str, bytes: u64) -> FileEntry {
    FileEntry {
        path: path.into(),
        bytes,
        digest: crate::Digest([0; 32]),
    }
}
