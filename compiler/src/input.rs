//! Token sequences from files: text, or safetensors with `input_ids` (chosen by the `.safetensors` suffix).

use crate::frontend::{Checkpoint, Tokenizer, TokenizerError};
use miette::Diagnostic;
use sotto_ir::golden::{self, GoldenError};
use std::path::{Path, PathBuf};

/// Why a file gave no tokens.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum InputError {
    /// Text that does not read.
    #[error(
        "{path}: {source}; inputs are UTF-8 text, or safetensors with input_ids and the suffix .safetensors"
    )]
    #[diagnostic(code(input::text))]
    Text {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Token ids that do not read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ids(#[from] GoldenError),
    /// Text that does not tokenize.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Nothing in it.
    #[error("{path}: there is no text in it")]
    #[diagnostic(code(input::empty))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Several sequences where one is needed.
    #[error("{path}: input_ids holds {found} sequences, one is needed: [1, tokens]")]
    #[diagnostic(code(input::several))]
    Several {
        /// The file.
        path: PathBuf,
        /// How many.
        found: usize,
    },
}

/// Whether the file holds token ids rather than text.
pub fn holds_ids(path: &Path) -> bool {
    path.extension()
        .is_some_and(|suffix| suffix == "safetensors")
}

/// One sequence: the file's text as a whole (less the line break at its end) after BOS, or the one row of `input_ids`.
pub fn sequence(checkpoint: &Checkpoint, path: &Path) -> Result<Vec<u32>, InputError> {
    if !holds_ids(path) {
        let text = text(path)?;
        return Ok(Tokenizer::open(checkpoint)?.encode(text.trim_end_matches(['\n', '\r']))?);
    }
    let mut sequences = golden::read_ids(path)?;
    match sequences.len() {
        1 => Ok(sequences.remove(0)),
        found => Err(InputError::Several {
            path: path.into(),
            found,
        }),
    }
}

/// Several sequences: each line of the text after BOS, or the rows of `input_ids`; cut to the model's longest sequence.
pub fn sequences(checkpoint: &Checkpoint, path: &Path) -> Result<Vec<Vec<u32>>, InputError> {
    let mut sequences = if holds_ids(path) {
        golden::read_ids(path)?
    } else {
        let tokenizer = Tokenizer::open(checkpoint)?;
        let text = text(path)?;
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| tokenizer.encode(line))
            .collect::<Result<_, _>>()?
    };
    sequences
        .iter_mut()
        .for_each(|tokens| tokens.truncate(checkpoint.facts().max_positions));
    Ok(sequences)
}

fn text(path: &Path) -> Result<String, InputError> {
    let text = std::fs::read_to_string(path).map_err(|source| InputError::Text {
        path: path.into(),
        source,
    })?;
    if text.trim().is_empty() {
        return Err(InputError::Empty { path: path.into() });
    }
    Ok(text)
}
