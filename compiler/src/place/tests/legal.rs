//! The level rules of a leveled program, stated again without looking at the placer.

use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::BootstrapSpec;
use sotto_ir::slot::{At, Leveled, Op, Program, StateId, Template, ValueId, ValueType};
use std::collections::BTreeMap;

/// Every rule broken, in words.
pub fn violations(program: &Program<Leveled>, params: &ParamSet) -> Vec<String> {
    let mut broken = Vec::new();
    let mut last: Option<Vec<At>> = None;
    for step in &program.steps {
        let template = &program.templates[step.template];
        let entry: Vec<At> = template.params.iter().map(|p| p.note).collect();
        let exit = check(program, params, step.template, &mut broken);
        if last.as_ref().is_some_and(|l| *l != entry) {
            broken.push(format!(
                "{}: takes {entry:?}, is given {last:?}",
                template.name
            ));
        }
        if step.count > 1 && entry != exit {
            broken.push(format!(
                "{}: repeats but {entry:?} becomes {exit:?}",
                template.name
            ));
        }
        last = Some(exit);
    }
    broken
}

fn state_level(program: &Program<Leveled>, state: StateId) -> At {
    At {
        level: program.states[state.0 as usize].level.unwrap_or(u32::MAX),
        degree: 1,
    }
}

fn check(
    program: &Program<Leveled>,
    params: &ParamSet,
    index: usize,
    broken: &mut Vec<String>,
) -> Vec<At> {
    let template: &Template<Leveled> = &program.templates[index];
    let mut known: BTreeMap<ValueId, (At, ValueType)> = template
        .params
        .iter()
        .map(|p| (p.value, (p.note, p.ty.clone())))
        .collect();
    let top = params.top_app_level() as u32;
    for node in &template.nodes {
        let operands: Vec<(At, ValueType)> = node
            .op
            .operands()
            .iter()
            .map(|v| known[v].clone())
            .collect();
        let at = operands.first().map_or(
            At {
                level: 0,
                degree: 1,
            },
            |o| o.0,
        );
        let one = at.degree == 1 && operands.iter().all(|o| o.0 == at);
        let down = |levels: u32| At {
            level: at.level.wrapping_sub(levels),
            degree: 1,
        };
        let double = At {
            level: at.level,
            degree: 2,
        };
        let (ok, result) = match &node.op {
            Op::Add { .. } | Op::Sub { .. } => (operands[0].0 == operands[1].0, at),
            Op::Mul { .. } | Op::MulPlain { .. } | Op::MulConst { .. } | Op::Linear { .. } => {
                (one, double)
            }
            Op::Rescale { .. } => (at.degree == 2 && at.level > 0, down(1)),
            Op::Drop { level, .. } => (
                one && *level < at.level,
                At {
                    level: *level,
                    degree: 1,
                },
            ),
            Op::Poly { poly, .. } => {
                let degree = program.polys[poly.0 as usize].degree();
                let depth = (0..).find(|d| (1 << d) > degree).unwrap();
                (one && at.level >= depth, down(depth))
            }
            Op::Bootstrap { kind, .. } => {
                let spec = BootstrapSpec::new(params, kind.slots as usize, kind.complex).unwrap();
                let ty = &operands[0].1;
                let fits = ty.layout.period() <= kind.slots
                    && ty.range <= 1.0
                    && ty.complex <= kind.complex;
                (
                    one && fits && at.level == spec.input_level as u32,
                    At {
                        level: top,
                        degree: 1,
                    },
                )
            }
            Op::Append { state, .. } => (at == state_level(program, *state), at),
            Op::SumGroups {
                template, states, ..
            } => {
                let callee = &program.templates[*template];
                let given = operands
                    .iter()
                    .map(|o| o.0)
                    .chain(states.iter().map(|s| state_level(program, *s)));
                let ok = callee.params.iter().map(|p| p.note).eq(given);
                let results = check(program, params, *template, broken);
                (ok && results == node.notes, at)
            }
            _ => (true, at),
        };
        let stated =
            matches!(node.op, Op::SumGroups { .. } | Op::Append { .. }) || node.notes == [result];
        if !ok || !stated || node.notes.iter().any(|n| n.level > top) {
            broken.push(format!(
                "{}: {:?} on {operands:?} gives {:?}",
                node.site, node.op, node.notes
            ));
        }
        for ((v, note), ty) in node.results.iter().zip(&node.notes).zip(&node.types) {
            known.insert(*v, (*note, ty.clone()));
        }
    }
    template.results.iter().map(|v| known[v].0).collect()
}
