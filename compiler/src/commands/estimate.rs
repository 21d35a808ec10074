//! `sottoc estimate`.

use super::{Failure, figures::Report, meter::Meter, print};
use crate::driver::{EstimateRequest, estimate};
use crate::emit::Measures;
use crate::lower::Options;
use crate::search::{Guidance, Pin};
use serde_json::json;
use sotto_ir::params::ParamSet;
use std::path::PathBuf;

/// Say what a plan would cost, from a model's shape and a profile of its ranges, without weights.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 success, 2 no such preset, or nothing fits.

Examples:
  sottoc estimate --preset llama-3-8b --context 512
  sottoc estimate --preset tinyllama-1.1b --context 128 --json"
)]
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
    /// Decide at a site instead of the search: SITE=FORM, as in `layers.{i}.mlp.up_proj=spread:8`; an unknown FORM lists all.
    #[arg(long = "pin", value_name = "PIN")]
    pins: Vec<Pin>,
    /// Refuse a plan whose server needs more memory than this.
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// End with one line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let params = ParamSet::secure_128();
    let request = EstimateRequest {
        preset: args.preset.clone(),
        options: Options::new(params.slots() as u32, args.context),
        params,
        cost_table: args.cost_table.clone(),
        guidance: Guidance {
            pins: args.pins.clone(),
            ..Guidance::default()
        },
        memory: args.memory,
    };
    let mut meter = Meter::new();
    let found = estimate(&request, &mut |news| meter.hear(news))?;
    drop(meter);
    let report = Report::of(&Measures {
        program: &found.emitted.decode,
        capacity: args.context,
        params: &request.params,
        table: &found.table,
    })?;
    let e = &found.emitted.estimate;
    if args.json {
        let line = json!({
            "preset": args.preset,
            "context": args.context,
            "templates": report.templates_json(),
            "token": report.token(),
            "key_bytes": e.key_bytes,
            "state_bytes": e.state_bytes,
            "plaintext_bytes": e.plaintext_bytes,
            "peak_memory_bytes": e.peak_memory_bytes,
            "seconds": e.seconds,
            "cost_table": e.cost_table,
        });
        return print(format_args!("{line}\n"));
    }
    print(format_args!("{report}"))?;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    print(format_args!(
        "keys {:.2} GiB, KV state {:.2} GiB at {} tokens, server {:.2} GiB, {:.1} s a token by `{}`\n",
        gib(e.key_bytes),
        gib(e.state_bytes),
        args.context,
        gib(e.peak_memory_bytes),
        e.seconds,
        e.cost_table
    ))?;
    let token = report.token();
    print(format_args!(
        "provided that {} plaintexts stay encoded, in {:.2} GiB more: encoding them anew adds {:.1} s a token\n",
        token.counts.stored_plaintexts,
        gib(e.plaintext_bytes),
        token.encoding_seconds
    ))
}
