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
/// golden from text that is not among the calibration data. Exits 1 where agreement or divergence are beyond what is allowed.
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
    /// Print one line of JSON instead.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (dir, golden) = args.trial.open()?;
    let most = args.positions.unwrap_or(u32::MAX).min(dir.plan().capacity) as usize;
    let mut trial = args.trial.trial(&dir)?;
    let forced = forced(&mut trial, &golden, most)?;
    trial.restart();
    let free = free(args, &mut trial, &golden, most)?;
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
    let prompt = golden.prompt();
    let (read, expected) = golden
        .greedy_ids
        .split_at(prompt.min(golden.greedy_ids.len()));
    // the last token is told, not read
    let count = expected.len().min((most + 1).saturating_sub(prompt));
    let mut run = Free {
        prompt,
        asked: count,
        ..Free::default()
    };
    if count == 0 || prompt == 0 {
        return Ok(run);
    }
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
