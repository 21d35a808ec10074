//! `sotto trace`: a trace beside what its plan predicts. And how commands that write traces begin one.

use super::{Failure, print};
use crate::plan::PlanDir;
use crate::trace::Trace;
use serde_json::json;
use sotto_ir::trace::{ClassTimes, Measured, ProgramTimes, measured, read};
use std::fmt;
use std::path::{Path, PathBuf};

/// Share of its section that a kind of operation must take to have a line of its own.
const SHOWN: f64 = 0.01;

/// Show what operations took beside what the plan predicts, by layer and kind.
///
/// The last column is measured over predicted, brought to the speed that the plan's cost table was measured at: the trace looks at a
/// yardstick before every token. Kinds below a hundredth of their layer are told together (--json tells all). Predictions are for exactly the operations that ran. Traces come from `sotto serve --trace`,
/// `sotto demo --trace` and `sotto check --backend cpu --trace`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 success, 2 no such trace, or not of this plan.

Examples:
  sotto trace trace.json --plan tiny.plan
  sotto trace trace.json --plan tiny.plan --json"
)]
pub struct Args {
    /// The trace; one that was cut short will do.
    trace: PathBuf,
    /// The plan that ran.
    #[arg(long)]
    plan: PathBuf,
    /// Print one line of JSON instead.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let dir = PlanDir::open(&args.plan).map_err(Failure::input)?;
    let found = held_against(&args.trace, &dir)?;
    match args.json {
        true => print(format_args!("{}\n", json!(found))),
        false => print(format_args!("{}", Page(&found))),
    }
}

/// Reads a trace and holds it against its plan.
pub(super) fn held_against(trace: &Path, dir: &PlanDir) -> Result<Measured, Failure> {
    let trace = read(trace).map_err(Failure::input)?;
    measured(&trace, dir.plan(), &dir.digest()).map_err(Failure::input)
}

/// Begins the trace that `--trace` asks for.
pub(super) fn create_trace(path: &Path, dir: &PlanDir) -> Result<Trace, Failure> {
    Trace::create(path, dir.plan(), &dir.digest()).map_err(|cause| {
        Failure::Input(format!(
            "cannot write the trace to {}: {cause}; choose another --trace",
            path.display()
        ))
    })
}

/// The table, for people.
pub(super) struct Page<'a>(pub &'a Measured);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(found) = self;
        for program in &found.programs {
            table(f, program)?;
        }
        speed(f, found)?;
        if found.left_out > 0 {
            writeln!(
                f,
                "{} operations of runs that did not come to their end are left out",
                found.left_out
            )?;
        }
        Ok(())
    }
}

/// What the ratios are relative to.
fn speed(f: &mut fmt::Formatter<'_>, found: &Measured) -> fmt::Result {
    let table = found.table_yardstick * 1e3;
    match found.yardstick {
        Some(now) => write!(
            f,
            "yardstick {:.4} ms, {table:.4} ms when the prices were measured: ratios are at that speed",
            now * 1e3
        )?,
        None => write!(
            f,
            "the trace has no yardstick: ratios are of the times as they are"
        )?,
    }
    match found.threads {
        (table, Some(now)) if table != now => {
            writeln!(f, "; prices hold for {table} threads, {now} computed")
        }
        _ => writeln!(f),
    }
}

fn table(f: &mut fmt::Formatter<'_>, program: &ProgramTimes) -> fmt::Result {
    let ProgramTimes { runs, tokens, .. } = program;
    writeln!(
        f,
        "{}: {:.2} s in the mean of {runs} {} of {tokens} {} together",
        program.name,
        program.seconds,
        if *runs == 1 { "run" } else { "runs" },
        if *tokens == 1 { "token" } else { "tokens" },
    )?;
    writeln!(
        f,
        "  {:<14} {:<13} {:>7} {:>11} {:>11} {:>7}",
        "", "operation", "times", "measured s", "predicted s", "ratio"
    )?;
    for section in &program.sections {
        rows(f, &section.name, &section.classes, &section.total)?;
    }
    rows(f, "all together", &program.classes, &program.total)?;
    writeln!(f)
}

/// Kinds that matter, the others together, and all.
fn rows(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    classes: &[ClassTimes],
    total: &ClassTimes,
) -> fmt::Result {
    let matters = |times: &&ClassTimes| {
        let share = (times.measured / total.measured).max(times.predicted / total.predicted);
        share >= SHOWN
    };
    let (shown, few): (Vec<&ClassTimes>, Vec<&ClassTimes>) = classes.iter().partition(matters);
    let normalized = few.iter().map(|times| times.normalized);
    let others = ClassTimes {
        class: "others".into(),
        count: few.iter().map(|times| times.count).sum(),
        measured: few.iter().map(|times| times.measured).sum(),
        normalized: normalized.sum(),
        predicted: few.iter().map(|times| times.predicted).sum(),
    };
    let others = (!few.is_empty()).then_some(&others);
    let all = shown.into_iter().chain(others).chain([total]);
    for (i, times) in all.enumerate() {
        row(f, if i == 0 { name } else { "" }, times)?;
    }
    Ok(())
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, times: &ClassTimes) -> fmt::Result {
    let ratio = times.ratio().map_or("-".into(), |r| format!("{r:.2}"));
    writeln!(
        f,
        "  {name:<14} {:<13} {:>7.0} {:>11.3} {:>11.3} {ratio:>7}",
        times.class, times.count, times.measured, times.predicted
    )
}
