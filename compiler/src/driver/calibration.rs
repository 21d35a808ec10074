//! Calibration data, and the packed program's run over it.

use super::{CompileError, News, found};
use crate::frontend::Checkpoint;
use crate::input;
use crate::lower::{Options, Ranges};
use crate::pack::{self, CheckpointData};
use sotto_ir::decoder::{Decoder, Interpreter, KvCache, Rows};
use sotto_ir::fidelity::{Fidelity, largest};
use sotto_ir::plan::Placement;
use sotto_ir::slot::{Packed, Program};
use std::path::{Path, PathBuf};

/// Tokens that the packed program is run on, whole sequences spread over the data. The windows of approximations come from
/// all of the data; this run confirms them on slots and finds the ranges of values in between, at a few milliseconds a token.
const PACKED_TOKENS: usize = 512;

/// Ranges of fewer tokens come with a warning.
const FEW_TOKENS: usize = 500;

/// Places within a sequence at which another conversation is taken to begin.
const STARTS: usize = 4;
/// Sequences spliced from pieces of others, for each one.
const SPLICED: usize = 2;
/// Pieces of a spliced sequence, and tokens of a piece.
const PIECES: (usize, usize) = (8, 4);

/// Conversations that begin elsewhere than the data's do: from the middle of sequences, and spliced from pieces. The first few
/// positions decide how far softmax's denominators reach, and data that all begins alike says little of them: most prompts that begin
/// otherwise leave ranges taken from the bundled model's whole stories alone (`tests/tests/fidelity.rs` holds some of them to these).
/// Sequences of no more than a piece are left as they are.
fn other_starts(sequences: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let long: Vec<&Vec<u32>> = sequences
        .iter()
        .filter(|s| s.len() > PIECES.1 + 1)
        .collect();
    let mut found = Vec::new();
    for tokens in &long {
        for start in 1..=STARTS {
            let at = 1 + (tokens.len() - 1) * start / (STARTS + 1);
            found.push([&tokens[..1], &tokens[at..]].concat());
        }
    }
    // any generator does, as long as it is always the same
    let mut state = 1u64;
    let mut below = |n: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % n
    };
    for i in 0..SPLICED * long.len() {
        let mut spliced = long[i % long.len()][..1].to_vec();
        for _ in 0..PIECES.0 {
            let tokens = long[below(long.len())];
            let at = 1 + below(tokens.len() - PIECES.1);
            spliced.extend(&tokens[at..at + PIECES.1]);
        }
        found.push(spliced);
    }
    found
}

/// The calibration sequences, no longer than the context.
pub struct Calibration {
    /// Token ids, one conversation each.
    pub sequences: Vec<Vec<u32>>,
    /// Tokens that were given; the rest are their own, put together otherwise.
    given: usize,
    margin: f64,
}

impl Calibration {
    /// Reads the input named, or the one beside the model.
    pub fn open(
        checkpoint: &Checkpoint,
        input: Option<&Path>,
        options: &Options,
    ) -> Result<Self, CompileError> {
        let (model, context) = (checkpoint.dir(), options.context);
        let path = match input {
            Some(path) => path.into(),
            None => beside(model).ok_or_else(|| CompileError::NoCalibration {
                model: model.into(),
            })?,
        };
        let mut sequences = input::sequences(checkpoint, &path)?;
        let within = |tokens: &Vec<u32>| tokens.len().min(context as usize);
        let given = sequences.iter().map(within).sum();
        let starts = other_starts(&sequences);
        sequences.extend(starts);
        for tokens in &mut sequences {
            tokens.truncate(context as usize);
        }
        sequences.retain(|tokens| !tokens.is_empty());
        if sequences.iter().all(|tokens| tokens.len() < 2) && context > 1 {
            return Err(CompileError::Short { path });
        }
        Ok(Self {
            sequences,
            given,
            margin: options.margin,
        })
    }

    /// The ranges of the decoder's sites over all sequences.
    pub fn ranges(
        &self,
        decoder: &Decoder,
        checkpoint: &Checkpoint,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Ranges, CompileError> {
        let total = self.sequences.len();
        let ranges = Ranges::calibrate(decoder, checkpoint, &self.sequences, &mut |done| {
            tell(News::Doing {
                what: "calibrating",
                done,
                total,
            })
        })?;
        let given = self.given;
        let others = ranges.tokens.saturating_sub(given);
        let said = format!("calibrated on {given} tokens, and {others} with other beginnings");
        found(tell, said);
        if given < FEW_TOKENS {
            found(
                tell,
                format!(
                    "warning: ranges of fewer than {FEW_TOKENS} tokens say little of other text; --calibrate on more, or check with `sotto check --backend clear`"
                ),
            );
        }
        Ok(ranges)
    }

    /// Sequences for the packed run: evenly spread, about [`PACKED_TOKENS`] in all, the longest always among them.
    fn sample(&self) -> Vec<&Vec<u32>> {
        let total: usize = self.sequences.iter().map(Vec::len).sum();
        let stride = total.div_ceil(PACKED_TOKENS).max(1);
        let longest = self
            .sequences
            .iter()
            .enumerate()
            .max_by_key(|(i, s)| (s.len(), usize::MAX - i));
        let longest = longest.map(|(i, _)| i);
        let chosen = self.sequences.iter().enumerate();
        chosen
            .filter(|(i, _)| i % stride == 0 || Some(*i) == longest)
            .map(|(_, sequence)| sequence)
            .collect()
    }

    /// Records the packed program's ranges, and gives the largest deviation of its results from the decoder's, in standard
    /// deviations of the latter at that step.
    pub fn recalibrate(
        &self,
        program: &mut Program<Packed>,
        decoder: &Decoder,
        checkpoint: &Checkpoint,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<f64, CompileError> {
        let interpreter = Interpreter::new(decoder, checkpoint)?;
        let (mut inputs, mut truth) = (Vec::new(), Vec::new());
        for tokens in self.sample() {
            let block = program.block as usize;
            let runs = tokens.chunks(block).enumerate().map(|(run, tokens)| {
                let place = (tokens, run * block);
                let vector = pack::input(program, decoder, checkpoint, place)?;
                Ok::<_, CompileError>((vector, tokens.len() as u32))
            });
            inputs.push(runs.collect::<Result<Vec<_>, _>>()?);
            truth.push(interpreter.pass(&mut KvCache::new(decoder), tokens, &mut |_| ())?);
        }
        let returns = pack::returns(program, decoder);
        let declared = program.data.clone();
        let shape = program.clone();
        let data = CheckpointData::new(&declared, checkpoint, &decoder.model.positions);
        let mut errors = Vec::new();
        let total = inputs.iter().map(Vec::len).sum();
        pack::recalibrate(program, &data, &inputs, self.margin, |s, t, results| {
            let rows: &Rows = match returns {
                Placement::Server => &truth[s].logits,
                Placement::Client => &truth[s].hidden[decoder.model.layers],
            };
            let found = pack::output(&shape, results);
            tell(News::Doing {
                what: "running the packed program",
                done: errors.len(),
                total,
            });
            errors.push(Fidelity::of(&found, rows.row(t)));
        })?;
        let errors: Vec<Fidelity> = errors.into_iter().collect::<Result<_, _>>()?;
        Ok(largest(errors.iter().map(|e| e.error_sigma)))
    }
}

/// The calibration file that a model brings.
fn beside(model: &Path) -> Option<PathBuf> {
    let names = ["calibration.txt", "calibration.safetensors"];
    names
        .iter()
        .map(|name| model.join(name))
        .find(|path| path.is_file())
}
