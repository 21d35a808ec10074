//! `sottoc report`.

use super::{Failure, say_replacing, unserializable};
use crate::report::{Report, html};
use sotto_ir::plan::{Plan, check};
use sotto_ir::trace::{measured, read};
use sotto_ir::write_whole;
use std::path::PathBuf;
use std::sync::Arc;

/// Write a page for a browser about a plan: levels, time, ranges, keys, memory, and what was chosen over what.
///
/// One file that needs no network. With a trace that `sotto serve --trace` or `sotto check --trace` wrote, it shows measured times
/// beside the predicted ones.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 success, 2 no such plan or trace, or the page cannot be written.

Examples:
  sottoc report tiny.plan -o report.html
  sottoc report tiny.plan --trace trace.json -o report.html"
)]
pub struct Args {
    /// The plan directory.
    plan: PathBuf,
    /// The page to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// A trace of this plan.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (plan, digest) = Plan::open(&args.plan)?;
    check(&plan)?;
    let times = match &args.trace {
        Some(path) => Some(measured(&read(path)?, &plan, &digest.to_string())?),
        None => None,
    };
    let plan = Arc::new(plan);
    let page = html(&Report::of(&plan, digest, times.as_ref())).map_err(unserializable)?;
    say_replacing(&args.output);
    write_whole(&args.output, page.as_bytes()).map_err(|cause| {
        let path = args.output.display();
        Failure::Input(format!("writing {path}: {cause}; choose another place with -o").into())
    })?;
    eprintln!("{}: {} KiB", args.output.display(), page.len() >> 10);
    Ok(())
}
