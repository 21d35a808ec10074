//! What the client does: the two ends of the model.

use crate::Digest;
use miette::Diagnostic;
use num_complex::Complex64;
use serde::{Deserialize, Serialize};

/// The client's side of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientPart {
    /// The vector it encrypts and uploads.
    pub input: Wire,
    /// The vectors it downloads and decrypts, in the order of the program's results: one unless the vocabulary exceeds the slots.
    pub outputs: Vec<Wire>,
    /// What the outputs are, laid end to end.
    pub output_kind: OutputKind,
    /// Who holds the embedding table. On the client, the input is the token's embedding, its position's row added where positions are
    /// learned; on the server, a one-hot vector.
    pub embedding: Placement,
    /// Who holds the head. On the client, the output is the final normalised hidden state.
    pub head: Placement,
    /// Token a sequence starts with.
    pub bos: Option<u32>,
    /// Tokens that end a sequence.
    pub eos: Vec<u32>,
    /// `tokenizer.json`, if the checkpoint has one.
    pub tokenizer: Option<FileEntry>,
    /// The embedding table [vocab, hidden] as little-endian f32, when the client holds it.
    pub embedding_table: Option<FileEntry>,
    /// Whether a row for its position is added to each token's embedding, by whoever holds the table of those.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learned_positions: bool,
    /// The rows of positions [capacity, hidden] as little-endian f32, where there are any and the client holds the embedding table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_table: Option<FileEntry>,
    /// The head [vocab, hidden] as little-endian f32, when the client holds it.
    pub head_table: Option<FileEntry>,
}

/// Vectors as they cross the wire, of one token or several side by side: feature f of token r stands at every slot p with
/// ⌊p / block⌋ ≡ f (mod width) and p ≡ r (mod block).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Features.
    pub count: u32,
    /// Power of two; places count.. are zero on input and mean nothing on output.
    pub width: u32,
    /// Tokens side by side, a power of two.
    pub block: u32,
    /// Real-world value = slot value × unit.
    pub unit: f64,
    /// Level of the ciphertext; degree 1.
    pub level: u32,
}

impl Wire {
    /// Slots after which the ciphertext repeats.
    pub fn period(&self) -> usize {
        self.width as usize * self.block as usize
    }
}

/// How tokens become vectors: rows of the embedding table [vocab, hidden] where the client holds it, to each added the row of its position
/// where positions are learned; else one-hot vectors.
#[derive(Clone, Copy, Debug)]
pub struct Embedding<'a> {
    /// The table, row by row; None where the server holds it.
    pub table: Option<&'a [f32]>,
    /// Rows of positions, of as many features; None where there are none or the server holds them.
    pub positions: Option<&'a [f32]>,
    /// Tokens that there are.
    pub vocab: u32,
    /// Features of a row.
    pub hidden: u32,
}

/// Why tokens have no input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Diagnostic)]
pub enum NoInput {
    /// An id outside the vocabulary.
    #[error("token id {id} is outside the vocabulary of {vocab}")]
    #[diagnostic(code(client_files::token))]
    Token {
        /// The id.
        id: u32,
        /// Size of the vocabulary.
        vocab: u32,
    },
    /// A position that the model has no row for.
    #[error("the plan has no row for position {position}: the session is full")]
    #[diagnostic(code(client_files::position))]
    Position {
        /// The position.
        position: u32,
    },
    /// No token, or more than stand side by side.
    #[error("{count} tokens at once, the plan takes 1 to {most}; split them")]
    #[diagnostic(code(client_files::count))]
    Count {
        /// Given.
        count: usize,
        /// Most.
        most: u32,
    },
}

impl Embedding<'_> {
    /// The slots to encrypt for tokens side by side, the first of them at `position` of its session, one period of the wire: their
    /// vectors over the wire's unit. Where there are fewer than the wire's block, the last one is repeated.
    ///
    /// # Errors
    /// An id outside the vocabulary, a position without a row, no token, or more than the wire takes.
    pub fn slots(
        &self,
        wire: &Wire,
        tokens: &[u32],
        position: u32,
    ) -> Result<Vec<Complex64>, NoInput> {
        let block = wire.block as usize;
        let (Some(&last), true) = (tokens.last(), tokens.len() <= block) else {
            return Err(NoInput::Count {
                count: tokens.len(),
                most: wire.block,
            });
        };
        let mut slots = vec![Complex64::ZERO; wire.period()];
        for r in 0..block {
            let token = tokens.get(r).copied().unwrap_or(last);
            let position = position + r.min(tokens.len() - 1) as u32;
            let side = slots.iter_mut().skip(r).step_by(block);
            self.place((token, position), wire.unit, side)?;
        }
        Ok(slots)
    }

    /// Puts the vector of one token at a position into slots.
    fn place<'s>(
        &self,
        (token, position): (u32, u32),
        unit: f64,
        mut slots: impl Iterator<Item = &'s mut Complex64>,
    ) -> Result<(), NoInput> {
        if token >= self.vocab {
            return Err(NoInput::Token {
                id: token,
                vocab: self.vocab,
            });
        }
        match self.table {
            Some(table) => {
                let mut values: Vec<f64> = self.row(table, token).collect();
                if let Some(positions) = self.positions {
                    let mut added = self.row(positions, position).peekable();
                    if added.peek().is_none() {
                        return Err(NoInput::Position { position });
                    }
                    values.iter_mut().zip(added).for_each(|(x, y)| *x += y);
                }
                for (slot, value) in slots.zip(values) {
                    slot.re = value / unit;
                }
            }
            None => {
                if let Some(slot) = slots.nth(token as usize) {
                    slot.re = 1.0 / unit;
                }
            }
        }
        Ok(())
    }

    /// A row of a table; nothing beyond its end.
    fn row<'t>(&self, table: &'t [f32], row: u32) -> impl Iterator<Item = f64> + use<'t> {
        let mut rows = table.chunks_exact(self.hidden.max(1) as usize);
        let row = rows.nth(row as usize);
        row.into_iter().flatten().copied().map(f64::from)
    }
}

/// What the client downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// One score per vocabulary entry.
    Logits,
    /// The final hidden state, normalised.
    Hidden,
}

/// Who holds a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Placement {
    Client,
    Server,
}

/// A file of the plan directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path inside the plan directory, `server/…` or `client/…`.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Of the content.
    pub digest: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: Wire = Wire {
        count: 2,
        width: 2,
        block: 2,
        unit: 2.0,
        level: 0,
    };

    fn parts(embedding: &Embedding<'_>, tokens: &[u32]) -> Result<Vec<f64>, NoInput> {
        let slots = embedding.slots(&WIRE, tokens, 0)?;
        Ok(slots.iter().map(|slot| slot.re).collect())
    }

    #[test]
    fn tokens_stand_side_by_side_and_the_last_is_repeated() {
        let table = [2.0, 4.0, 6.0, 8.0];
        let with = Embedding {
            table: Some(&table),
            positions: None,
            vocab: 2,
            hidden: 2,
        };
        assert_eq!(parts(&with, &[0, 1]).unwrap(), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(parts(&with, &[1]).unwrap(), [3.0, 3.0, 4.0, 4.0]);
        let one_hot = Embedding {
            table: None,
            ..with
        };
        assert_eq!(parts(&one_hot, &[0, 1]).unwrap(), [0.5, 0.0, 0.0, 0.5]);
        let rows = [10.0, 20.0, 30.0, 40.0];
        let learned = Embedding {
            positions: Some(&rows),
            ..with
        };
        assert_eq!(parts(&learned, &[0, 1]).unwrap(), [6.0, 18.0, 12.0, 24.0]);
        let late = learned.slots(&WIRE, &[0, 1], 1);
        assert_eq!(late, Err(NoInput::Position { position: 2 }));
        assert_eq!(parts(&with, &[2]), Err(NoInput::Token { id: 2, vocab: 2 }));
        for tokens in [&[][..], &[0, 0, 0]] {
            let count = tokens.len();
            assert_eq!(parts(&with, tokens), Err(NoInput::Count { count, most: 2 }));
        }
    }
}
