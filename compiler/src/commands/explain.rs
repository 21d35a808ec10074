//! `sottoc explain`.

use super::{Failure, json, print};
use crate::emit::explain::{Explained, InProgram, explain};
use miette::Diagnostic;
use sotto_ir::plan::{Cost, Decision, Plan, SiteRange};
use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

/// Say of a site what was chosen, what was turned down and by how much, what it costs, and which ranges it relies on.
///
/// Without a site, list the sites with their predicted time.
#[derive(clap::Args, Debug)]
#[command(after_help = "Exit codes: 0 success, 2 no such plan or site.

Examples:
  sottoc explain tiny.plan
  sottoc explain tiny.plan layers.1.mlp.up_proj
  sottoc explain tiny.plan layers.{i}.attention --json")]
pub struct Args {
    /// The plan directory.
    plan: PathBuf,
    /// A site, with a layer's number or `{i}` for all of them.
    site: Option<String>,
    /// Print one line of JSON instead.
    #[arg(long)]
    json: bool,
}

/// A site that the plan does not have.
#[derive(Debug, Error, Diagnostic)]
#[error("the plan has no site `{site}`; its sites: {}", sites.join(", "))]
#[diagnostic(code(explain::no_site))]
struct NoSite {
    site: String,
    sites: Vec<String>,
}

/// A layer that the model does not have.
#[derive(Debug, Error, Diagnostic)]
#[error("`{site}`: the plan's model has {layers} layers, layers.0 to layers.{}; `layers.{{i}}` means all of them", layers.saturating_sub(1))]
#[diagnostic(code(explain::no_layer))]
struct NoLayer {
    site: String,
    layers: u32,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (plan, _) = Plan::open(&args.plan)?;
    let Some(site) = &args.site else {
        return list(&plan, args.json);
    };
    check_layer(site, plan.model.layers)?;
    let Some(found) = explain(&plan, site) else {
        let sites = plan.estimate.sites.iter().map(|cost| cost.name.clone());
        return Err(NoSite {
            site: site.clone(),
            sites: sites.collect(),
        }
        .into());
    };
    if args.json {
        return print(format_args!("{}\n", json(&found)?));
    }
    print(format_args!("{}", Page(&found)))
}

/// Refuses a site in a layer that is not there; its ranges would be silently none.
fn check_layer(site: &str, layers: u32) -> Result<(), NoLayer> {
    let mut parts = site.split('.');
    let number = match (parts.next(), parts.next()) {
        (Some("layers"), Some(number)) => number.parse::<u64>().ok(),
        _ => None,
    };
    if number.is_none_or(|number| number < u64::from(layers)) {
        return Ok(());
    }
    Err(NoLayer {
        site: site.into(),
        layers,
    })
}

fn list(plan: &Plan, json: bool) -> Result<(), Failure> {
    let sites = &plan.estimate.sites;
    let prefill = plan.prefill.as_ref().map(|p| &p.estimate.sites);
    if json {
        let listed = serde_json::json!({ "sites": sites, "prefill": prefill });
        return print(format_args!("{listed}\n"));
    }
    table(&run_of(&plan.decode.name, 1), sites)?;
    let Some(prefill) = &plan.prefill else {
        return Ok(());
    };
    let run = run_of(&prefill.program.name, prefill.program.block);
    table(&run, &prefill.estimate.sites)
}

fn table(title: &str, sites: &[Cost]) -> Result<(), Failure> {
    print(format_args!(
        "{title}\n{:>10} {:>10}  site\n",
        "seconds", "operations"
    ))?;
    sites.iter().try_for_each(|cost| {
        let (seconds, count, name) = (cost.seconds, cost.count, &cost.name);
        print(format_args!("{seconds:>10.3} {count:>10}  {name}\n"))
    })
}

/// A program and what one run of it takes.
fn run_of(program: &str, block: u32) -> String {
    match block {
        0 | 1 => format!("{program}, a token"),
        block => format!("{program}, a block of {block} tokens"),
    }
}

/// What is known of a site, for people.
struct Page<'a>(&'a Explained<'a>);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(found) = self;
        writeln!(f, "{}", found.site)?;
        for program in &found.programs {
            write_program(f, program, in_layers(&found.site))?;
        }
        if !(found.approximations.is_empty() && found.ranges.is_empty()) {
            writeln!(f, "values")?;
        }
        for a in &found.approximations {
            writeln!(
                f,
                "  approximates {} on {:.4} to {:.4} by degree {}, within {:.1e} ({})",
                a.function, a.interval.0, a.interval.1, a.degree, a.error, a.site
            )?;
        }
        found
            .ranges
            .iter()
            .try_for_each(|range| write_range(f, range))
    }
}

fn write_program(f: &mut fmt::Formatter<'_>, found: &InProgram<'_>, layered: bool) -> fmt::Result {
    writeln!(f, "{}", run_of(found.program, found.block))?;
    if let Some(cost) = found.cost {
        let all = if layered { ", all layers together" } else { "" };
        writeln!(
            f,
            "  costs        {:.3} s in {} operations{all}",
            cost.seconds, cost.count
        )?;
    }
    for work in &found.operations {
        writeln!(
            f,
            "  runs         {} {} at level {} in `{}`",
            work.count, work.op, work.level, work.template
        )?;
    }
    found
        .decisions
        .iter()
        .try_for_each(|decision| write_decision(f, decision))
}

fn write_decision(f: &mut fmt::Formatter<'_>, decision: &Decision) -> fmt::Result {
    let each = if in_layers(&decision.site) {
        " a layer"
    } else {
        ""
    };
    writeln!(f, "  chosen       {}: {}", decision.site, decision.chosen)?;
    for other in &decision.rejected {
        let extra = other.extra_nanos as f64 / 1e6;
        writeln!(
            f,
            "  rejected     {} ({extra:.1} ms{each} more)",
            other.what
        )?;
    }
    Ok(())
}

fn write_range(f: &mut fmt::Formatter<'_>, range: &SiteRange) -> fmt::Result {
    let (first, last) = (range.layers.0, range.layers.0 + range.layers.1.max(1) - 1);
    let layers = match in_layers(&range.site) {
        false => String::new(),
        true if first == last => format!(" (layer {first})"),
        true => format!(" (layers {first} to {last})"),
    };
    writeln!(
        f,
        "  relies on    {} within {:.4} to {:.4}, seen {:.4} to {:.4}{layers}",
        range.site, range.bound.0, range.bound.1, range.seen.0, range.seen.1
    )
}

/// Whether a site stands for one in every layer.
fn in_layers(site: &str) -> bool {
    site.contains("{i}")
}
