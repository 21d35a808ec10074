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
//! - The client's ends fit the programs': inputs, outputs, their levels and units, tables and tokens.
//! - A prefill program begins with the data and states of the decode program, appends in the same layers, and takes blocks that groups
//!   hold whole.
//! - The estimate counts the bootstraps that run, and prices every instruction or none.

mod client;
mod keys;
mod raise;
#[cfg(test)]
mod tests;

use super::{ArrayEntry, Estimate, PLAN_VERSION, Plan, PlanProgram, Security};
use crate::slot::{BootstrapKind, LevelRules, Leveled, Op, Program};
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
    if let Some(programs) = programs(plan, &mut report) {
        bootstraps(plan, &programs, &mut report);
        keys::check(plan, &programs, &mut report);
        client::check(plan, &programs, &mut report);
        shared(plan, &mut report);
    }
    if report.list.is_empty() {
        // A program that holds has few layers: the list of its arrays is no longer than the plan deserves.
        arrays(plan, &mut report);
    }
    report.finish("the plan")
}

/// The plan's programs as slot programs that hold; None where one does not, which is reported.
fn programs(plan: &Plan, report: &mut Report) -> Option<Vec<Program<Leveled>>> {
    let rules = LevelRules {
        top: plan.params.top_app_level() as u32,
        bootstraps: &plan.bootstraps,
    };
    let mut programs = Vec::new();
    for program in plan.programs() {
        let program = raise::raise(plan, program, report)?;
        if let Err(violations) = program.verify(&rules) {
            // Everything else takes the tables' numbers for granted.
            report.list.extend(violations.list);
            return None;
        }
        programs.push(program);
    }
    Some(programs)
}

/// Both programs read the same arrays and keep the same cache.
fn shared(plan: &Plan, report: &mut Report) {
    report.at("decode");
    let block = plan.decode.block;
    report.require(block == 1, || format!("it takes {block} tokens, not one"));
    let Some(prefill) = &plan.prefill else {
        return;
    };
    report.at("prefill");
    let (decode, prefill) = (&plan.decode, &prefill.program);
    report.require(prefill.block > 1, || {
        "it takes one token, as decode does".into()
    });
    report.require(prefill.data.starts_with(&decode.data), || {
        "its data declarations do not begin with decode's".into()
    });
    report.require(prefill.states.starts_with(&decode.states), || {
        "its KV states do not begin with decode's".into()
    });
    let layers = |program: &PlanProgram| program.layers();
    report.require(layers(decode) == layers(prefill), || {
        "it appends to the states of other layers than decode".into()
    });
    // blocks begin at multiples of their length, and no group ends within one
    for state in &prefill.states {
        let tokens = state.ty.layout.tokens().unwrap_or(1);
        report.require(tokens.is_multiple_of(prefill.block), || {
            let (name, block) = (&state.name, prefill.block);
            format!("groups of {tokens} tokens of `{name}` hold no whole blocks of {block}")
        });
    }
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
fn kinds(program: &Program<Leveled>) -> BTreeMap<BootstrapKind, u32> {
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

fn bootstraps(plan: &Plan, programs: &[Program<Leveled>], report: &mut Report) {
    let kind = |b: &BootstrapSpec| BootstrapKind {
        slots: b.slots as u32,
        complex: b.complex,
    };
    let given: BTreeSet<_> = plan.bootstraps.iter().map(kind).collect();
    let keyed: BTreeSet<_> = plan.keys.bootstraps.iter().copied().collect();
    let in_use: BTreeSet<_> = programs.iter().flat_map(|p| kinds(p).into_keys()).collect();
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
    let prefill = plan.prefill.iter().map(|prefill| &prefill.estimate);
    let estimates = std::iter::once(&plan.estimate).chain(prefill);
    for (program, estimate) in programs.iter().zip(estimates) {
        report.at(format!("estimate of {}", program.name));
        counted(program, estimate, report);
    }
}

/// The estimate counts the bootstraps that run, and prices every instruction or none.
fn counted(program: &Program<Leveled>, estimate: &Estimate, report: &mut Report) {
    let used = kinds(program);
    // A kind of which some run once per group has no single count.
    let looped = program.templates.iter().enumerate().any(|(i, template)| {
        let bootstrap = |n: &crate::slot::Node<_>| matches!(n.op, Op::Bootstrap { .. });
        !program.steps.iter().any(|s| s.template == i) && template.nodes.iter().any(bootstrap)
    });
    let counts = estimate.bootstraps.iter().map(|c| (c.kind, c.count));
    let counts = counts.collect();
    report.require(looped || used == counts, || {
        format!("it counts bootstraps as {counts:?}; {used:?} run per token")
    });
    let priced = |(t, prices): (&crate::slot::Template<Leveled>, &super::Prices)| {
        let sound = prices.seconds.iter().all(|s| s.is_finite() && *s >= 0.0);
        let count = t.nodes.len();
        sound && prices.seconds.len() == count && prices.key_switches.len() == count
    };
    let prices = &estimate.prices;
    let each =
        prices.len() == program.templates.len() && program.templates.iter().zip(prices).all(priced);
    report.require(prices.is_empty() || each, || {
        "its prices are not one for each instruction, or no numbers from 0 up".into()
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
    let arrays = |program: &PlanProgram| program.arrays(plan.model.weights);
    let needed: BTreeSet<_> = plan.programs().flat_map(arrays).collect();
    let mut found = BTreeSet::new();
    for array in &plan.arrays {
        let ArrayEntry { data, layer, .. } = *array;
        report.at(format!("array of d{}, layer {layer}", data.0));
        report.require(found.insert((data, layer)), || "there are two".into());
        report.require(needed.contains(&(data, layer)), || {
            "nothing reads it".into()
        });
        let decl = plan.widest().data.get(data.0 as usize);
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
        let name = plan.widest().data.get(data.0 as usize).map(|d| &d.name[..]);
        report.require(false, || {
            format!(
                "there is none for d{} `{}`, layer {layer}",
                data.0,
                name.unwrap_or("?")
            )
        });
    }
}
