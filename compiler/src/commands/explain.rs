//! `sottoc explain`.

use super::Failure;
use crate::emit::explain::{Explained, explain};
use sotto_ir::plan::Plan;
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
#[derive(Debug, Error)]
#[error("the plan has no site `{site}`; its sites: {}", sites.join(", "))]
struct NoSite {
    site: String,
    sites: Vec<String>,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (plan, _) = Plan::open(&args.plan)?;
    let Some(site) = &args.site else {
        list(&plan, args.json);
        return Ok(());
    };
    let Some(found) = explain(&plan, site) else {
        let sites = plan.estimate.sites.iter().map(|cost| cost.name.clone());
        return Err(NoSite {
            site: site.clone(),
            sites: sites.collect(),
        }
        .into());
    };
    if args.json {
        println!("{}", serde_json::to_string(&found)?);
    } else {
        print(&found);
    }
    Ok(())
}

fn list(plan: &Plan, json: bool) {
    if json {
        println!("{}", serde_json::json!({ "sites": plan.estimate.sites }));
        return;
    }
    println!("{:>10} {:>10}  site", "s a token", "operations");
    for cost in &plan.estimate.sites {
        println!("{:>10.3} {:>10}  {}", cost.seconds, cost.count, cost.name);
    }
}

fn print(found: &Explained<'_>) {
    println!("{}", found.site);
    if let Some(cost) = found.cost {
        println!(
            "  costs        {:.3} s a token in {} operations, all layers together",
            cost.seconds, cost.count
        );
    }
    for work in &found.operations {
        println!(
            "  runs         {} {} at level {} in `{}`",
            work.count, work.op, work.level, work.template
        );
    }
    for decision in &found.decisions {
        println!("  chosen       {}: {}", decision.site, decision.chosen);
        for other in &decision.rejected {
            let extra = other.extra_nanos as f64 / 1e6;
            println!("  rejected     {} ({extra:.1} ms a layer more)", other.what);
        }
    }
    for a in &found.approximations {
        println!(
            "  approximates {} on {:.4} to {:.4} by degree {}, within {:.1e} ({})",
            a.function, a.interval.0, a.interval.1, a.degree, a.error, a.site
        );
    }
    for range in &found.ranges {
        let (first, count) = range.layers;
        println!(
            "  relies on    {} within {:.4} to {:.4}, seen {:.4} to {:.4} (layers {first} to {})",
            range.site,
            range.bound.0,
            range.bound.1,
            range.seen.0,
            range.seen.1,
            first + count.max(1) - 1
        );
    }
}
