//! Leveled nodes to instructions on buffers.
//!
//! Values keep the program's order. A buffer is taken when a value is defined and free for the next instruction after the value's
//! last use; the lowest free buffer is taken first, so that equal programs get equal plans.

use super::EmitError;
use sotto_ir::plan::{Buf, Instr, PlanProgram, PlanTemplate};
use sotto_ir::slot::{Leveled, Program, Template, ValueId};
use std::collections::{BTreeMap, BTreeSet};

/// The instruction streams of a leveled program.
pub fn lower(program: &Program<Leveled>) -> Result<PlanProgram, EmitError> {
    let templates: Result<_, _> = program.templates.iter().map(template).collect();
    Ok(PlanProgram {
        name: program.name.clone(),
        block: program.block,
        data: program.data.clone(),
        plains: program.plains.clone(),
        matrices: program.matrices.clone(),
        polys: program.polys.clone(),
        states: program.states.clone(),
        templates: templates?,
        steps: program.steps.clone(),
    })
}

/// Buffers in use and free.
#[derive(Default)]
struct Pool {
    spare: BTreeSet<u32>,
    made: u32,
}

impl Pool {
    fn take(&mut self) -> Buf {
        Buf(self.spare.pop_first().unwrap_or_else(|| {
            self.made += 1;
            self.made - 1
        }))
    }
}

fn template(template: &Template<Leveled>) -> Result<PlanTemplate, EmitError> {
    let dying = dying(template);
    let mut pool = Pool::default();
    let mut bufs: BTreeMap<ValueId, Buf> = BTreeMap::new();
    let mut params = Vec::new();
    for p in &template.params {
        let buf = pool.take();
        bufs.insert(p.value, buf);
        params.push((buf, p.note, p.ty.clone()));
    }
    let undefined = |site: &str, v: &ValueId| EmitError::Undefined {
        template: template.name.clone(),
        site: site.to_string(),
        value: v.0,
    };
    let mut instrs = Vec::new();
    for (i, node) in template.nodes.iter().enumerate() {
        for v in node.op.operands() {
            bufs.get(v).ok_or_else(|| undefined(&node.site, v))?;
        }
        let op = node.op.map(|v| bufs[v]);
        let dst: Vec<Buf> = node.results.iter().map(|_| pool.take()).collect();
        let free: Vec<Buf> = dying[i]
            .iter()
            .filter_map(|v| bufs.get(v).copied())
            .collect();
        pool.spare.extend(free.iter().map(|b| b.0));
        bufs.extend(node.results.iter().copied().zip(dst.iter().copied()));
        instrs.push(Instr {
            op,
            dst,
            at: node.notes.clone(),
            types: node.types.clone(),
            free,
            site: node.site.clone(),
        });
    }
    let result = |v: &ValueId| bufs.get(v).copied().ok_or_else(|| undefined("results", v));
    Ok(PlanTemplate {
        name: template.name.clone(),
        params,
        results: template
            .results
            .iter()
            .map(result)
            .collect::<Result<_, _>>()?,
        instrs,
        buffers: pool.made,
    })
}

/// For each node, the values that nobody reads after it: those read there last, and any defined before it that nothing reads.
fn dying(template: &Template<Leveled>) -> Vec<Vec<ValueId>> {
    let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
    for p in &template.params {
        last.insert(p.value, 0);
    }
    for (i, node) in template.nodes.iter().enumerate() {
        last.extend(node.op.operands().into_iter().map(|v| (*v, i)));
        // Never freed by the instruction that defines it.
        last.extend(node.results.iter().map(|v| (*v, i + 1)));
    }
    for v in &template.results {
        last.remove(v);
    }
    let mut dying = vec![Vec::new(); template.nodes.len()];
    for (v, i) in last {
        if let Some(list) = dying.get_mut(i) {
            list.push(v);
        }
    }
    dying
}
