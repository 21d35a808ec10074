//! `sottoc estimate`.

use super::{Failure, meter::Meter, print, source::Subject};
use crate::driver::{EstimateRequest, estimate};
use crate::emit::Counts;
use crate::lower::Options;
use crate::place::Strategy;
use crate::search::{Guidance, Pin};
use serde_json::json;
use sotto_ir::params::ParamSet;
use std::path::PathBuf;

/// Say what a plan would cost: of a checkpoint, or from a shape and a profile of its ranges, without weights.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 success, 2 no such model or preset, or nothing fits.

Examples:
  sottoc estimate --preset llama-3-8b --context 512
  sottoc estimate --preset tinyllama-1.1b --context 128 --json
  sottoc estimate models/tiny --placement lazy"
)]
pub struct Args {
    #[command(flatten)]
    subject: Subject,
    /// Prices of a machine, as `sotto bench --cost-table` measures them.
    #[arg(long, value_name = "FILE")]
    cost_table: Option<PathBuf>,
    /// Decide at a site instead of the search: SITE=FORM, as in `layers.{i}.mlp.up_proj=spread:8`; an unknown FORM lists all.
    #[arg(long = "pin", value_name = "PIN")]
    pins: Vec<Pin>,
    /// Who places bootstraps; all but `ours` are published placers, for comparison.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Strategy::Ours)]
    placement: Strategy,
    /// Refuse a plan whose server needs more memory than this.
    #[arg(long, value_name = "GIB")]
    memory: Option<f64>,
    /// End with one line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let params = ParamSet::secure_128();
    let context = args.subject.context()?;
    let request = EstimateRequest {
        source: args.subject.source(),
        options: Options::new(params.slots() as u32, context),
        params,
        cost_table: args.cost_table.clone(),
        guidance: Guidance {
            pins: args.pins.clone(),
            ..Guidance::default()
        },
        strategy: args.placement,
        memory: args.memory.map(|gib| (gib * f64::from(1 << 30)) as u64),
    };
    let mut meter = Meter::new();
    let found = estimate(&request, &mut |news| meter.hear(news))?;
    drop(meter);
    let program = &found.emitted.decode;
    let token = Counts::of_token(program, context)?;
    let e = &found.emitted.estimate;
    if args.json {
        let bootstraps: Vec<_> = token
            .bootstraps
            .iter()
            .map(|(kind, count)| json!({"slots": kind.slots, "complex": kind.complex, "count": count}))
            .collect();
        let line = json!({
            "preset": args.subject.preset,
            "placement": args.placement.name(),
            "context": context,
            "token": token,
            "bootstraps": bootstraps,
            "key_bytes": e.key_bytes,
            "state_bytes": e.state_bytes,
            "peak_memory_bytes": e.peak_memory_bytes,
            "seconds": e.seconds,
            "cost_table": e.cost_table,
        });
        return print(format_args!("{line}\n"));
    }
    for step in &program.steps {
        let each = Counts::of_template(program, step.template, context)?;
        let name = &program.templates[step.template].name;
        print(format_args!(
            "{name}, {} times: {}\n",
            step.count,
            line(&each)
        ))?;
    }
    print(format_args!("a token: {}\n", line(&token)))?;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    print(format_args!(
        "keys {:.2} GiB, KV state {:.2} GiB at {} tokens, server {:.2} GiB, {:.1} s a token by `{}`\n",
        gib(e.key_bytes),
        gib(e.state_bytes),
        context,
        gib(e.peak_memory_bytes),
        e.seconds,
        e.cost_table
    ))
}

fn line(counts: &Counts) -> String {
    let bootstraps = counts.bootstraps.iter().map(|(kind, count)| {
        let part = if kind.complex { "complex" } else { "real" };
        format!("{count} on {} {part} slots", kind.slots)
    });
    let bootstraps: Vec<String> = bootstraps.collect();
    format!(
        "{} plaintext products, {} products, {} rotations, {} key switches, {} encodings, bootstraps: {}",
        counts.plain_products,
        counts.products,
        counts.rotations,
        counts.key_switches,
        counts.encodings,
        match bootstraps.is_empty() {
            true => "none".into(),
            false => bootstraps.join(", "),
        }
    )
}
