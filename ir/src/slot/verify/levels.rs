//! Level rules of the leveled stage.

use super::LevelRules;
use crate::slot::{At, BootstrapKind, Leveled, Node, Op, Program, Template, ValueId};
use crate::violation::Report;
use sotto_params::poly::depth;
use std::collections::HashMap;

pub(super) fn check(program: &Program<Leveled>, rules: &LevelRules<'_>, report: &mut Report) {
    for (i, template) in program.templates.iter().enumerate() {
        report.at(format!("template t{i}"));
        let mut levels = HashMap::new();
        for param in &template.params {
            report.statement(param);
            exists(param.note, rules, report);
            levels.insert(param.value, param.note);
        }
        for node in &template.nodes {
            report.statement(node);
            let operands = node
                .op
                .operands()
                .into_iter()
                .map(|v| levels.get(v).copied());
            let operands: Option<Vec<At>> = operands.collect();
            if let Some(expected) = operands.and_then(|o| results(program, node, &o, rules, report))
            {
                report.require(node.notes == expected, || {
                    let expected: Vec<_> = expected.iter().map(At::to_string).collect();
                    format!(
                        "the result is at {}, its type says otherwise",
                        expected.join(", ")
                    )
                });
            }
            for (value, at) in node.results.iter().zip(&node.notes) {
                exists(*at, rules, report);
                levels.insert(*value, *at);
            }
        }
    }
    steps(program, report);
}

fn exists(at: At, rules: &LevelRules<'_>, report: &mut Report) {
    let holds = at.level <= rules.top && matches!(at.degree, 1 | 2);
    report.require(holds, || {
        format!(
            "{at} is no application level (0 to {}) with degree 1 or 2",
            rules.top
        )
    });
}

/// Level and degree of what a node computes; None if that cannot be said (and is reported).
fn results(
    program: &Program<Leveled>,
    node: &Node<Leveled>,
    operands: &[At],
    rules: &LevelRules<'_>,
    report: &mut Report,
) -> Option<Vec<At>> {
    let degree = |report: &mut Report, degree: u8| {
        let all = operands.iter().all(|at| at.degree == degree);
        report.require(all, || {
            let found: Vec<_> = operands.iter().map(At::to_string).collect();
            format!(
                "operands at {}: degree {degree} is needed",
                found.join(", ")
            )
        })
    };
    if let Op::SumGroups {
        template, states, ..
    } = &node.op
    {
        let stored = states
            .iter()
            .map(|s| program.states.get(s.0 as usize)?.level);
        let stored = stored.map(|level| {
            Some(At {
                level: level?,
                degree: 1,
            })
        });
        let given = operands.iter().copied().map(Some).chain(stored);
        let template = program.templates.get(*template)?;
        for (param, given) in template.params.iter().zip(given) {
            report.require(given == Some(param.note), || {
                let given = given.map_or("no level".into(), |at| at.to_string());
                format!(
                    "{} of `{}` is at {}, given {given}",
                    param.value, template.name, param.note
                )
            });
        }
        let inner = levels_of(template);
        return template
            .results
            .iter()
            .map(|v| inner.get(v).copied())
            .collect();
    }
    let v = *operands.first()?;
    let same = operands.iter().all(|at| *at == v);
    report.require(same, || {
        let found: Vec<_> = operands.iter().map(At::to_string).collect();
        format!("operands at {} are not equal", found.join(", "))
    });
    let at = match &node.op {
        Op::MulPlain { .. }
        | Op::MulConst { .. }
        | Op::Mul { .. }
        | Op::Linear { .. }
        | Op::Apply { .. } => {
            degree(report, 1);
            At { degree: 2, ..v }
        }
        Op::Rescale { .. } => {
            degree(report, 2);
            let level = v.level.checked_sub(1);
            report.require(level.is_some(), || "there is no level below 0".into());
            At {
                level: level?,
                degree: 1,
            }
        }
        Op::Drop { level, .. } => {
            degree(report, 1);
            report.require(*level <= v.level, || format!("a drop up from {v}"));
            At {
                level: *level,
                degree: 1,
            }
        }
        Op::Poly { poly, .. } => {
            degree(report, 1);
            let poly = program.polys.get(poly.0 as usize)?;
            let depth = depth(poly.degree() as usize) as u32;
            let level = v.level.checked_sub(depth);
            report.require(level.is_some(), || {
                format!("degree {} needs level {depth}", poly.degree())
            });
            At {
                level: level?,
                degree: 1,
            }
        }
        Op::Bootstrap { kind, .. } => return bootstrap(*kind, v, rules, report),
        Op::Append { state, .. } => {
            let expected = program.states.get(state.0 as usize)?.append_at()?;
            report.require(v == expected, || {
                format!("the value is at {v}, the state takes {expected}")
            });
            return Some(vec![]);
        }
        _ => v,
    };
    Some(vec![at])
}

fn bootstrap(
    kind: BootstrapKind,
    v: At,
    rules: &LevelRules<'_>,
    report: &mut Report,
) -> Option<Vec<At>> {
    let same = |b: &&sotto_params::bootstrap::BootstrapSpec| {
        (b.slots, b.complex) == (kind.slots as usize, kind.complex)
    };
    let spec = rules.bootstraps.iter().find(same);
    report.require(spec.is_some(), || "no such bootstrap is given".into());
    let spec = spec?;
    let input = At {
        level: spec.input_level as u32,
        degree: 1,
    };
    report.require(v == input, || {
        format!("the operand is at {v}; {input} is needed")
    });
    Some(vec![At {
        level: spec.output_level as u32,
        degree: 1,
    }])
}

fn levels_of(template: &Template<Leveled>) -> HashMap<ValueId, At> {
    let params = template.params.iter().map(|p| (p.value, p.note));
    let nodes = template.nodes.iter();
    let results = nodes.flat_map(|n| n.results.iter().copied().zip(n.notes.iter().copied()));
    params.chain(results).collect()
}

fn steps(program: &Program<Leveled>, report: &mut Report) {
    let template = |i: usize| program.templates.get(program.steps[i].template);
    for (i, step) in program.steps.iter().enumerate() {
        let Some(from) = template(i) else { continue };
        report.at(format!("step {i}"));
        let levels = levels_of(from);
        let next = (i + 1 < program.steps.len())
            .then(|| template(i + 1))
            .flatten();
        let again = (step.count > 1).then_some(from);
        for to in again.into_iter().chain(next) {
            for (result, param) in from.results.iter().zip(&to.params) {
                let Some(at) = levels.get(result) else {
                    continue;
                };
                report.require(*at == param.note, || {
                    format!(
                        "result {result} is at {at}, `{}` takes {}",
                        to.name, param.note
                    )
                });
            }
        }
        if i + 1 == program.steps.len() {
            let whole = from
                .results
                .iter()
                .all(|v| levels.get(v).is_none_or(|at| at.degree == 1));
            report.require(whole, || "a result of the program is not rescaled".into());
        }
    }
}
