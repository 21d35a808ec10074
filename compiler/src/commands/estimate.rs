//! `sottoc estimate`.

use super::{
    Failure, figures::Report, meter::Meter, planning::PlanningArgs, print, source::Subject,
};
use crate::driver::estimate;
use crate::emit::Measures;
use serde_json::json;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::PlanProgram;

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
    #[command(flatten)]
    planning: PlanningArgs,
    /// End with one line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let context = args.subject.context()?;
    let planning = args.planning.planning(ParamSet::secure_128(), context);
    let source = args.subject.source()?;
    let mut meter = Meter::new();
    let (subject, found) = estimate(&source, &planning, &mut |news| meter.hear(news))?;
    drop(meter);
    let report = Report::of(&Measures {
        program: &found.decode.emitted.decode,
        capacity: context,
        params: &planning.params,
        table: &subject.table,
    })?;
    let prefill = found.prefill.as_ref().map(|prefill| {
        let emitted = &prefill.placed.emitted;
        (emitted.decode.block, emitted.estimate.seconds)
    });
    // of matrices, where the table's prices are of those that lie by their coefficients
    let coefficient_bytes = subject.table.compact.then(|| {
        let prefill = found.prefill.iter().map(|p| &p.placed.emitted.decode);
        let programs = prefill.chain([&found.decode.emitted.decode]);
        programs.map(PlanProgram::coefficient_bytes).sum::<u64>()
    });
    let e = &found.decode.emitted.estimate;
    if args.json {
        let line = json!({
            "preset": args.subject.preset,
            "placement": planning.strategy.name(),
            "context": context,
            "templates": report.templates_json(),
            "token": report.token(),
            "block": prefill.map(|(block, seconds)| json!({"tokens": block, "seconds": seconds})),
            "key_bytes": e.key_bytes,
            "state_bytes": e.state_bytes,
            "plaintext_bytes": e.plaintext_bytes,
            "coefficient_bytes": coefficient_bytes,
            "peak_memory_bytes": e.peak_memory_bytes,
            "seconds": e.seconds,
            "cost_table": e.cost_table,
        });
        return print(format_args!("{line}\n"));
    }
    print(format_args!("{report}"))?;
    if let Some((block, seconds)) = prefill {
        print(format_args!(
            "a prompt's first {block} tokens together: {seconds:.1} s\n"
        ))?;
    }
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    print(format_args!(
        "keys {:.2} GiB, KV state {:.2} GiB at {} tokens, server {:.2} GiB, {:.1} s a token by `{}`\n",
        gib(e.key_bytes),
        gib(e.state_bytes),
        context,
        gib(e.peak_memory_bytes),
        e.seconds,
        e.cost_table
    ))?;
    if let Some(bytes) = coefficient_bytes {
        return print(format_args!(
            "provided that matrices lie by their coefficients, in {:.2} GiB more\n",
            gib(bytes)
        ));
    }
    let token = report.token();
    print(format_args!(
        "provided that {} plaintexts stay encoded, in {:.2} GiB more: encoding them anew adds {:.1} s a token\n",
        token.counts.stored_plaintexts,
        gib(e.plaintext_bytes),
        token.encoding_seconds
    ))
}
