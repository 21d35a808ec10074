//! `sottoc ablate`.

use super::{Failure, meter::Meter, print};
use crate::driver::{CompileError, EstimateRequest, Estimated, News, estimate};
use crate::lower::Options;
use crate::search::{Alternative, Guidance};
use serde_json::json;
use sotto_ir::params::ParamSet;
use std::path::PathBuf;

/// Say what each alternative of the search is worth: the plan without it, priced like the plan with all.
#[derive(clap::Args, Debug)]
#[command(after_help = "Exit codes: 0 success, 2 no such preset.

Examples:
  sottoc ablate --preset llama-3-8b --context 512
  sottoc ablate --preset tinyllama-1.1b --json")]
pub struct Args {
    /// A model's shape and assumed ranges: llama-3-8b or tinyllama-1.1b.
    #[arg(long, value_name = "NAME")]
    preset: String,
    /// Most tokens of one conversation.
    #[arg(long, value_name = "N", default_value_t = 512)]
    context: u32,
    /// Prices of a machine, as `sotto bench --cost-table` measures them.
    #[arg(long, value_name = "FILE")]
    cost_table: Option<PathBuf>,
    /// One line of JSON for each row.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut rows = vec![("everything".to_string(), vec![])];
    rows.extend(Alternative::ALL.map(|one| (format!("without {}", one.name()), vec![one])));
    rows.push(("without any of them".into(), Alternative::ALL.to_vec()));
    if !args.json {
        print(format_args!(
            "{:<38} {:>9} {:>6} {:>10} {:>9} {:>10}\n",
            "", "s a token", "ratio", "bootstraps", "keys GiB", "memory GiB"
        ))?;
    }
    let mut meter = Meter::new();
    let mut all = None;
    for (done, (name, without)) in rows.iter().enumerate() {
        meter.hear(News::Doing {
            what: "planning",
            done,
            total: rows.len(),
        });
        let found = without_some(args, without)?;
        let seconds = found.emitted.estimate.seconds;
        let ratio = seconds / *all.get_or_insert(seconds);
        row(args.json, name, &found, ratio)?;
    }
    Ok(())
}

fn without_some(args: &Args, without: &[Alternative]) -> Result<Estimated, CompileError> {
    let params = ParamSet::secure_128();
    let request = EstimateRequest {
        preset: args.preset.clone(),
        options: Options::new(params.slots() as u32, args.context),
        params,
        cost_table: args.cost_table.clone(),
        guidance: Guidance {
            without: without.to_vec(),
            ..Guidance::default()
        },
        memory: None,
    };
    estimate(&request, &mut |_| ())
}

fn row(json: bool, name: &str, found: &Estimated, ratio: f64) -> Result<(), Failure> {
    let e = &found.emitted.estimate;
    let bootstraps: u32 = e.bootstraps.iter().map(|b| b.count).sum();
    if json {
        let line = json!({
            "plan": name,
            "seconds": e.seconds,
            "ratio": ratio,
            "bootstraps": e.bootstraps,
            "key_bytes": e.key_bytes,
            "peak_memory_bytes": e.peak_memory_bytes,
        });
        return print(format_args!("{line}\n"));
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    print(format_args!(
        "{name:<38} {:>9.1} {ratio:>6.2} {bootstraps:>10} {:>9.2} {:>10.2}\n",
        e.seconds,
        gib(e.key_bytes),
        gib(e.peak_memory_bytes)
    ))
}
