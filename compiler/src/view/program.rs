//! Slot programs of any stage as one type.

use sotto_ir::plan::{Buf, Plan, PlanProgram, PlanTemplate};
use sotto_ir::slot::{
    At, DataDecl, Leveled, Matrix, Op, Packed, Plain, Poly, Program, Stage, StateDecl, Step,
    Template, ValueId, ValueType,
};
use std::collections::HashMap;

/// A packed or leveled program, or one of a plan.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotView {
    /// `packed`, `leveled` or `plan`.
    pub stage: &'static str,
    /// `decode` or `prefill`.
    pub name: String,
    /// Digest of the checkpoint.
    pub checkpoint: String,
    /// Slots of one ciphertext.
    pub slots: u32,
    /// Tokens of one run.
    pub block: u32,
    /// Most tokens of a session.
    pub capacity: u32,
    /// Declared data.
    pub data: Vec<DataDecl>,
    /// Plaintext operands.
    pub plains: Vec<Plain>,
    /// Matrices.
    pub matrices: Vec<Matrix>,
    /// Polynomials.
    pub polys: Vec<Poly>,
    /// KV states.
    pub states: Vec<StateDecl>,
    /// Templates.
    pub templates: Vec<TemplateView>,
    /// Run order.
    pub steps: Vec<Step>,
}

/// A template of a [`SlotView`].
#[derive(Clone, Debug, PartialEq)]
pub struct TemplateView {
    /// Its name.
    pub name: String,
    /// What it receives.
    pub params: Vec<ValueView>,
    /// Its body.
    pub nodes: Vec<NodeView>,
    /// What it returns.
    pub results: Vec<ValueId>,
}

/// A node of a [`SlotView`].
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// What it computes.
    pub op: Op<ValueId>,
    /// What it defines.
    pub results: Vec<ValueView>,
    /// Where it comes from, `{i}` for the layer.
    pub site: String,
}

/// A value of a [`SlotView`].
#[derive(Clone, Debug, PartialEq)]
pub struct ValueView {
    /// Identity in the template.
    pub id: ValueId,
    /// What it holds.
    pub ty: ValueType,
    /// Level and degree, from the leveled stage on.
    pub at: Option<At>,
}

/// Stages whose annotation may be a level.
pub trait Annotated: Stage {
    /// The level in an annotation.
    fn at(note: &Self::Note) -> Option<At>;
}

impl Annotated for Packed {
    fn at(_: &()) -> Option<At> {
        None
    }
}

impl Annotated for Leveled {
    fn at(note: &At) -> Option<At> {
        Some(*note)
    }
}

impl<S: Annotated> From<&Program<S>> for SlotView {
    fn from(program: &Program<S>) -> Self {
        Self {
            stage: S::NAME,
            name: program.name.clone(),
            checkpoint: program.model_digest.clone(),
            slots: program.slots,
            block: program.block,
            capacity: program.capacity,
            data: program.data.clone(),
            plains: program.plains.clone(),
            matrices: program.matrices.clone(),
            polys: program.polys.clone(),
            states: program.states.clone(),
            templates: program.templates.iter().map(of_stage).collect(),
            steps: program.steps.clone(),
        }
    }
}

fn of_stage<S: Annotated>(template: &Template<S>) -> TemplateView {
    let value = |id: ValueId, ty: &ValueType, note: &S::Note| ValueView {
        id,
        ty: ty.clone(),
        at: S::at(note),
    };
    let params = template.params.iter();
    let nodes = template.nodes.iter().map(|node| NodeView {
        op: node.op.clone(),
        results: (node.results.iter().zip(&node.types).zip(&node.notes))
            .map(|((id, ty), note)| value(*id, ty, note))
            .collect(),
        site: node.site.clone(),
    });
    TemplateView {
        name: template.name.clone(),
        params: params.map(|p| value(p.value, &p.ty, &p.note)).collect(),
        nodes: nodes.collect(),
        results: template.results.clone(),
    }
}

impl SlotView {
    /// One of a plan's programs.
    pub fn of_plan(plan: &Plan, program: &PlanProgram) -> Self {
        Self {
            stage: "plan",
            name: program.name.clone(),
            checkpoint: plan.model.digest.clone(),
            slots: plan.slots(),
            block: program.block,
            capacity: plan.capacity,
            data: program.data.clone(),
            plains: program.plains.clone(),
            matrices: program.matrices.clone(),
            polys: program.polys.clone(),
            states: program.states.clone(),
            templates: program.templates.iter().map(of_plan).collect(),
            steps: program.steps.clone(),
        }
    }

    /// The name of the table entry that an operation refers to.
    pub fn entry(&self, op: &Op<ValueId>) -> Option<&str> {
        let name = match op {
            Op::AddPlain { plain, .. } | Op::MulPlain { plain, .. } => {
                &self.plains.get(plain.0 as usize)?.name
            }
            Op::Linear { matrix, .. } => &self.matrices.get(matrix.0 as usize)?.name,
            Op::Poly { poly, .. } => &self.polys.get(poly.0 as usize)?.name,
            Op::Append { state, .. } => &self.states.get(state.0 as usize)?.name,
            Op::SumGroups { template, .. } => &self.templates.get(*template)?.name,
            _ => return None,
        };
        Some(name)
    }

    /// The first and last layer that a template runs for; None for one that only loops over groups run.
    pub fn layers(&self, template: usize) -> Option<(u32, u32)> {
        let steps = || self.steps.iter().filter(|s| s.template == template);
        let first = steps().map(|s| s.first).min()?;
        let last = steps().map(|s| s.first + s.count.saturating_sub(1)).max()?;
        Some((first, last))
    }
}

/// Buffers become values: every time one is written, another.
fn of_plan(template: &PlanTemplate) -> TemplateView {
    let mut held: HashMap<Buf, ValueId> = HashMap::new();
    let mut next = 0;
    let mut define = |held: &mut HashMap<Buf, ValueId>, buf: Buf| {
        let id = ValueId(next);
        next += 1;
        held.insert(buf, id);
        id
    };
    // a buffer that is read before it is written breaks the plan checker's rules; it shows as a value that nothing defines
    let read = |held: &HashMap<Buf, ValueId>, buf: &Buf| {
        held.get(buf).copied().unwrap_or(ValueId(u32::MAX))
    };
    let params = template.params.iter().map(|(buf, at, ty)| ValueView {
        id: define(&mut held, *buf),
        ty: ty.clone(),
        at: Some(*at),
    });
    let params = params.collect();
    let mut nodes = Vec::new();
    for instr in &template.instrs {
        let op = instr.op.map(|buf| read(&held, buf));
        let results = instr.dst.iter().zip(&instr.types).zip(&instr.at);
        let results = results.map(|((buf, ty), at)| ValueView {
            id: define(&mut held, *buf),
            ty: ty.clone(),
            at: Some(*at),
        });
        nodes.push(NodeView {
            op,
            results: results.collect(),
            site: instr.site.clone(),
        });
    }
    TemplateView {
        name: template.name.clone(),
        params,
        nodes,
        results: template.results.iter().map(|b| read(&held, b)).collect(),
    }
}
