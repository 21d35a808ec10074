//! What a plan says of one site.

use super::keys::operand_levels;
use serde::Serialize;
use sotto_ir::plan::{Approximation, Cost, Decision, Plan, SiteRange};
use std::collections::BTreeMap;

/// Everything a plan records about a site.
#[derive(Debug, Serialize)]
pub struct Explained<'a> {
    /// The site, `{i}` for the layer.
    pub site: String,
    /// Predicted cost per token.
    pub cost: Option<&'a Cost>,
    /// Its operations.
    pub operations: Vec<Operations<'a>>,
    /// Decisions of the search that concern it.
    pub decisions: Vec<&'a Decision>,
    /// Its polynomials.
    pub approximations: Vec<&'a Approximation>,
    /// Calibrated ranges that it relies on.
    pub ranges: Vec<&'a SiteRange>,
}

/// Operations of one kind at one level.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Operations<'a> {
    /// The template they are in.
    pub template: &'a str,
    /// The operation's name.
    pub op: &'static str,
    /// Level of the operands.
    pub level: u32,
    /// How many, each time the template runs.
    pub count: u32,
}

/// Looks a site up; `layers.3.x` means `layers.{i}.x` with the ranges of layer 3 only. None if the plan has no such site.
pub fn explain<'a>(plan: &'a Plan, site: &str) -> Option<Explained<'a>> {
    let (site, layer) = rolled(site);
    let here = |(first, count): (u32, u32)| {
        layer.is_none_or(|layer| (first..first + count.max(1)).contains(&layer))
    };
    // parts of a site are named below it: `layers.{i}.attention.exp`
    let below = format!("{site}.");
    let concerns = |name: &str| name == site || name.starts_with(&below);
    let found = Explained {
        cost: plan.estimate.sites.iter().find(|c| c.name == site),
        operations: operations(plan, &site),
        decisions: plan
            .decisions
            .iter()
            .chain(plan.prefill.iter().flat_map(|prefill| &prefill.decisions))
            .filter(|d| d.site.split(" + ").any(concerns))
            .collect(),
        approximations: plan
            .approximations
            .iter()
            .filter(|a| concerns(&a.site))
            .collect(),
        ranges: plan
            .sites
            .iter()
            .filter(|r| concerns(&r.site) && here(r.layers))
            .collect(),
        site,
    };
    let known = found.cost.is_some()
        || !found.decisions.is_empty()
        || !found.approximations.is_empty()
        || !found.ranges.is_empty();
    known.then_some(found)
}

/// A site with its layer's number replaced by `{i}`, and the number.
fn rolled(site: &str) -> (String, Option<u32>) {
    let mut parts: Vec<&str> = site.split('.').collect();
    let mut number = None;
    if let ["layers", layer, ..] = parts.as_mut_slice()
        && let Ok(parsed) = layer.parse()
    {
        (*layer, number) = ("{i}", Some(parsed));
    }
    (parts.join("."), number)
}

fn operations<'a>(plan: &'a Plan, site: &str) -> Vec<Operations<'a>> {
    let mut found = Vec::new();
    let templates = plan.programs().flat_map(|program| &program.templates);
    for template in templates {
        let mut counts: BTreeMap<(u32, &'static str), u32> = BTreeMap::new();
        for (instr, (op, level)) in template.instrs.iter().zip(operand_levels(template)) {
            if instr.site == site {
                *counts.entry((level, op.name())).or_insert(0) += 1;
            }
        }
        // from the top of the chain down, as they run
        found.extend(
            counts
                .into_iter()
                .rev()
                .map(|((level, op), count)| Operations {
                    template: &template.name,
                    op,
                    level,
                    count,
                }),
        );
    }
    found
}
