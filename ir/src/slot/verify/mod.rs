//! What holds of a slot program. `verify` reports every rule that does not hold, each with the printed statement.
//!
//! Program:
//! - `slots` is a power of two, `block` one of at most `slots`, `capacity` positive, the checkpoint's digest not empty.
//!
//! Tables:
//! - data: names are unique and not empty, extents positive; tensor names contain `{i}` exactly when the data is per layer;
//! - plaintexts: every factor repeats with a power of two of at most `slots`; constants are finite; vectors have the shape
//!   `[width]`, position rows `[≥ capacity, width]`; what depends on a block's tokens has the program's `block`, or 1;
//! - matrices: widths and strides are powers of two, at most `slots`; the strided side fits `slots` (a gathering one is no shorter than
//!   its output), in the slots that a token of its `block` has, which is the program's or 1; a mixing one is block × block; `baby` is in `1 ..=` its diagonals; halves of diagonals are paired only where there are two; the data has in·out entries,
//!   twice that for two outputs;
//! - polynomials: coefficients are finite, the degree is in `1 ..= MAX_DEGREE`, the error is not negative;
//! - states: names are unique, the layout is `tokens` (of a block or not) and repeats with at most `slots`; a level (in the leveled stage only) is an
//!   application level.
//!
//! Types: periods are powers of two of at most `slots`; `count` ≤ `width`; ranges are finite and not negative, units finite and
//! positive.
//!
//! Templates:
//! - names are unique; every value is defined once and before it is read; sites are not empty and contain no blank;
//! - `append` has no result, `sum_groups` those of its group template, every other operation one;
//! - table numbers exist; a `fold`'s count is a power of two and its copies fit `slots`, and so is a `fold_current`'s;
//! - a result's period is no smaller than what its operation gives: the longest among operands and plaintext; for `linear`, and
//!   its diagonals' period; for a `fold` over a whole orbit, its step;
//! - real results come from real operands, except that `add`, `sub`, `mul` and `mul_i` may cancel imaginary parts; a real
//!   value times i, and a complex matrix's product, are complex;
//! - `poly` reads a real value of range ≤ 1;
//! - `append` adds a value of the state's unit and period, at most once per state and layer, before any loop over that state;
//! - `sum_groups` runs a group template: not in `steps`, without `append` and `sum_groups` of its own, whose parameters are the
//!   arguments followed by the states (equal in unit, period no smaller), and whose states have equal `tokens`;
//! - `cached_tokens` masks occur in group templates only; every template is used.
//!
//! Steps: there is one at least, layers are fewer than 2^16, and every result has its parameter in the next run: as many, equal
//! in unit, period no smaller. The results of the last step are not degree 2.
//!
//! Levels, in the leveled stage only (the packed stage has no `rescale`, `drop`, `bootstrap`): as [`Op`] documents, on
//! application levels; `bootstrap` reads a value whose period divides its slots, of range ≤ 1, real if the kind is; parameters,
//! arguments, states and results agree in level and degree wherever values are handed over.

mod body;
mod levels;
mod tables;
#[cfg(test)]
mod tests;

use super::{Layout, Leveled, Op, Packed, Program, Stage, Template, ValueType};
use crate::violation::{Report, Violations};
use sotto_params::bootstrap::BootstrapSpec;
use std::collections::{BTreeMap, BTreeSet};

/// More layers than any decoder has; a count beyond it is a mistake.
const MAX_LAYERS: u32 = 1 << 16;

/// What the level rules depend on.
#[derive(Clone, Copy, Debug)]
pub struct LevelRules<'a> {
    /// Top application level.
    pub top: u32,
    /// Structure of every bootstrap kind that may be used.
    pub bootstraps: &'a [BootstrapSpec],
}

impl Program<Packed> {
    /// Checks everything the module documentation lists.
    pub fn verify(&self) -> Result<(), Violations> {
        let mut report = verify(self, None);
        for (i, template) in self.templates.iter().enumerate() {
            report.at(format!("template t{i}"));
            for node in &template.nodes {
                let leveled = matches!(
                    node.op,
                    Op::Rescale { .. } | Op::Drop { .. } | Op::Bootstrap { .. }
                );
                report.statement(node);
                report.require(!leveled, || {
                    format!("`{}` belongs to the leveled stage", node.op.name())
                });
            }
        }
        report.finish("the packed stage")
    }
}

impl Program<Leveled> {
    /// Checks everything the module documentation lists.
    pub fn verify(&self, rules: &LevelRules<'_>) -> Result<(), Violations> {
        let mut report = verify(self, Some(rules));
        levels::check(self, rules, &mut report);
        report.finish("the leveled stage")
    }
}

fn verify<S: Stage>(program: &Program<S>, rules: Option<&LevelRules<'_>>) -> Report {
    let mut report = Report::default();
    tables::check(program, rules, &mut report);
    let groups = group_templates(program);
    let mut names = BTreeSet::new();
    for (i, template) in program.templates.iter().enumerate() {
        report.at(format!("template t{i}"));
        report.require(names.insert(&template.name), || {
            format!("the name `{}` is taken", template.name)
        });
        body::check(program, i, groups.contains(&i), &mut report);
    }
    uses(program, &groups, &mut report);
    steps(program, &groups, &mut report);
    report
}

/// Templates that a loop over groups runs.
fn group_templates<S: Stage>(program: &Program<S>) -> BTreeSet<usize> {
    let nodes = program.templates.iter().flat_map(|t| &t.nodes);
    let group = |op: &Op<_>| match op {
        Op::SumGroups { template, .. } => Some(*template),
        _ => None,
    };
    nodes.filter_map(|node| group(&node.op)).collect()
}

fn uses<S: Stage>(program: &Program<S>, groups: &BTreeSet<usize>, report: &mut Report) {
    let in_steps: BTreeSet<usize> = program.steps.iter().map(|s| s.template).collect();
    for (i, template) in program.templates.iter().enumerate() {
        report.at(format!("template t{i}"));
        let used = in_steps.contains(&i) || groups.contains(&i);
        report.require(used, || format!("`{}` is never run", template.name));
        let both = in_steps.contains(&i) && groups.contains(&i);
        report.require(!both, || "a group template is run as a step".into());
    }
}

fn steps<S: Stage>(program: &Program<S>, groups: &BTreeSet<usize>, report: &mut Report) {
    report.at("steps");
    report.require(!program.steps.is_empty(), || "there are none".into());
    let mut appended: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    let mut last: Option<&Template<S>> = None;
    for (i, step) in program.steps.iter().enumerate() {
        report.at(format!("step {i}"));
        let Some(template) = program.templates.get(step.template) else {
            report.require(false, || format!("there is no template t{}", step.template));
            continue;
        };
        report.require(step.count > 0, || "it runs no layer".into());
        let end = step.first.checked_add(step.count);
        if !report.require(end.is_some_and(|end| end <= MAX_LAYERS), || {
            format!("layers beyond {MAX_LAYERS}")
        }) {
            continue;
        }
        if let Some(last) = last {
            handed(last, template, report);
        }
        if step.count > 1 {
            handed(template, template, report);
        }
        last = Some(template);
        if groups.contains(&step.template) {
            continue;
        }
        for state in appends(template) {
            for layer in step.first..step.first + step.count {
                let other = appended.insert((state, layer), i);
                report.require(other.is_none(), || {
                    format!("state s{state} of layer {layer} is appended to twice")
                });
            }
        }
    }
}

fn appends<S: Stage>(template: &Template<S>) -> BTreeSet<u32> {
    let state = |op: &Op<_>| match op {
        Op::Append { state, .. } => Some(state.0),
        _ => None,
    };
    template.nodes.iter().filter_map(|n| state(&n.op)).collect()
}

/// The results of one run become the parameters of the next.
fn handed<S: Stage>(from: &Template<S>, to: &Template<S>, report: &mut Report) {
    let types = body::types_of(from);
    let (results, params) = (from.results.len(), to.params.len());
    report.require(results == params, || {
        format!(
            "`{}` has {results} results, `{}` takes {params} parameters",
            from.name, to.name
        )
    });
    for (result, param) in from.results.iter().zip(&to.params) {
        if let Some(ty) = types.get(result) {
            let what = format!("result {result} of `{}`", from.name);
            fits(
                &what,
                ty,
                &param.ty,
                &format!("{} of `{}`", param.value, to.name),
                report,
            );
        }
    }
}

/// Whether a value may stand where another type is declared.
fn fits(what: &str, from: &ValueType, to: &ValueType, place: &str, report: &mut Report) {
    let (period, declared) = (from.layout.period(), to.layout.period());
    report.require(period <= declared, || {
        format!("{what} repeats after {period} slots, {place} after {declared}")
    });
    let [given, wanted] = [from, to].map(|ty| match ty.layout {
        Layout::Matrix(matrix) => Some(matrix),
        _ => None,
    });
    report.require(given == wanted, || {
        format!(
            "{what} lies as `{}`, {place} as `{}`",
            from.layout, to.layout
        )
    });
    let equal = (from.unit - to.unit).abs() <= 1e-9 * to.unit.abs();
    report.require(equal, || {
        format!("{what} has unit {:?}, {place} {:?}", from.unit, to.unit)
    });
    report.require(to.complex || !from.complex, || {
        format!("{what} is complex, {place} real")
    });
}
