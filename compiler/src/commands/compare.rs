//! `sottoc compare`.

use super::{Failure, print};
use crate::compare::{Alignment, Options, Side, Verdict, compare, slot_view};
use crate::frontend::Checkpoint;
use crate::input;
use crate::view::{Given, read};
use miette::Diagnostic;
use serde_json::{Value, json};
use sotto_ir::exec::Escape;
use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

/// Run two stages, plans or a golden file side by side in the clear, and name the first value that differs.
///
/// Programs of the same structure (stages and plans of one compilation, an edited stage and its original) are compared operation by
/// operation, declarations included; anything else at the sites that both name. Errors are relative to A's largest entry. A plan is
/// compared by its decode program.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 they agree, 1 something differs, 2 they cannot be compared.

Examples:
  sottoc compare dumps/02.packed.decode.txt edited.packed --model models/tiny
  sottoc compare dumps/03.leveled.decode.txt tiny.plan --model models/tiny
  sottoc compare golden.safetensors tiny.plan"
)]
pub struct Args {
    /// The first: a plan directory, a stage file or a golden file (.safetensors).
    a: PathBuf,
    /// The second.
    b: PathBuf,
    /// The checkpoint, whose weights stage files name.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Tokens to run on: ids with commas between, text (with --model), or safetensors with input_ids [1, T] [default: the golden file's,
    /// else some of the vocabulary].
    #[arg(long, value_name = "IDS|FILE")]
    input: Option<String>,
    /// Steps to run.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    positions: u32,
    /// Largest error that is none, relative to A's largest entry [default: 1e-9 between stages, 0.005 between a stage and a plan, 0.02
    /// between approximations and what they stand for].
    #[arg(long, value_name = "ERROR")]
    tolerance: Option<f64>,
    /// Print one line of JSON instead.
    #[arg(long)]
    json: bool,
}

/// A finding.
#[derive(Debug, Error, Diagnostic)]
#[error("{0}")]
#[diagnostic(code(compare_input::differ))]
struct Differ(String);

/// Input that gives no tokens.
#[derive(Debug, Error, Diagnostic)]
enum BadInput {
    /// Neither ids nor a file.
    #[error("--input {0}: neither token ids with commas between (1,2,3) nor a file")]
    #[diagnostic(code(compare_input::neither))]
    Neither(String),
    /// Text without a tokenizer.
    #[error("--input {0}: text needs the checkpoint's tokenizer; give --model, or token ids")]
    #[diagnostic(code(compare_input::no_model))]
    NoModel(String),
}

/// Declarations told one by one.
const LISTED: usize = 12;
/// A step of the default tokens through the vocabulary: prime, so that they differ.
const STRIDE: u32 = 7919;

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let checkpoint = args.model.as_deref().map(Checkpoint::open).transpose()?;
    let mut tokens = tokens(args, [&a, &b], checkpoint.as_ref())?;
    tokens.truncate(args.positions as usize);
    let options = Options {
        checkpoint: checkpoint.as_ref(),
        tokens,
        tolerance: args.tolerance,
    };
    let verdict = compare(&a, &b, &options)?;
    match args.json {
        true => print(format_args!("{}\n", json_line(&verdict)))?,
        false => print(format_args!("{}", Page(&verdict)))?,
    }
    match (verdict.agree(), verdict.site()) {
        (true, _) => Ok(()),
        (false, site) => {
            let said = format!(
                "they differ, first at {}",
                site.unwrap_or("an unknown site")
            );
            Err(Failure::Check(Box::new(Differ(said))))
        }
    }
}

/// The tokens asked for, else those of a golden file, else some.
fn tokens(
    args: &Args,
    sides: [&Given; 2],
    checkpoint: Option<&Checkpoint>,
) -> Result<Vec<u32>, Failure> {
    if let Some(asked) = &args.input {
        return asked_for(asked, checkpoint);
    }
    for side in sides {
        if let Given::Golden(golden) = side {
            return Ok(golden.input_ids.clone());
        }
    }
    let vocab = sides.iter().find_map(|side| match side {
        Given::Plan { plan, .. } => Some(plan.model.vocab),
        _ => checkpoint.map(|c| c.facts().vocab as u32),
    });
    let room = sides.iter().filter_map(|side| slot_view(side));
    let room = room.map(|view| view.capacity).min().unwrap_or(u32::MAX);
    let vocab = u64::from(vocab.unwrap_or(1).max(1));
    let token = |i: u32| (u64::from(i) * u64::from(STRIDE) % vocab) as u32;
    Ok((0..args.positions.min(room)).map(token).collect())
}

fn asked_for(asked: &str, checkpoint: Option<&Checkpoint>) -> Result<Vec<u32>, Failure> {
    let ids: Result<Vec<u32>, _> = asked.split(',').map(|id| id.trim().parse()).collect();
    if let Ok(ids) = ids {
        return Ok(ids);
    }
    let path = PathBuf::from(asked);
    if !path.is_file() {
        return Err(BadInput::Neither(asked.into()).into());
    }
    match checkpoint {
        Some(checkpoint) => Ok(input::sequence(checkpoint, &path)?),
        None if input::holds_ids(&path) => {
            let rows = sotto_ir::golden::read_ids(&path)?;
            Ok(rows.into_iter().next().unwrap_or_default())
        }
        None => Err(BadInput::NoModel(asked.into()).into()),
    }
}

struct Page<'a>(&'a Verdict);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0;
        let by = match v.alignment {
            Alignment::Operations => "operation by operation",
            Alignment::Sites => "at the sites that both name",
        };
        let (values, steps) = (v.values, v.steps);
        writeln!(
            f,
            "compared {by}: {values} values, {steps} whole steps, largest error within the tolerance of {:.1e} is {:.1e}",
            v.tolerance, v.largest
        )?;
        match &v.divergence {
            Some(d) => write!(f, "first difference: {d}")?,
            None => writeln!(f, "no value differs")?,
        }
        if let Some((side, error)) = &v.failure {
            writeln!(f, "{side:?} cannot go on: {error}")?;
        }
        for d in v.differences.iter().take(LISTED) {
            writeln!(
                f,
                "declared otherwise: {} ({}), {}: {} | {}",
                d.site,
                d.op,
                d.what,
                short(&d.a),
                short(&d.b)
            )?;
        }
        if v.differences.len() > LISTED {
            writeln!(f, "and {} more declarations", v.differences.len() - LISTED)?;
        }
        for (name, escapes) in [(Side::A, &v.escapes.0), (Side::B, &v.escapes.1)] {
            for e in escapes.iter().take(LISTED) {
                writeln!(
                    f,
                    "{name:?} leaves its range: {} ({}) reaches {:.4}, {:.4} is declared, {} times",
                    e.site, e.op, e.seen, e.declared, e.times
                )?;
            }
        }
        Ok(())
    }
}

/// A declaration that fits a line.
fn short(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

fn json_line(v: &Verdict) -> Value {
    let divergence = v.divergence.as_ref().map(|d| {
        json!({
            "position": d.position, "site": d.site, "layer": d.layer, "group": d.group, "op": d.op,
            "error": d.error, "difference": d.difference, "index": d.index,
            "reached": [d.reached.0, d.reached.1], "declared": [d.declared.0, d.declared.1],
        })
    });
    let failure = v.failure.as_ref().map(|(side, error)| {
        json!({"side": format!("{side:?}"), "site": error.site, "reason": error.what})
    });
    let differences = v.differences.iter().map(|d| {
        json!({"site": d.site, "layer": d.layer, "op": d.op, "what": d.what, "a": d.a, "b": d.b})
    });
    let escapes = |list: &[Escape]| -> Vec<Value> {
        let one = |e: &Escape| json!({"site": e.site, "op": e.op, "declared": e.declared, "seen": e.seen, "times": e.times});
        list.iter().map(one).collect()
    };
    json!({
        "agree": v.agree(),
        "first_site": v.site(),
        "aligned_by": match v.alignment { Alignment::Operations => "operations", Alignment::Sites => "sites" },
        "tolerance": v.tolerance,
        "steps": v.steps,
        "values": v.values,
        "largest_error_within": v.largest,
        "divergence": divergence,
        "failure": failure,
        "declared_otherwise": differences.collect::<Vec<_>>(),
        "out_of_range": {"a": escapes(&v.escapes.0), "b": escapes(&v.escapes.1)},
    })
}
