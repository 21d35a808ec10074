//! `sotto bench plan`: what a plan's tokens take, whatever they mean.

use super::super::engines::{EngineArgs, EngineName, residence};
use super::super::traces::create_trace;
use super::super::trials::cipher_trial;
use super::rounds::median;
use crate::cipher::{Residence, Room};
use crate::client::{ClientModel, Tokens};
use crate::commands::{Consent, Failure, Meter, print};
use crate::plan::PlanDir;
use crate::process::{available_memory, peak_memory};
use crate::trial::CipherTrial;
use serde::Serialize;
use sotto_ckks::Context;
use sotto_ckks::engine::{Cpu, Engine};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Transforms that one look at the yardstick averages.
const LOOK: u32 = 16;

/// Measure what a plan's tokens take on this machine: any plan with weights, a preset's too.
///
/// Tokens are those with the first ids, one by one, and then in blocks as prompts are. The first of either also encodes the weights that
/// are kept. Nothing is compared with anything: `sotto check` does that.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sotto bench plan --plan tiny.plan --tokens 3 --blocks 2
  sotto bench plan --plan layer.plan --backend gpu --trace trace.json --json")]
pub struct Args {
    /// The plan directory.
    #[arg(long)]
    plan: PathBuf,
    /// Tokens to compute.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Full blocks of prompt to compute, each in a conversation of its own.
    #[arg(long, value_name = "N", default_value_t = 0)]
    blocks: u32,
    /// Write per-op times to this file, for Perfetto, chrome://tracing or `sotto trace`.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// One line of JSON on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
    #[command(flatten)]
    consent: Consent,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    model: String,
    engine: String,
    threads: usize,
    yardstick_ntt_ms: f64,
    setup_seconds: f64,
    /// Of every token.
    seconds: Vec<f64>,
    /// Of a token, by the plan's cost table.
    predicted_seconds: f64,
    /// Of every block of prompt tokens.
    block_seconds: Vec<f64>,
    /// Of a block at the start of a conversation, by the plan's cost table; none if the plan has no prefill.
    predicted_block_seconds: Option<f64>,
    /// The cost table's yardstick.
    predicted_yardstick_ntt_ms: f64,
    peak_memory_bytes: Option<u64>,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let dir = PlanDir::open(&args.plan).map_err(Failure::input)?;
    args.consent.check(dir.plan())?;
    dir.check().map_err(Failure::input)?;
    let capacity = dir.plan().capacity;
    if args.tokens > capacity {
        return Err(Failure::Input(format!(
            "--tokens {}: the plan holds {capacity}; ask for at most that",
            args.tokens
        )));
    }
    if args.blocks > 0 && dir.plan().prefill.is_none() {
        return Err(Failure::Input(format!(
            "--blocks {}: the plan takes prompts token by token; leave it out",
            args.blocks
        )));
    }
    let (plan, card) = (dir.plan(), args.engine.card);
    let figures = match args.engine.backend {
        EngineName::Cpu => {
            card.unused()?;
            let room = Room::one(available_memory().unwrap_or(u64::MAX));
            let residence = residence(plan, room, None)?;
            let context = Context::new(plan.params.clone()).map_err(Failure::input)?;
            measure(args, &dir, &Cpu::new(&context), residence)?
        }
        EngineName::Gpu => {
            let (gpu, room) = card.open_for(plan, None)?;
            let residence = residence(plan, room, card.matrices())?;
            measure(args, &dir, &gpu, residence)?
        }
    };
    match args.json {
        true => {
            let line = serde_json::to_string(&figures).map_err(Failure::foreign)?;
            print(format_args!("{line}\n"))
        }
        false => print(format_args!("{}", page(&figures))),
    }
}

fn measure<E: Engine>(
    args: &Args,
    dir: &PlanDir,
    engine: &E,
    residence: Residence,
) -> Result<Figures, Failure> {
    let started = Instant::now();
    let plan = dir.plan();
    let model = Arc::new(ClientModel::load(dir).map_err(Failure::input)?);
    let trace = args.trace.as_deref().map(|path| create_trace(path, dir));
    let mut trial = cipher_trial(engine, dir, model, residence, trace.transpose()?)?;
    let setup_seconds = started.elapsed().as_secs_f64();
    let vocab = plan.model.vocab;
    let total = u64::from(args.tokens) + u64::from(args.blocks);
    let meter = Meter::bar(total, "computing");
    let mut yardstick = engine.yardstick();
    let mut looks = Vec::new();
    let mut time = |trial: &mut CipherTrial<E>, tokens: Tokens<'_>| {
        meter.set(looks.len() as u64, total);
        looks.push(yardstick.seconds(LOOK));
        let started = Instant::now();
        let done = trial.run(tokens).map_err(Failure::input);
        done.map(|_| started.elapsed().as_secs_f64())
    };
    let tokens = 0..args.tokens;
    let seconds = tokens.map(|token| time(&mut trial, Tokens::One(token % vocab)));
    let seconds = seconds.collect::<Result<_, _>>()?;
    let block: Vec<u32> = (0..trial.block()).map(|token| token % vocab).collect();
    let blocks = (0..args.blocks).map(|_| {
        trial.restart();
        time(&mut trial, Tokens::Block(&block))
    });
    let block_seconds = blocks.collect::<Result<_, _>>()?;
    Ok(Figures {
        model: plan.model.name.clone(),
        engine: engine.describe(),
        threads: rayon::current_num_threads(),
        yardstick_ntt_ms: median(looks) * 1e3,
        setup_seconds,
        seconds,
        predicted_seconds: plan.estimate.seconds,
        block_seconds,
        predicted_block_seconds: plan.prefill.as_ref().map(|p| p.estimate.seconds),
        predicted_yardstick_ntt_ms: plan.estimate.yardstick_seconds * 1e3,
        peak_memory_bytes: peak_memory(std::process::id()),
    })
}

/// The figures for people.
fn page(figures: &Figures) -> String {
    let list = |seconds: &[f64]| {
        let seconds: Vec<String> = seconds.iter().map(|s| format!("{s:.2}")).collect();
        seconds.join(", ")
    };
    let yardstick = figures.predicted_yardstick_ntt_ms;
    let mut page = format!(
        "{} on {}, {} threads, yardstick {:.4} ms\nkeys and set-up       {:.1} s\neach token            {} s\npredicted             {:.2} s at a yardstick of {yardstick:.4} ms\n",
        figures.model,
        figures.engine,
        figures.threads,
        figures.yardstick_ntt_ms,
        figures.setup_seconds,
        list(&figures.seconds),
        figures.predicted_seconds,
    );
    if !figures.block_seconds.is_empty() {
        page += &format!(
            "each block            {} s\npredicted             {:.2} s\n",
            list(&figures.block_seconds),
            figures.predicted_block_seconds.unwrap_or(0.0),
        );
    }
    if let Some(bytes) = figures.peak_memory_bytes {
        let gib = bytes as f64 / f64::from(1u32 << 30);
        page += &format!("peak memory           {gib:.2} GiB\n");
    }
    page
}
