//! `sotto check`: a plan against the float64 truth, teacher-forced.

mod outcome;
mod report;

use super::course::Course;
use super::escapes::{FirstEscape, Stopped};
use super::trials::{Trial, TrialArgs, bound};
use super::{Failure, Meter, print};
use crate::StepProgress;
use crate::client::Tokens;
use crate::plan::PlanDir;
use outcome::Outcome;
use report::StepReport;
use serde_json::json;
use sotto_ir::fidelity::Fidelity;
use sotto_ir::golden::Golden;
use std::time::Instant;

/// Compare what a plan computes with float64, step by step on a golden file's tokens.
///
/// Per step: the largest logit error in units of the float64 logits' standard deviation, and whether the most likely token
/// agrees: `same`, `OTHER`, or `close` where float64's first two are less than twice the tolerance apart and either would do. Exits 1
/// on a miss.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sotto check --plan tiny.plan --golden golden.safetensors --backend clear --noise
  sotto check --plan tiny.plan --golden golden.safetensors --backend cpu --steps 2")]
pub struct Args {
    #[command(flatten)]
    trial: TrialArgs,
    /// Steps to run [default: all of the golden's tokens].
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Take the first N tokens in the plan's blocks, as a prompt; each block is a step, compared after its last token.
    #[arg(long, value_name = "N")]
    prompt: Option<usize>,
    /// Largest logit error allowed, in standard deviations of the float64 logits.
    #[arg(long, value_name = "SIGMA", default_value_t = 0.02, value_parser = bound)]
    tolerance: f64,
    /// End with one line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (dir, golden) = args.trial.open()?;
    let steps = steps(args, &dir, &golden)?;
    let trial = args.trial.trial(&dir)?;
    let (outcome, told) = compare(args, trial, &golden, steps)?;
    let told = told.and_then(|()| match args.json {
        true => print(format_args!("{}\n", json_line(args, &outcome))),
        false => print(format_args!("{outcome}")),
    });
    // A miss is a miss, whoever listens.
    outcome.verdict(args.tolerance).and(told)
}

/// Runs the steps, telling each as it comes; beside the outcome, whether it was heard. Ends early where values have left their ranges so far that the plan's rules no longer
/// hold.
fn compare(
    args: &Args,
    mut trial: Trial,
    golden: &Golden,
    steps: usize,
) -> Result<(Outcome, Result<(), Failure>), Failure> {
    let mut outcome = Outcome::default();
    let mut told = Ok(());
    let meter = Meter::steps();
    let mut course = Course::new(steps as u64);
    let mut tell = |line: String| {
        if told.is_ok() && !args.json {
            told = meter.aside(|| print(format_args!("{line}\n")));
        }
    };
    tell("step     token  error [σ]  top-1  seconds".into());
    let mut position = 0;
    while let Some(tokens) = next(args, &golden.input_ids[..steps], position, trial.block()) {
        let started = Instant::now();
        let what = format!("step {} of {steps}", position + 1);
        course.begin(&meter, position as u64, what);
        // a block's answer is that to its last token
        position += tokens.count() as usize;
        let (position, token) = (position - 1, golden.input_ids[position - 1]);
        let (escapes, stopped) = (&mut outcome.escapes, &mut outcome.stopped);
        let mut hear = |progress: &StepProgress| course.hear(&meter, progress);
        let Some(logits) = trial.step(tokens, position, escapes, stopped, &mut hear)? else {
            break;
        };
        let report = StepReport {
            fidelity: Fidelity::of(&logits, golden.logits.row(position)).map_err(Failure::input)?,
            tolerance: args.tolerance,
            seconds: started.elapsed().as_secs_f64(),
        };
        tell(format!("{position:>4} {token:>9}  {report}"));
        outcome.reports.push(report);
    }
    Ok((outcome, told))
}

/// What runs next: a block as long as the prompt lasts, else a token.
fn next<'t>(args: &Args, ids: &'t [u32], position: usize, block: u32) -> Option<Tokens<'t>> {
    let prompt = ids.len().min(args.prompt.unwrap_or(0));
    let rest = ids.get(position..prompt).unwrap_or_default();
    match rest {
        [] => ids.get(position).copied().map(Tokens::One),
        _ => Some(Tokens::Block(&rest[..rest.len().min(block as usize)])),
    }
}

fn steps(args: &Args, dir: &PlanDir, golden: &Golden) -> Result<usize, Failure> {
    let tokens = golden.input_ids.len();
    let capacity = dir.plan().capacity as usize;
    let steps = args.steps.unwrap_or(tokens);
    if steps == 0 || steps > tokens {
        return Err(Failure::Input(format!(
            "--steps {steps}: {} has {tokens} tokens; give 1 to {tokens}",
            args.trial.golden.display()
        )));
    }
    if steps > capacity {
        return Err(Failure::Input(format!(
            "{steps} steps are more than the {capacity} tokens the plan holds; give --steps {capacity}, or compile with a larger --context"
        )));
    }
    if args.prompt.is_some() && dir.plan().prefill.is_none() {
        return Err(Failure::Input(
            "--prompt: the plan takes a prompt token by token; compile with --block for a program that takes several at once".into(),
        ));
    }
    Ok(steps)
}

fn json_line(args: &Args, outcome: &Outcome) -> serde_json::Value {
    let summary = outcome.summary();
    let steps: Vec<_> = outcome.reports.iter().map(StepReport::json).collect();
    json!({
        "backend": args.trial.backend.name(),
        "noise": args.trial.noise,
        "tolerance": args.tolerance,
        "steps": steps,
        "max_logit_error_sigma": summary.largest,
        "top1": {"agree": summary.top1.agree, "compared": summary.top1.compared},
        "misses": summary.misses,
        "out_of_range": outcome.escapes.iter().map(FirstEscape::json).collect::<Vec<_>>(),
        "stopped": outcome.stopped.as_ref().map(Stopped::json),
    })
}
