//! `sottoc verify`.

use super::{Failure, print};
use crate::emit::{Counts, summary};
use serde_json::json;
use sotto_ir::plan::{FileEntry, Plan, PlanError, check};
use sotto_ir::{Digest, Violations};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Check a plan independently of the compiler: levels, scales, keys, buffers, ranges, security, and every file's digest.
///
/// The runtime makes the same check before it runs a plan.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 the plan is sound, 1 it breaks a rule, 2 it cannot be read.

Example:
  sottoc verify tiny.plan"
)]
pub struct Args {
    /// The plan directory.
    plan: PathBuf,
    /// Check one side only, where the other side's files are not at hand.
    #[arg(long, value_enum)]
    side: Option<Side>,
    /// Print the plan's figures when it is sound.
    #[arg(long)]
    summary: bool,
    /// End with one line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Whose files to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    Client,
    Server,
}

/// What a plan that can be read came to.
struct Verdict {
    plan: Arc<Plan>,
    digest: Digest,
    files: usize,
    violations: Option<Violations>,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let verdict = look(args);
    let told = match args.json {
        true => print(format_args!("{}\n", json_line(args, &verdict))),
        false => Ok(()),
    };
    let Verdict {
        plan,
        files,
        violations,
        ..
    } = verdict?;
    if let Some(violations) = violations {
        return Err(Failure::Check(Box::new(violations)));
    }
    told?;
    if !args.json {
        let path = args.plan.display();
        print(format_args!(
            "{path}: sound, {files} files with their digests\n"
        ))?;
        if args.summary {
            print(format_args!("{}", summary(&plan)))?;
        }
    }
    Ok(())
}

/// Reads all there is to check, and checks it.
fn look(args: &Args) -> Result<Verdict, PlanError> {
    let (plan, digest) = Plan::open(&args.plan)?;
    let plan = Arc::new(plan);
    Ok(Verdict {
        files: check_files(args, &plan)?,
        violations: check(&plan).err(),
        digest,
        plan,
    })
}

/// The line of `--json`. A damaged plan has no figures, and says why.
fn json_line(args: &Args, verdict: &Result<Verdict, PlanError>) -> serde_json::Value {
    let Verdict {
        plan,
        digest,
        files,
        violations,
    } = match verdict {
        Ok(verdict) => verdict,
        Err(error) => {
            return json!({"plan": args.plan, "sound": false, "error": error.to_string()});
        }
    };
    let list = violations.iter().flat_map(|v| &v.list);
    json!({
        "plan": args.plan,
        "digest": digest.to_string(),
        "sound": violations.is_none(),
        "violations": list.map(|v| v.to_string()).collect::<Vec<_>>(),
        "files": files,
        "parameters": plan.params.name,
        "security_bits": plan.params.security().bits,
        "keys": plan.keys.galois.len(),
        "operations_per_token": Counts::of_token(&plan.decode, plan.capacity).ok(),
        "bootstraps_per_token": plan.estimate.bootstraps.iter().map(|b| b.count).sum::<u32>(),
        "predicted_seconds_per_token": plan.estimate.seconds,
        "peak_memory_bytes": plan.estimate.peak_memory_bytes,
    })
}

/// Reads every file of the sides asked for; returns how many.
fn check_files(args: &Args, plan: &Arc<Plan>) -> Result<usize, PlanError> {
    let mut count = 0;
    if args.side != Some(Side::Client) {
        plan.check_arrays(&args.plan)?;
        count += plan.arrays.len();
    }
    if args.side != Some(Side::Server) {
        for file in client_files(plan) {
            check_file(file, &args.plan)?;
            count += 1;
        }
    }
    Ok(count)
}

fn check_file(file: &FileEntry, dir: &Path) -> Result<(), PlanError> {
    file.read(dir).map(|_| ())
}

fn client_files(plan: &Plan) -> impl Iterator<Item = &FileEntry> {
    let client = &plan.client;
    [
        &client.tokenizer,
        &client.embedding_table,
        &client.position_table,
        &client.head_table,
    ]
    .into_iter()
    .flatten()
}
