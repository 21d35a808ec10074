//! The client's ends of the model: tokenizer, embedding, and what the answer means.

use super::seal::Tokens;
use crate::plan::PlanDir;
use miette::Diagnostic;
use num_complex::Complex64;
use sotto_ir::plan::{
    ClientPart, Embedding, FileEntry, NoInput, OutputKind, Placement, PlanError, Weights, Wire,
};
use std::sync::Arc;
use tokenizers::Tokenizer;

/// What a plan leaves to the client, loaded.
pub struct ClientModel {
    part: ClientPart,
    /// What goes up and comes down for a block of tokens.
    block: Option<(Wire, Vec<Wire>)>,
    vocab: u32,
    hidden: usize,
    weights: Weights,
    tokenizer: Option<Arc<Tokenizer>>,
    embedding: Option<Vec<f32>>,
    /// Rows of positions, where the client adds them.
    positions: Option<Vec<f32>>,
    head: Option<Vec<f32>>,
}

/// Why the client's part of a plan cannot be used.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ModelError {
    /// A file of the plan cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// The tokenizer file is not one.
    #[error(
        "the plan's tokenizer cannot be read: {0}; compile again from a checkpoint with a working tokenizer.json"
    )]
    #[diagnostic(code(client_model::tokenizer))]
    Tokenizer(String),
    /// The plan has no tokenizer.
    #[error(
        "the plan has no tokenizer, because its checkpoint had no tokenizer.json; add one and compile again"
    )]
    #[diagnostic(code(client_model::no_tokenizer))]
    NoTokenizer,
    /// The plan was compiled from a preset.
    #[error(
        "the plan was compiled from a preset, which has no tokenizer and no meaning: there is no text to continue; compile from a \
         checkpoint that has a tokenizer.json"
    )]
    #[diagnostic(code(client_model::synthetic))]
    Synthetic,
    /// A table's size is wrong.
    #[error(
        "the plan's {what} has {found} entries where rows × hidden size is {expected}; compile again"
    )]
    #[diagnostic(code(client_model::table))]
    Table {
        /// Which table.
        what: &'static str,
        /// Entries found.
        found: usize,
        /// Entries expected.
        expected: usize,
    },
    /// A table that the plan's placement needs is absent.
    #[error("the plan leaves the {what} to the client but has no such file; compile again")]
    #[diagnostic(code(client_model::absent))]
    Absent {
        /// Which table.
        what: &'static str,
    },
    /// Tokens that cannot be sent.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Input(#[from] NoInput),
    /// An answer of the wrong shape.
    #[error(
        "the answer has {found} ciphertexts, the plan says {expected}; use the same plan and version of sotto on both sides"
    )]
    #[diagnostic(code(client_model::answer))]
    Answer {
        /// Found.
        found: usize,
        /// Expected.
        expected: usize,
    },
}

impl ClientModel {
    /// Loads the client's files of a plan.
    pub fn load(dir: &PlanDir) -> Result<Self, ModelError> {
        dir.require_weights()?;
        let plan = dir.plan();
        let part = plan.client.clone();
        let size = (plan.model.vocab as usize, plan.model.hidden as usize);
        let on_client = |place| place == Placement::Client;
        let tokenizer = match &part.tokenizer {
            Some(entry) => {
                let read = Tokenizer::from_bytes(dir.file(entry)?);
                Some(Arc::new(
                    read.map_err(|cause| ModelError::Tokenizer(cause.to_string()))?,
                ))
            }
            None => None,
        };
        let needs = |wanted: bool, entry, what, rows: usize| {
            wanted
                .then(|| table(dir, entry, what, rows * size.1))
                .transpose()
        };
        let embeds = on_client(part.embedding);
        Ok(Self {
            embedding: needs(
                embeds,
                part.embedding_table.as_ref(),
                "embedding table",
                size.0,
            )?,
            positions: needs(
                embeds && part.learned_positions,
                part.position_table.as_ref(),
                "position table",
                plan.capacity as usize,
            )?,
            head: needs(
                on_client(part.head),
                part.head_table.as_ref(),
                "head",
                size.0,
            )?,
            part,
            block: plan.prefill.as_ref().map(|p| (p.input, p.outputs.clone())),
            vocab: plan.model.vocab,
            hidden: size.1,
            weights: plan.model.weights,
            tokenizer,
        })
    }

    /// Size of the vocabulary.
    pub fn vocabulary(&self) -> u32 {
        self.vocab
    }

    /// Most tokens of a block; 1 where a prompt is taken token by token.
    pub fn block(&self) -> u32 {
        self.block.as_ref().map_or(1, |(input, _)| input.block)
    }

    /// What the plan says of the ciphertext that is sent for tokens.
    pub fn input_wire(&self, tokens: Tokens<'_>) -> Result<Wire, ModelError> {
        match (tokens, &self.block) {
            (Tokens::One(_), _) => Ok(self.part.input),
            (Tokens::Block(tokens), Some((wire, _)))
                if (1..=wire.block as usize).contains(&tokens.len()) =>
            {
                Ok(*wire)
            }
            (Tokens::Block(tokens), _) => {
                let (count, most) = (tokens.len(), self.block());
                Err(NoInput::Count { count, most }.into())
            }
        }
    }

    /// Tokens that end a text.
    pub fn end(&self) -> &[u32] {
        &self.part.eos
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> Result<&Arc<Tokenizer>, ModelError> {
        self.tokenizer.as_ref().ok_or(match self.weights {
            Weights::Checkpoint => ModelError::NoTokenizer,
            Weights::Synthetic(_) | Weights::None => ModelError::Synthetic,
        })
    }

    /// A prompt as token ids, the beginning-of-text token first where the model has one.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        let encoding = self
            .tokenizer()?
            .encode(text, false)
            .map_err(|cause| ModelError::Tokenizer(cause.to_string()))?;
        let bos = self.part.bos.into_iter();
        Ok(bos.chain(encoding.get_ids().iter().copied()).collect())
    }

    /// The slots to encrypt for tokens, one period, the first of them at `position` of the session: see [`Embedding::slots`].
    pub fn input(&self, tokens: Tokens<'_>, position: u32) -> Result<Vec<Complex64>, ModelError> {
        let embedding = Embedding {
            table: self.embedding.as_deref(),
            positions: self.positions.as_deref(),
            vocab: self.vocab,
            hidden: self.hidden as u32,
        };
        let wire = self.input_wire(tokens)?;
        let slots = match tokens {
            Tokens::One(token) => embedding.slots(&wire, &[token], position),
            Tokens::Block(tokens) => embedding.slots(&wire, tokens, position),
        };
        Ok(slots?)
    }

    /// What the plan says of the ciphertexts of the answer to tokens, in order.
    pub fn outputs(&self, tokens: Tokens<'_>) -> &[Wire] {
        match (tokens, &self.block) {
            (Tokens::Block(_), Some((_, outputs))) => outputs,
            _ => &self.part.outputs,
        }
    }

    /// Refuses an answer of more or fewer ciphertexts than the plan states.
    pub fn check_count(&self, tokens: Tokens<'_>, found: usize) -> Result<(), ModelError> {
        let expected = self.outputs(tokens).len();
        if found != expected {
            return Err(ModelError::Answer { found, expected });
        }
        Ok(())
    }

    /// Logits of the vocabulary from the decrypted answer to tokens, one period of each vector.
    pub fn logits(&self, tokens: Tokens<'_>, answer: &[Vec<f64>]) -> Result<Vec<f64>, ModelError> {
        self.check_count(tokens, answer.len())?;
        let mut values = Vec::new();
        for (wire, slots) in self.outputs(tokens).iter().zip(answer) {
            // every token's side has the answer; the first will do
            let side = slots.iter().step_by(wire.block as usize);
            let part = side.take(wire.count as usize);
            values.extend(part.map(|slot| slot * wire.unit));
        }
        match (self.part.output_kind, &self.head) {
            (OutputKind::Hidden, Some(head)) => Ok(head
                .chunks_exact(self.hidden)
                .map(|row| dot(row, &values))
                .collect()),
            (OutputKind::Hidden, None) => Err(ModelError::Absent { what: "head" }),
            (OutputKind::Logits, _) => {
                values.truncate(self.vocab as usize);
                Ok(values)
            }
        }
    }
}

fn dot(row: &[f32], values: &[f64]) -> f64 {
    row.iter().zip(values).map(|(&w, x)| f64::from(w) * x).sum()
}

/// A table of `expected` entries.
fn table(
    dir: &PlanDir,
    entry: Option<&FileEntry>,
    what: &'static str,
    expected: usize,
) -> Result<Vec<f32>, ModelError> {
    let table = dir.table(entry.ok_or(ModelError::Absent { what })?)?;
    if table.len() != expected {
        return Err(ModelError::Table {
            what,
            found: table.len(),
            expected,
        });
    }
    Ok(table)
}
