//! The bootstraps of a program, and the levels its operations run at.

use super::EmitError;
use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::BootstrapSpec;
use sotto_ir::plan::{Buf, PlanProgram, PlanTemplate};
use sotto_ir::slot::{At, BootstrapKind, Op};
use std::collections::{BTreeMap, BTreeSet};

/// The structure of every kind of bootstrap in use, by slots.
pub fn bootstraps<'p>(
    programs: impl IntoIterator<Item = &'p PlanProgram>,
    params: &ParamSet,
) -> Result<Vec<BootstrapSpec>, EmitError> {
    let templates = programs.into_iter().flat_map(|p| &p.templates);
    let ops = templates.flat_map(|t| &t.instrs).map(|i| &i.op);
    let kinds: BTreeSet<BootstrapKind> = ops
        .filter_map(|op| match op {
            Op::Bootstrap { kind, .. } => Some(*kind),
            _ => None,
        })
        .collect();
    let spec = |kind: BootstrapKind| {
        Ok(BootstrapSpec::new(
            params,
            kind.slots as usize,
            kind.complex,
        )?)
    };
    kinds.into_iter().map(spec).collect()
}

/// Every operation with the level of its operands.
pub fn operand_levels(template: &PlanTemplate) -> Vec<(&Op<Buf>, u32)> {
    let mut at: BTreeMap<Buf, At> = template.params.iter().map(|(b, at, _)| (*b, *at)).collect();
    let mut found = Vec::new();
    for instr in &template.instrs {
        let level = instr
            .op
            .operands()
            .first()
            .and_then(|b| at.get(b))
            .map_or(0, |a| a.level);
        found.push((&instr.op, level));
        at.extend(instr.dst.iter().copied().zip(instr.at.iter().copied()));
    }
    found
}
