//! A leveled program being written, for [`super::oracle`].

use super::random::is_legal;
use sotto_ir::params::bootstrap::BootstrapSpec;
use sotto_ir::slot::{
    At, Leveled, Node, Op, Packed, Param, Program, StateDecl, Step, Template, ValueId, ValueType,
};
use std::collections::BTreeMap;

/// A value: its name, where it stands, what it is.
pub type Written = (ValueId, At, ValueType);

/// A leveled program being written.
#[derive(Clone)]
pub struct Draft {
    pub program: Program<Leveled>,
    /// By template, what stands for each packed value.
    pub values: Vec<BTreeMap<ValueId, Written>>,
    /// By template, what stands for its refreshed copy.
    pub copies: Vec<BTreeMap<ValueId, Written>>,
    next: u32,
    pub cost: u64,
    outer: usize,
    /// A loop has been written, so its template has a use.
    entered: bool,
}

impl Draft {
    /// Nothing but the parameters, at the top: the client sends them as high as they are wanted.
    pub fn new(packed: &Program<Packed>, top: u32) -> Self {
        let template = |t: &Template<Packed>| Template {
            name: t.name.clone(),
            params: vec![],
            nodes: vec![],
            results: vec![],
        };
        let state = |s: &StateDecl| StateDecl {
            level: Some(0),
            ..s.clone()
        };
        let count = packed.templates.len();
        let outer = packed.steps[0].template;
        let mut draft = Self {
            program: Program {
                name: packed.name.clone(),
                model_digest: packed.model_digest.clone(),
                slots: packed.slots,
                block: packed.block,
                capacity: packed.capacity,
                data: packed.data.clone(),
                plains: packed.plains.clone(),
                matrices: packed.matrices.clone(),
                polys: packed.polys.clone(),
                states: packed.states.iter().map(state).collect(),
                templates: packed.templates.iter().map(template).collect(),
                steps: vec![Step {
                    template: outer,
                    first: 0,
                    count: 1,
                }],
            },
            values: vec![BTreeMap::new(); count],
            copies: vec![BTreeMap::new(); count],
            next: 0,
            cost: 0,
            outer,
            entered: false,
        };
        for param in &packed.templates[outer].params {
            draft.param(outer, param, top);
        }
        draft
    }

    /// Asks the verifier, of what has been written so far.
    pub fn is_legal(&self, top: u32, bootstraps: &[BootstrapSpec]) -> bool {
        if self.entered {
            return is_legal(&self.program, top, bootstraps);
        }
        let mut program = self.program.clone();
        program.templates = vec![program.templates.swap_remove(self.outer)];
        program.steps[0].template = 0;
        is_legal(&program, top, bootstraps)
    }

    fn fresh(&mut self) -> ValueId {
        self.next += 1;
        ValueId(self.next - 1)
    }

    /// A template returns its first parameter until it is known what it returns.
    fn param(&mut self, t: usize, param: &Param<Packed>, level: u32) {
        let (value, note) = (self.fresh(), At { level, degree: 1 });
        let ty = param.ty.clone();
        self.values[t].insert(param.value, (value, note, ty.clone()));
        let template = &mut self.program.templates[t];
        template.params.push(Param { value, ty, note });
        if template.results.is_empty() {
            template.results = vec![value];
        }
    }

    /// Writes an operation with at most one result.
    pub fn push(
        &mut self,
        t: usize,
        op: Op<ValueId>,
        makes: Option<(At, &ValueType)>,
    ) -> Option<Written> {
        let made = makes.map(|(at, ty)| (self.fresh(), at, ty.clone()));
        self.program.templates[t].nodes.push(Node {
            results: made.iter().map(|m| m.0).collect(),
            op,
            types: made.iter().map(|m| m.2.clone()).collect(),
            notes: made.iter().map(|m| m.1).collect(),
            site: "op".into(),
        });
        made
    }

    /// The value at `level`.
    pub fn dropped(&mut self, t: usize, written: &Written, level: u32) -> ValueId {
        let (id, at, ty) = written;
        if at.level == level {
            return *id;
        }
        let at = At { level, degree: 1 };
        let dropped = self.push(t, Op::Drop { v: *id, level }, Some((at, ty)));
        dropped.map_or(*id, |(id, ..)| id)
    }

    /// Writes the call `op` in template `t`, with arguments at `level`.
    pub fn enter(&mut self, t: usize, op: Op<ValueId>, packed: &Program<Packed>, level: u32) {
        let Op::SumGroups {
            template,
            ref states,
            ref args,
        } = op
        else {
            panic!("{op:?}")
        };
        let stored = |s: &sotto_ir::slot::StateId| self.program.states[s.0 as usize].level;
        let levels: Vec<_> = args
            .iter()
            .map(|_| Some(level))
            .chain(states.iter().map(stored))
            .collect();
        let params = &packed.templates[template].params;
        for (param, level) in params.iter().zip(levels) {
            self.param(template, param, level.unwrap());
        }
        let first = &self.program.templates[template].params[0];
        let (note, ty) = (first.note, first.ty.clone());
        self.push(t, op, Some((note, &ty)));
        self.entered = true;
    }

    /// Ends the loop that runs template `t`: it returns `written`, and `caller`'s value of that name is the sum.
    pub fn leave(&mut self, (caller, name): (usize, ValueId), t: usize, written: Written) {
        let (id, at, ty) = written;
        self.program.templates[t].results = vec![id];
        let nodes = self.program.templates[caller].nodes.iter_mut();
        let mut calls = nodes.filter(|n| matches!(n.op, Op::SumGroups { .. }));
        let call = calls.next_back().unwrap();
        (call.types, call.notes) = (vec![ty.clone()], vec![at]);
        self.values[caller].insert(name, (call.results[0], at, ty));
    }
}
