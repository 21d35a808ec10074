//! `sotto bench`: what this machine takes for the scheme's operations.

mod measure;

use super::{Failure, Meter};
use measure::{Bench, threads};
use sotto_ckks::{Context, SecretKey};
use sotto_ir::cost::CostTable;
use sotto_ir::params::ParamSet;
use sotto_ir::write_whole;
use std::path::{Path, PathBuf};

/// Measure a cost table of this machine for `sottoc compile --cost-table`.
///
/// Times single operations at several levels and bootstraps, never models or plans; takes about two minutes and 5 GiB on an otherwise
/// idle machine. Every figure is normalized by a yardstick timed beside it, so that a machine that changes its speed does not bend
/// the table.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:
  sotto bench --cost-table here.ron --name \"my server, 2 threads\"")]
pub struct Args {
    /// The table to write.
    #[arg(long, value_name = "FILE")]
    cost_table: PathBuf,
    /// What plans will call it.
    #[arg(long, default_value = "this machine")]
    name: String,
    /// Measure a small INSECURE ring with 2^LOG_N coefficients, for tests only.
    #[arg(long, value_name = "LOG_N", value_parser = clap::value_parser!(u32).range(9..=14))]
    insecure_ring: Option<u32>,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    check_place(&args.cost_table)?;
    let params = match args.insecure_ring {
        Some(log_n) => ParamSet::insecure_test(log_n),
        None => ParamSet::secure_128(),
    };
    let context = Context::new(params).map_err(Failure::input)?;
    let secret = SecretKey::generate(&context).map_err(Failure::input)?;
    let measured = {
        let meter = Meter::bar(0, "measuring");
        Bench::new(&context, &secret, &meter).run()
    };
    let (ops, bootstraps, yardstick_seconds) = measured.map_err(Failure::input)?;
    let threads = threads();
    let params = context.params();
    let table = CostTable {
        name: args.name.clone(),
        origin: format!(
            "sotto bench --cost-table: medians at {}, {threads} threads",
            params.name
        ),
        log_n: params.log_n,
        threads,
        yardstick_seconds,
        ops,
        bootstraps,
    };
    let text = table.print().map_err(Failure::input)?;
    // What is written is what the compiler will accept.
    CostTable::parse(&text).map_err(Failure::input)?;
    write_whole(&args.cost_table, text.as_bytes())
        .map_err(|cause| Failure::Input(format!("{}: {cause}", args.cost_table.display())))?;
    eprintln!(
        "{}: {threads} threads, yardstick {:.4} ms",
        args.cost_table.display(),
        yardstick_seconds * 1e3
    );
    Ok(())
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
