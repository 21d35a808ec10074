//! The plan checker. It works on the plan alone, shares no code with the passes that make plans, and reports every rule that
//! does not hold.
//!
//! - The version is this one; the parameter set is valid, and what the plan says of its security is what the set computes: each
//!   secret within the bound for the modulus its keys live under, or the set is marked insecure.
//! - Buffers: parameters, operands, results and freed buffers hold a value when they are read or freed; a result goes to an empty
//!   buffer; buffers are numbered below the template's count; at the end only the results are left.
//! - The instruction streams, read back as a slot program, are a valid leveled stage: see [`Program::verify`]. So levels and
//!   degrees, bootstrap periods, state levels, group templates and step chaining hold, and what enters a polynomial or a bootstrap is
//!   declared to stay within [-1, 1]. Ranges are what calibration saw, with a margin; they are not derived here.
//! - Bootstraps: the kinds in the key list are those in use and those that have a structure; each structure starts at its number
//!   of StC factors, ends at the top application level, descends one level a factor on levels of the right kind, sums all copies,
//!   computes the transforms and the modular reduction it is named for, and fails with a probability of at most 2^[`MAX_LOG2_FAILURE`].
//! - Keys: every rotation and conjugation of instructions and bootstraps has a key at its level or above, and so have
//!   relinearisations and the ephemeral secret; keys are listed once, in order, on levels that exist, and none is idle.
//! - Arrays: one for each declaration and layer that is read, of the declared shape; none is idle. A plan without weights has none
//!   that is made of them, nor tables for the client.
//! - The client's ends fit the program's: input, outputs, their levels and units, tables and tokens.
//! - The estimate counts the bootstraps that run.

mod client;
mod keys;
mod raise;
#[cfg(test)]
mod tests;

use super::{ArrayEntry, PLAN_VERSION, Plan, Security};
use crate::slot::{BootstrapKind, LevelRules, Op, Program};
use crate::violation::{Report, Violations};
use sotto_params::LevelKind;
use sotto_params::bootstrap::{BootstrapSpec, FactorSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Largest log2 of the probability that one bootstrap fails: a session of a million bootstraps fails with probability 2^-10.
pub const MAX_LOG2_FAILURE: f64 = -30.0;

/// Check a plan; see the module documentation.
pub fn check(plan: &Plan) -> Result<(), Violations> {
    let mut report = Report::default();
    parameters(plan, &mut report);
    if !report.list.is_empty() {
        // Everything else is measured by the parameters.
        return report.finish("the plan");
    }
    if let Some(program) = raise::raise(plan, &mut report) {
        let rules = LevelRules {
            top: plan.params.top_app_level() as u32,
            bootstraps: &plan.bootstraps,
        };
        if let Err(violations) = program.verify(&rules) {
            // Everything else takes the tables' numbers for granted.
            report.list.extend(violations.list);
            return report.finish("the plan");
        }
        bootstraps(plan, &program, &mut report);
        keys::check(plan, &program, &mut report);
        client::check(plan, &program, &mut report);
    }
    if report.list.is_empty() {
        // A program that holds has few layers: the list of its arrays is no longer than the plan deserves.
        arrays(plan, &mut report);
    }
    report.finish("the plan")
}

fn parameters(plan: &Plan, report: &mut Report) {
    report.at("version");
    report.require(plan.version == PLAN_VERSION, || {
        format!("format {}, this program knows {PLAN_VERSION}", plan.version)
    });
    report.at("params");
    if let Err(e) = plan.params.validate() {
        report.require(false, || e.to_string());
        return;
    }
    report.at("security");
    let computed = Security::of(&plan.params);
    report.require(plan.security == computed, || {
        format!(
            "it says {} bits for these secrets: {:?}; the parameters give {} bits: {:?}",
            plan.security.bits, plan.security.secrets, computed.bits, computed.secrets
        )
    });
    report.require(computed.bits >= 128 || plan.params.insecure, || {
        "fewer than 128 bits, and not marked insecure".into()
    });
}

/// Bootstrap kinds of a program, and how often each runs per token outside group templates.
fn kinds(program: &Program<crate::slot::Leveled>) -> BTreeMap<BootstrapKind, u32> {
    let mut kinds = BTreeMap::new();
    for (i, template) in program.templates.iter().enumerate() {
        let steps = program.steps.iter().filter(|s| s.template == i);
        let runs = steps.fold(0u32, |n, s| n.saturating_add(s.count));
        for node in &template.nodes {
            if let Op::Bootstrap { kind, .. } = node.op {
                let count = kinds.entry(kind).or_insert(0u32);
                *count = count.saturating_add(runs);
            }
        }
    }
    kinds
}

fn bootstraps(plan: &Plan, program: &Program<crate::slot::Leveled>, report: &mut Report) {
    let used = kinds(program);
    let kind = |b: &BootstrapSpec| BootstrapKind {
        slots: b.slots as u32,
        complex: b.complex,
    };
    let given: BTreeSet<_> = plan.bootstraps.iter().map(kind).collect();
    let keyed: BTreeSet<_> = plan.keys.bootstraps.iter().copied().collect();
    let in_use: BTreeSet<_> = used.keys().copied().collect();
    report.at("bootstraps");
    report.require(
        given == in_use && plan.bootstraps.len() == given.len(),
        || format!("structures of {given:?} are given, {in_use:?} are used"),
    );
    report.require(
        keyed == in_use && plan.keys.bootstraps.len() == keyed.len(),
        || format!("the key list has {keyed:?}, {in_use:?} are used"),
    );
    for spec in &plan.bootstraps {
        structure(plan, spec, report);
    }
    report.at("estimate");
    // A kind of which some run once per group has no single count.
    let looped = program.templates.iter().enumerate().any(|(i, template)| {
        let bootstrap = |n: &crate::slot::Node<_>| matches!(n.op, Op::Bootstrap { .. });
        !program.steps.iter().any(|s| s.template == i) && template.nodes.iter().any(bootstrap)
    });
    let counts = plan
        .estimate
        .bootstraps
        .iter()
        .map(|c| (c.kind, c.count))
        .collect();
    report.require(looped || used == counts, || {
        format!("it counts bootstraps as {counts:?}; {used:?} run per token")
    });
}

fn structure(plan: &Plan, spec: &BootstrapSpec, report: &mut Report) {
    let params = &plan.params;
    let part = if spec.complex { "complex" } else { "real" };
    report.at(format!("bootstrap of {} {part} slots", spec.slots));
    let kind = |level: usize| params.levels.get(level).map(|l| l.kind);
    let factors = |factors: &[FactorSpec], first: usize, expected: LevelKind| {
        factors.iter().enumerate().all(|(i, f)| {
            f.level + i == first && kind(f.level) == Some(expected) && f.bsgs.slots == spec.slots
        })
    };
    let (stc, cts) = (spec.stc.len(), spec.cts.len());
    report.require(spec.input_level == stc, || {
        format!("{stc} StC factors from level {}", spec.input_level)
    });
    report.require(factors(&spec.stc, stc, LevelKind::App), || {
        "StC factors do not descend on application levels to level 0".into()
    });
    let raised = spec.raised_level;
    report.require(factors(&spec.cts, raised, LevelKind::CtS), || {
        format!("CtS factors do not descend from level {raised} on CtS levels")
    });
    let evalmod = spec.evalmod.level;
    report.require(
        evalmod + cts == raised && kind(evalmod) == Some(LevelKind::EvalMod),
        || format!("EvalMod at level {evalmod} does not follow {cts} CtS factors from {raised}"),
    );
    let top = params.top_app_level();
    report.require(spec.output_level == top, || {
        format!("it ends at level {}, not at {top}", spec.output_level)
    });
    let copies: usize = spec.trace.iter().map(|group| group.len() + 1).product();
    report.require(
        copies.checked_mul(spec.slots) == Some(params.slots()),
        || format!("its trace sums {copies} copies of {} slots", spec.slots),
    );
    if let Err(e) = spec.check(params) {
        report.require(false, || e.to_string());
    }
    let failure = spec.failure_log2_probability(params);
    report.require(failure <= MAX_LOG2_FAILURE, || {
        format!("it fails with probability 2^{failure:.1}, more than 2^{MAX_LOG2_FAILURE}")
    });
}

fn arrays(plan: &Plan, report: &mut Report) {
    let needed = plan.decode.arrays(plan.model.weights);
    let mut found = BTreeSet::new();
    for array in &plan.arrays {
        let ArrayEntry { data, layer, .. } = *array;
        report.at(format!("array of d{}, layer {layer}", data.0));
        report.require(found.insert((data, layer)), || "there are two".into());
        report.require(needed.contains(&(data, layer)), || {
            "nothing reads it".into()
        });
        let decl = plan.decode.data.get(data.0 as usize);
        let entries = decl.map(|d| d.shape.iter().map(|&n| u64::from(n)).product::<u64>());
        let bytes = entries.map(|n| n * array.encoding.bytes());
        report.require(bytes.is_none_or(|b| b == array.file.bytes), || {
            let bytes = bytes.unwrap_or(0);
            format!(
                "its file has {} bytes, its declaration needs {bytes}",
                array.file.bytes
            )
        });
        let numbers = array.scale.is_finite() && array.scale > 0.0 && array.error >= 0.0;
        report.require(numbers, || {
            "its scale or error is no number that makes sense".into()
        });
    }
    report.at("arrays");
    for (data, layer) in needed.difference(&found) {
        let name = plan.decode.data.get(data.0 as usize).map(|d| &d.name[..]);
        report.require(false, || {
            format!(
                "there is none for d{} `{}`, layer {layer}",
                data.0,
                name.unwrap_or("?")
            )
        });
    }
}
