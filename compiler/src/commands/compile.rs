//! `sottoc compile`.

use super::{Failure, meter::Meter, print, say_replacing};
use crate::driver::{CompileError, Outcome, Request, Stage, compile, stage_context};
use crate::emit::summary;
use crate::frontend::Checkpoint;
use crate::lower::Options;
use crate::place::Strategy;
use crate::search::{Guidance, Pin};
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Placement;
use sotto_ir::write_whole;
use std::path::{Path, PathBuf};

/// Compile a checkpoint to a plan: decoder → packed → leveled → plan.
///
/// Approximations are fitted to the ranges that calibration data reaches, so it should be typical of what the model will read.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sottoc compile models/tiny -o tiny.plan
  sottoc compile MODEL -o PLAN --calibrate prompts.txt --context 128
  sottoc compile MODEL --stop-after packed -o model.packed
  sottoc compile MODEL --from model.packed -o PLAN")]
pub struct Args {
    /// Checkpoint directory: config.json, safetensors, tokenizer.json.
    model: PathBuf,
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
    /// Prices of this machine, as `sotto bench --cost-table` measures them [default: those of a 2-core AVX-512 server].
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
    /// Print a stage instead of going on to the plan.
    #[arg(long, value_name = "STAGE")]
    stop_after: Option<Stage>,
    /// Resume from a stage file, edited or not.
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
const GIB: f64 = (1u64 << 30) as f64;

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let request = request(args)?;
    let mut meter = Meter::new();
    let outcome = compile(&request, &mut |news| meter.hear(news))?;
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

/// The context asked for, else that of the stage resumed from, else the model's.
fn context(args: &Args) -> Result<u32, Failure> {
    if let Some(context) = args.context {
        return Ok(context);
    }
    if let Some(path) = &args.from
        && let Some(context) = stage_context(path)?
    {
        return Ok(context);
    }
    default_context(&args.model)
}

/// Context of a model unless told otherwise.
pub(super) fn default_context(model: &Path) -> Result<u32, Failure> {
    let checkpoint = Checkpoint::open(model)?;
    Ok(checkpoint.facts().max_positions.min(CONTEXT) as u32)
}

fn request(args: &Args) -> Result<Request, Failure> {
    let params = match args.insecure_ring {
        Some(log_n) => {
            eprintln!(
                "INSECURE: a ring of 2^{log_n} coefficients protects nothing; for tests only"
            );
            ParamSet::insecure_test(log_n)
        }
        None => ParamSet::secure_128(),
    };
    let context = context(args)?;
    let options = Options {
        margin: args.margin,
        tolerance: args.tolerance,
        embedding: args.embedding.into(),
        head: args.head.into(),
        ..Options::new(params.slots() as u32, context)
    };
    options.check()?;
    Ok(Request {
        model: args.model.clone(),
        calibrate: args.calibrate.clone(),
        params,
        options,
        cost_table: args.cost_table.clone(),
        guidance: Guidance {
            pins: args.pins.clone(),
            ..Guidance::default()
        },
        strategy: args.placement,
        memory: args.memory.map(|gib| (gib * GIB) as u64),
        stop_after: args.stop_after,
        from: args.from.clone(),
        dump_dir: args.dump_dir.clone(),
        output: args.output.clone(),
    })
}
