//! `sottoc compile`.

use super::planning::PlanningArgs;
use super::{Failure, meter::Meter, print, say_replacing};
use crate::driver::{
    CompileError, News, Outcome, Planning, PresetRequest, Request, Stage, Stages, compile,
    compile_preset, stage_context,
};
use crate::emit::summary;
use crate::frontend::Checkpoint;
use crate::lower::Options;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::{Placement, Weights};
use sotto_ir::write_whole;
use std::path::{Path, PathBuf};

/// Compile a checkpoint to a plan: decoder → packed → leveled → plan.
///
/// Approximations are fitted to the ranges that calibration data reaches, so it should be typical of what the model will read. A
/// preset is compiled from its shape and assumed ranges instead, with weights drawn from a seed or none; its plan has no tokenizer.
#[derive(clap::Args, Debug)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["model", "preset"])))]
#[command(after_help = "Examples:
  sottoc compile models/tiny -o tiny.plan
  sottoc compile MODEL -o PLAN --calibrate prompts.txt --context 128
  sottoc compile --preset llama-3-8b --weights none --context 512 -o PLAN
  sottoc compile --preset tinyllama-1.1b --layers 1 --weights synthetic:7 -o PLAN
  sottoc compile MODEL --stop-after packed -o model.packed
  sottoc compile MODEL --from model.packed -o PLAN")]
pub struct Args {
    /// Checkpoint directory: config.json, safetensors, tokenizer.json.
    model: Option<PathBuf>,
    /// Compile a model's shape and assumed ranges instead: llama-3-8b, tinyllama-1.1b or gpt2-small.
    #[arg(long, value_name = "NAME", requires = "weights", conflicts_with_all = ["calibrate", "from"])]
    preset: Option<String>,
    /// The preset's weights: drawn from a seed, or none, for a plan to read, price and make keys by.
    #[arg(long, value_name = "synthetic:SEED|none", conflicts_with = "model", value_parser = preset_weights)]
    weights: Option<Weights>,
    /// The preset's first layers only.
    #[arg(long, value_name = "N", conflicts_with = "model")]
    layers: Option<u32>,
    /// The plan directory; with --stop-after, the stage file [default: standard output].
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Text, a conversation per line, or safetensors with input_ids [B, T] [default: calibration.txt or
    /// calibration.safetensors in MODEL].
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Most tokens of one conversation [default: with --from, the stage file's; else the model's, at most 256].
    #[arg(long, value_name = "N")]
    context: Option<u32>,
    /// How much wider than calibrated every range is taken to be.
    #[arg(long, value_name = "FACTOR", default_value_t = Options::MARGIN)]
    margin: f64,
    /// Relative error that one approximation may bring to its site.
    #[arg(long, value_name = "ERROR", default_value_t = Options::TOLERANCE)]
    tolerance: f64,
    /// Who holds the embedding table.
    #[arg(long, value_enum, default_value_t = Side::Client)]
    embedding: Side,
    /// Who computes the head.
    #[arg(long, value_enum, default_value_t = Side::Server)]
    head: Side,
    #[command(flatten)]
    planning: PlanningArgs,
    /// Print a stage instead of going on to the plan.
    #[arg(long, value_name = "STAGE")]
    stop_after: Option<Stage>,
    /// Resume from a stage file, edited or not. Calibration data is read all the same: the program of prompts in blocks is made by it.
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Write the text form of every stage there.
    #[arg(long, value_name = "DIR")]
    dump_dir: Option<PathBuf>,
    /// Compile for a small INSECURE ring with 2^LOG_N coefficients, for tests only.
    #[arg(long, value_name = "LOG_N", value_parser = clap::value_parser!(u32).range(9..=14))]
    insecure_ring: Option<u32>,
}

/// Who holds a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    Client,
    Server,
}

impl From<Side> for Placement {
    fn from(side: Side) -> Self {
        match side {
            Side::Client => Placement::Client,
            Side::Server => Placement::Server,
        }
    }
}

/// Context unless told otherwise, if the model allows it.
const CONTEXT: usize = 256;

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let mut meter = Meter::new();
    let outcome = outcome(args, &mut meter)?;
    drop(meter);
    match (outcome, &args.output) {
        (Outcome::Stage(stage), Some(path)) => {
            say_replacing(path);
            write_whole(path, stage.to_string().as_bytes()).map_err(CompileError::write(path))?;
            Ok(())
        }
        (Outcome::Stage(stage), None) => print(format_args!("{stage}")),
        (Outcome::Plan(plan), _) => print(format_args!("{}", summary(&plan))),
    }
}

/// Compiles the preset or the checkpoint.
fn outcome(args: &Args, meter: &mut Meter) -> Result<Outcome, Failure> {
    let mut tell = |news: News<'_>| meter.hear(news);
    match (&args.preset, &args.model) {
        (Some(preset), _) => Ok(compile_preset(&preset_request(args, preset), &mut tell)?),
        (None, Some(model)) => Ok(compile(&request(args, model)?, &mut tell)?),
        (None, None) => Err(Failure::Input("name a checkpoint, or a --preset".into())),
    }
}

/// The weights of a preset.
fn preset_weights(text: &str) -> Result<Weights, String> {
    let seed = text.strip_prefix("synthetic:").map(str::parse);
    match (text, seed) {
        ("none", _) => Ok(Weights::None),
        (_, Some(Ok(seed))) => Ok(Weights::Synthetic(seed)),
        _ => Err("give `none`, or `synthetic:` and a whole number from 0 up".into()),
    }
}

/// The context asked for, else that of the stage resumed from, else the model's.
fn context(args: &Args, model: &Path) -> Result<u32, Failure> {
    if let Some(context) = args.context {
        return Ok(context);
    }
    if let Some(path) = &args.from
        && let Some(context) = stage_context(path)?
    {
        return Ok(context);
    }
    default_context(model)
}

/// Context of a model unless told otherwise.
pub(super) fn default_context(model: &Path) -> Result<u32, Failure> {
    let checkpoint = Checkpoint::open(model)?;
    Ok(checkpoint.facts().max_positions.min(CONTEXT) as u32)
}

fn preset_request(args: &Args, preset: &str) -> PresetRequest {
    PresetRequest {
        preset: preset.into(),
        layers: args.layers,
        weights: args.weights.unwrap_or(Weights::None),
        planning: planning(args, args.context.unwrap_or(CONTEXT as u32)),
        stages: stages(args),
        output: args.output.clone(),
    }
}

fn request(args: &Args, model: &Path) -> Result<Request, Failure> {
    Ok(Request {
        model: model.into(),
        calibrate: args.calibrate.clone(),
        planning: planning(args, context(args, model)?),
        stages: stages(args),
        from: args.from.clone(),
        output: args.output.clone(),
    })
}

fn planning(args: &Args, context: u32) -> Planning {
    let mut planning = args.planning.planning(params(args), context);
    planning.options = Options {
        margin: args.margin,
        tolerance: args.tolerance,
        embedding: args.embedding.into(),
        head: args.head.into(),
        ..planning.options
    };
    planning
}

fn stages(args: &Args) -> Stages {
    Stages {
        stop_after: args.stop_after,
        dump_dir: args.dump_dir.clone(),
    }
}

/// The ring asked for, with a warning where it protects nothing.
fn params(args: &Args) -> ParamSet {
    let Some(log_n) = args.insecure_ring else {
        return ParamSet::secure_128();
    };
    eprintln!("INSECURE: a ring of 2^{log_n} coefficients protects nothing; for tests only");
    ParamSet::insecure_test(log_n)
}
