//! `sotto bench`: what this machine takes for the scheme's operations.

mod engine;
mod kernels;
mod measure;
mod plan;
mod rounds;
mod table;

use super::engines::{EngineArgs, EngineName};
use super::{Failure, Meter};
use measure::{Bench, Measured};
use sotto_ckks::engine::{Cpu, Engine, Keep};
use sotto_ckks::{Context, SecretKey};
use sotto_ir::cost::CostTable;
use sotto_ir::params::ParamSet;
use sotto_ir::write_whole;
use std::path::{Path, PathBuf};

/// Measure a cost table of this machine for `sottoc compile --cost-table`, the engine, or a plan.
///
/// A table times single operations at several levels and bootstraps, never models or plans; takes about two minutes and 5 GiB on an otherwise
/// idle machine. Every figure is normalized by a yardstick timed beside it, so that a machine that changes its speed does not bend
/// the table.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "Examples:
  sotto bench --cost-table here.ron --name \"my server, 2 threads\"
  sotto bench --cost-table card.ron --backend gpu --name \"my card\"
  sotto bench engine --threads 1")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    table: TableArgs,
}

/// What else can be measured.
#[derive(clap::Subcommand, Debug)]
enum What {
    Engine(engine::Args),
    Plan(plan::Args),
}

/// A cost table to measure.
#[derive(clap::Args, Debug)]
struct TableArgs {
    /// The table to write.
    #[arg(long, value_name = "FILE", required = true)]
    cost_table: Option<PathBuf>,
    /// What plans will call it.
    #[arg(long, default_value = "this machine")]
    name: String,
    #[command(flatten)]
    engine: EngineArgs,
    /// Measure a small INSECURE ring with 2^LOG_N coefficients, for tests only.
    #[arg(long, value_name = "LOG_N", value_parser = clap::value_parser!(u32).range(9..=14))]
    insecure_ring: Option<u32>,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    match (&args.what, &args.table.cost_table) {
        (Some(What::Engine(args)), _) => engine::run(args),
        (Some(What::Plan(args)), _) => plan::run(args),
        (None, Some(path)) => cost_table(&args.table, path),
        (None, None) => Err(Failure::Input("name a --cost-table to write".into())),
    }
}

/// Measures a table and writes it.
fn cost_table(args: &TableArgs, path: &Path) -> Result<(), Failure> {
    check_place(path)?;
    let params = match args.insecure_ring {
        Some(log_n) => ParamSet::insecure_test(log_n),
        None => ParamSet::secure_128(),
    };
    let context = Context::new(params).map_err(Failure::input)?;
    let secret = SecretKey::generate(&context).map_err(Failure::input)?;
    let card = args.engine.card;
    let keep = card.matrices().unwrap_or(Keep::Ready);
    let compact = keep != Keep::Ready;
    let measured = match args.engine.backend {
        EngineName::Cpu => {
            card.unused()?;
            measure(&Cpu::new(&context), &secret, keep)
        }
        EngineName::Gpu => measure(&card.open(context.params())?, &secret, keep),
    };
    let ((ops, bootstraps, yardstick_seconds), engine) = measured.map_err(Failure::input)?;
    let threads = rayon::current_num_threads() as u32;
    let params = context.params();
    let table = CostTable {
        name: args.name.clone(),
        origin: format!(
            "sotto bench --cost-table: medians at {} on {engine}, {threads} threads",
            params.name
        ),
        log_n: params.log_n,
        threads,
        yardstick_seconds,
        compact,
        ops,
        bootstraps,
    };
    let text = table.print().map_err(Failure::input)?;
    // What is written is what the compiler will accept.
    CostTable::parse(&text).map_err(Failure::input)?;
    write_whole(path, text.as_bytes())
        .map_err(|cause| Failure::Input(format!("{}: {cause}", path.display())))?;
    eprintln!(
        "{}: {threads} threads, yardstick {:.4} ms",
        path.display(),
        yardstick_seconds * 1e3
    );
    Ok(())
}

/// What was measured, and on what.
fn measure<E: Engine>(
    engine: &E,
    secret: &SecretKey,
    keep: Keep,
) -> sotto_ckks::Result<(Measured, String)> {
    let meter = Meter::bar(0, "measuring");
    let measured = Bench::new(engine, secret, &meter, keep).run()?;
    Ok((measured, engine.describe()))
}

/// Refuses a place that no file can be written to, now rather than after the measurement.
fn check_place(path: &Path) -> Result<(), Failure> {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let folder = parent.unwrap_or(Path::new("."));
    let wrong = match (folder.is_dir(), path.is_dir()) {
        (false, _) => format!("there is no folder {}; make it", folder.display()),
        (true, true) => "that is a folder; name a file in it".into(),
        (true, false) => return Ok(()),
    };
    let path = path.display();
    Err(Failure::Input(format!(
        "--cost-table {path}: {wrong}, or choose another place"
    )))
}
