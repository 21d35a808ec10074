//! What a plan says of one site.

use super::keys::operand_levels;
use serde::Serialize;
use sotto_ir::plan::{Approximation, Cost, Decision, Plan, PlanProgram, SiteRange};
use std::collections::BTreeMap;

/// Everything a plan records about a site.
#[derive(Debug, Serialize)]
pub struct Explained<'a> {
    /// The site, `{i}` for the layer.
    pub site: String,
    /// What each program does there, decode first; a program that does nothing there is left out.
    pub programs: Vec<InProgram<'a>>,
    /// Its polynomials.
    pub approximations: Vec<&'a Approximation>,
    /// Calibrated ranges that it relies on.
    pub ranges: Vec<&'a SiteRange>,
}

/// What one program does at a site.
#[derive(Debug, Serialize)]
pub struct InProgram<'a> {
    /// Name of the program.
    pub program: &'a str,
    /// Tokens that one run takes.
    pub block: u32,
    /// Predicted cost of one run, all layers together.
    pub cost: Option<&'a Cost>,
    /// Its operations.
    pub operations: Vec<Operations<'a>>,
    /// Decisions of the search that concern it.
    pub decisions: Vec<&'a Decision>,
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
    let found = Explained {
        programs: in_programs(plan, &site),
        approximations: plan
            .approximations
            .iter()
            .filter(|a| concerns(&site, &a.site))
            .collect(),
        ranges: plan
            .sites
            .iter()
            .filter(|r| concerns(&site, &r.site) && here(r.layers))
            .collect(),
        site,
    };
    let known =
        !found.programs.is_empty() || !found.approximations.is_empty() || !found.ranges.is_empty();
    known.then_some(found)
}

/// Whether what is known by `name` concerns a site: parts of a site are named below it, as `layers.{i}.attention.exp`.
fn concerns(site: &str, name: &str) -> bool {
    let below = name.strip_prefix(site);
    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn in_programs<'a>(plan: &'a Plan, site: &str) -> Vec<InProgram<'a>> {
    let decode = (&plan.decode, &plan.estimate, &plan.decisions);
    let prefill = plan.prefill.as_ref();
    let prefill = prefill.map(|p| (&p.program, &p.estimate, &p.decisions));
    let told = std::iter::once(decode).chain(prefill);
    told.map(|(program, estimate, decisions)| InProgram {
        program: &program.name,
        block: program.block,
        cost: estimate.sites.iter().find(|cost| cost.name == site),
        operations: operations(program, site),
        decisions: decisions
            .iter()
            .filter(|d| d.site.split(" + ").any(|name| concerns(site, name)))
            .collect(),
    })
    .filter(|found| found.cost.is_some() || !found.decisions.is_empty())
    .collect()
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

fn operations<'a>(program: &'a PlanProgram, site: &str) -> Vec<Operations<'a>> {
    let mut found = Vec::new();
    for template in &program.templates {
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
