//! `sotto keygen`.

use super::{Consent, Failure, Meter, Signals, end_on_interrupt, human_bytes, print, runtime};
use crate::client::{Keyring, Made, Unfinished};
use crate::plan::PlanDir;
use serde_json::json;
use sotto_ckks::Context;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Generate the keys that a plan needs: a secret key that stays here, and evaluation keys for the server.
///
/// KEYS/secret.key never leaves the client; KEYS/evaluation is what `serve` or an upload gets.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  sotto keygen --plan tiny.plan -o keys")]
pub struct Args {
    /// The plan directory.
    #[arg(long)]
    plan: PathBuf,
    /// The key folder to make; it must not exist.
    #[arg(short, long, value_name = "KEYS")]
    output: PathBuf,
    /// End with one line of JSON on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let dir = PlanDir::open(&args.plan).map_err(Failure::input)?;
    args.consent.check(dir.plan())?;
    let started = Instant::now();
    let unfinished = Unfinished::default();
    // Keys are made on this thread; the runtime's hear the interrupt.
    let runtime = runtime()?;
    let signals = runtime.block_on(async { Signals::listen() });
    runtime.spawn(end_on_interrupt(signals, unfinished.clone()));
    let made = generate(&dir, &args.output, &unfinished)?;
    let seconds = started.elapsed().as_secs_f64();
    let manifest = &made.manifest;
    if args.json {
        let line = json!({
            "directory": args.output,
            "parameters": dir.plan().params.name,
            "security_bits": dir.plan().params.security().bits,
            "keys": manifest.keys.len(),
            "bytes": manifest.bytes,
            "fingerprint": manifest.checksum,
            "seconds": seconds,
        });
        print(format_args!("{line}\n"))?;
    } else {
        eprintln!(
            "{} evaluation keys, {}, in {seconds:.1} s: {}",
            manifest.keys.len(),
            human_bytes(manifest.bytes),
            args.output.display()
        );
    }
    Ok(())
}

/// Generates the keys of a plan, with progress.
pub(super) fn generate(
    dir: &PlanDir,
    output: &Path,
    unfinished: &Unfinished,
) -> Result<Made, Failure> {
    let context = Context::new(dir.plan().params.clone()).map_err(Failure::input)?;
    let meter = Meter::bar(0, "generating keys");
    Keyring::at(output)
        .tracked(unfinished)
        .generate(dir.plan(), &context, |done, total| {
            meter.set(done as u64, total as u64);
        })
        .map_err(Failure::input)
}
