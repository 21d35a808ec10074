//! `sottoc reference`.

use super::{Failure, meter::Meter, say_replacing};
use crate::frontend::Checkpoint;
use crate::{input, reference};
use miette::Diagnostic;
use sotto_ir::decoder::Interpreter;
use std::path::PathBuf;
use thiserror::Error;

/// Compute a model's hidden states, keys, values, logits and greedy continuation in float64.
///
/// The output is a golden file: safetensors with input_ids [1, T], logits and logits.stepwise [T, vocab], hidden.i
/// [T, hidden], keys.i and values.i [kv_heads, T, head_dim], greedy_ids, and logits.greedy for each generated token.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sottoc reference models/tiny --input prompt.txt -o golden.safetensors --generate 32
  sottoc reference MODEL --input ids.safetensors -o golden.safetensors")]
pub struct Args {
    /// Checkpoint directory: config.json, safetensors, tokenizer.json.
    model: PathBuf,
    /// Text, to which the BOS token is prepended, or safetensors with input_ids [1, T].
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The golden file to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Tokens to generate greedily.
    #[arg(long, value_name = "N", default_value_t = 8)]
    generate: usize,
    /// Input tokens that the generation starts from [default: all of a text, 3 of input_ids].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    prompt: Option<u32>,
}

/// How many of given token ids the generation starts from, unless told otherwise: goldens hold teacher-forced positions and
/// a continuation of their first few.
const PROMPT_OF_IDS: usize = 3;

/// A continuation that the model has no positions for.
#[derive(Debug, Error, Diagnostic)]
#[error(
    "--generate {asked}: the model has {positions} positions, and a prompt of {prompt} tokens leaves room for {room} more"
)]
#[diagnostic(code(reference::room))]
struct NoRoom {
    asked: usize,
    prompt: usize,
    positions: usize,
    room: usize,
}

/// Refuses a continuation past the model's last position. The last token is told, not read.
fn check_room(asked: usize, prompt: usize, positions: usize) -> Result<(), NoRoom> {
    let room = (positions + 1).saturating_sub(prompt);
    // a prompt that is itself too long is another error
    if asked <= room || prompt > positions {
        return Ok(());
    }
    Err(NoRoom {
        asked,
        prompt,
        positions,
        room,
    })
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let checkpoint = Checkpoint::open(&args.model)?;
    let tokens = input::sequence(&checkpoint, &args.input)?;
    let prompt = match args.prompt {
        Some(prompt) => prompt as usize,
        None if input::holds_ids(&args.input) => PROMPT_OF_IDS,
        None => tokens.len(),
    };
    let prompt = prompt.min(tokens.len());
    check_room(args.generate, prompt, checkpoint.facts().max_positions)?;
    let decoder = checkpoint.decoder()?;
    let interpreter = Interpreter::new(&decoder, &checkpoint)?;
    let total = tokens.len() + args.generate;
    let mut meter = Meter::new();
    let mut done = |done| meter.set("computing in float64", done, total);
    let golden = reference::reference(&interpreter, &tokens, prompt, args.generate, &mut done)?;
    drop(meter);
    say_replacing(&args.output);
    golden.write(&args.output)?;
    Ok(())
}
