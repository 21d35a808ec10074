//! `sotto eval`: how good a plan is over many positions, teacher-forced and left to run freely.

mod report;

use super::course::Course;
use super::trials::{Trial, TrialArgs, bound, share};
use super::{Failure, Meter, print};
use crate::StepProgress;
use crate::client::Tokens;
use report::{Forced, Free, Left, Position, Report};
use sotto_ir::fidelity::{Fidelity, divergence, most_likely, surprise};
use sotto_ir::golden::Golden;
use std::time::Instant;

/// Evaluate a plan against float64 over many positions: perplexity, agreement, divergence, and whether errors grow.
///
/// First the golden file's tokens are read, whatever the plan would have said (teacher-forced). Then the plan continues the golden's
/// prompt by its own most likely tokens (free-running), compared with float64's continuation as long as both are the same. Make the
/// golden from text that is not among the calibration data. Exits 1 where agreement or divergence are beyond what is allowed, and 2
/// where the golden file leaves nothing to judge: every position a near-tie, or no continuation (unless --forced-only).
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sottoc reference models/tiny --input heldout.txt --prompt 8 --generate 128 -o golden.safetensors
  sotto eval --plan tiny.plan --golden golden.safetensors --backend clear --noise
  sotto eval --plan tiny.plan --golden golden.safetensors --backend cpu --positions 8")]
pub struct Args {
    #[command(flatten)]
    trial: TrialArgs,
    /// Most positions of either run [default: all that golden and plan have].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    positions: Option<u32>,
    /// Error in standard deviations of the float64 logits that may exchange near-ties: the most likely token is compared where
    /// float64's first two are at least twice this apart.
    #[arg(long, value_name = "SIGMA", default_value_t = 0.02, value_parser = bound)]
    tolerance: f64,
    /// Least share of compared positions with the same most likely token.
    #[arg(long, value_name = "SHARE", default_value_t = 0.99, value_parser = share)]
    min_top1: f64,
    /// Largest mean divergence from float64, in nats.
    #[arg(long, value_name = "NATS", default_value_t = 1e-3, value_parser = bound)]
    max_kl: f64,
    /// Only read the golden's tokens; then it needs no continuation.
    #[arg(long)]
    forced_only: bool,
    /// Print one line of JSON instead.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (dir, golden) = args.trial.open()?;
    let most = args.positions.unwrap_or(u32::MAX).min(dir.plan().capacity) as usize;
    check_judgeable(args, &golden, most)?;
    let mut trial = args.trial.trial(&dir)?;
    let forced = forced(&mut trial, &golden, most)?;
    trial.restart();
    let free = match args.forced_only {
        true => None,
        false => Some(free(args, &mut trial, &golden, most)?),
    };
    let report = Report {
        backend: args.trial.backend.name(),
        noise: args.trial.noise,
        tolerance: args.tolerance,
        forced,
        free,
    };
    match args.json {
        true => print(format_args!("{}\n", report.json()))?,
        false => print(format_args!("{report}"))?,
    }
    report.verdict(args.min_top1, args.max_kl)
}

/// Refuses a golden file by which nothing could be judged, before anything is computed.
fn check_judgeable(args: &Args, golden: &Golden, most: usize) -> Result<(), Failure> {
    let name = args.trial.golden.display();
    let count = golden.input_ids.len().min(most);
    let mut comparable = false;
    for t in 0..count {
        let truth = golden.logits.row(t);
        let itself = Fidelity::of(truth, truth).map_err(Failure::input)?;
        comparable |= itself.top1(args.tolerance).is_some();
    }
    if !comparable {
        return Err(Failure::Input(format!(
            "{name}: float64's first two tokens are nearer than twice --tolerance {} σ at all of {count} positions, so that none can be \
             compared; give a smaller --tolerance, more --positions, or a golden file of a longer text",
            args.tolerance
        )));
    }
    let (_, expected) = continuation(golden, most);
    if args.forced_only || (golden.prompt() > 0 && !expected.is_empty()) {
        return Ok(());
    }
    Err(Failure::Input(
        match golden.greedy_ids.len() > golden.prompt() {
            true => format!(
                "{name}: its prompt of {} tokens leaves no room for a continuation within {most} positions; give more --positions, or \
             --forced-only",
                golden.prompt()
            ),
            false => format!(
                "{name} has no continuation to judge the free-running plan by; make one with `sottoc reference --prompt P --generate N`, or \
             give --forced-only"
            ),
        },
    ))
}

/// The golden's prompt, and as much of what float64 made of it as fits so many tokens: the last token is told, not read.
fn continuation(golden: &Golden, most: usize) -> (&[u32], &[u32]) {
    let prompt = golden.prompt().min(golden.greedy_ids.len());
    let (read, expected) = golden.greedy_ids.split_at(prompt);
    let count = expected.len().min((most + 1).saturating_sub(prompt));
    (read, &expected[..count])
}

/// Reads the golden's tokens, at most so many.
fn forced(trial: &mut Trial, golden: &Golden, most: usize) -> Result<Forced, Failure> {
    let ids = &golden.input_ids;
    let count = ids.len().min(most);
    let meter = Meter::steps();
    let mut course = Course::new(count as u64);
    let mut run = Forced::default();
    for (t, &token) in ids[..count].iter().enumerate() {
        let what = format!("teacher-forced, position {} of {count}", t + 1);
        course.begin(&meter, t as u64, what);
        let mut hear = |progress: &StepProgress| course.hear(&meter, progress);
        let started = Instant::now();
        let (escapes, stopped) = (&mut run.escapes, &mut run.stopped);
        let Some(logits) = trial.step(Tokens::One(token), t, escapes, stopped, &mut hear)? else {
            break;
        };
        let truth = golden.logits.row(t);
        let next = ids.get(t + 1);
        let surprise = next.and_then(|&n| Some((surprise(&logits, n)?, surprise(truth, n)?)));
        run.positions.push(Position {
            fidelity: Fidelity::of(&logits, truth).map_err(Failure::input)?,
            divergence: divergence(&logits, truth),
            surprise,
            seconds: started.elapsed().as_secs_f64(),
        });
    }
    Ok(run)
}

/// Continues the golden's prompt, at most to so many tokens in all.
fn free(args: &Args, trial: &mut Trial, golden: &Golden, most: usize) -> Result<Free, Failure> {
    let (read, expected) = continuation(golden, most);
    let (prompt, count) = (read.len(), expected.len());
    let mut run = Free {
        prompt,
        asked: count,
        ..Free::default()
    };
    let total = (prompt + count - 1) as u64;
    let meter = Meter::steps();
    let mut course = Course::new(total);
    for (t, &token) in read
        .iter()
        .chain(expected)
        .take(prompt + count - 1)
        .enumerate()
    {
        let what = format!("free-running, position {} of {total}", t + 1);
        course.begin(&meter, t as u64, what);
        let mut hear = |progress: &StepProgress| course.hear(&meter, progress);
        // up to here the plan's own tokens are float64's
        let (escapes, stopped) = (&mut run.escapes, &mut run.stopped);
        let Some(logits) = trial.step(Tokens::One(token), t, escapes, stopped, &mut hear)? else {
            break;
        };
        let Some(made) = (t + 1).checked_sub(prompt) else {
            continue;
        };
        let truth = golden.greedy_logits.as_ref().map(|rows| rows.row(made));
        let fidelity = truth.map(|truth| Fidelity::of(&logits, truth)).transpose();
        let fidelity = fidelity.map_err(Failure::input)?;
        run.fidelities.extend(fidelity);
        run.divergences
            .extend(truth.map(|truth| divergence(&logits, truth)));
        if most_likely(&logits) != expected[made] {
            run.left = Some(Left {
                at: made,
                near_tie: fidelity.map(|f| f.top1(args.tolerance).is_none()),
                gap: fidelity.map(|f| f.gap_sigma),
            });
            break;
        }
        run.same += 1;
    }
    Ok(run)
}
