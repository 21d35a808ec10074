//! What a value of the graph is while the graph is evaluated: a constant, or activations told by where each entry comes from.
//!
//! The sizes that a graph leaves open are bound to small numbers before evaluation, so that every shape, position and mask is
//! a plain constant. An activation is then an array whose every entry is a feature of one token of a [`Term`], times a
//! factor: reshapes, transposes, slices and repetitions just move entries, and whether a transposed and repeated tensor is the
//! keys of a grouped-query attention is seen entry by entry, however the exporter wrote it.

use super::array::Array;
use super::error::{OnnxError, Refusal, Step};
use super::graph::{Stored, floats};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// A weight: an initializer, or a small array that was computed from constants.
#[derive(Clone, Debug)]
pub(super) struct Weight {
    source: Source,
    /// Whether rows and columns of the source change places.
    transposed: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Stored(Arc<Stored>),
    Folded(Arc<Array<f64>>),
}

impl PartialEq for Weight {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.source, &other.source) {
            (Source::Stored(a), Source::Stored(b)) => Arc::ptr_eq(a, b),
            (Source::Folded(a), Source::Folded(b)) => a == b,
            _ => false,
        };
        same && self.transposed == other.transposed
    }
}

impl Weight {
    pub(super) fn stored(stored: &Arc<Stored>) -> Self {
        Self {
            source: Source::Stored(stored.clone()),
            transposed: false,
        }
    }

    pub(super) fn folded(array: &Array<f64>) -> Self {
        Self {
            source: Source::Folded(Arc::new(array.clone())),
            transposed: false,
        }
    }

    /// Extents, after transposition.
    pub(super) fn shape(&self) -> Vec<usize> {
        let mut shape = match &self.source {
            Source::Stored(stored) => stored.shape.clone(),
            Source::Folded(array) => array.shape.clone(),
        };
        if self.transposed {
            shape.reverse();
        }
        shape
    }

    /// Rows and columns exchanged; a vector stays what it is.
    pub(super) fn transpose(&self) -> Self {
        Self {
            source: self.source.clone(),
            transposed: self.transposed != (self.shape().len() == 2),
        }
    }

    /// The name in the file, for people.
    pub(super) fn name(&self) -> &str {
        match &self.source {
            Source::Stored(stored) => &stored.name,
            Source::Folded(_) => "computed from constants",
        }
    }

    /// Whether both hold the same matrix. Stored ones are compared as they lie, for they may be as large as models get.
    pub(super) fn same(&self, other: &Self, model: &Path) -> Result<bool, OnnxError> {
        let (Source::Stored(a), Source::Stored(b)) = (&self.source, &other.source) else {
            return Ok(self.load(model)? == other.load(model)?);
        };
        let (&[rows, columns], Some(each)) = (&self.shape()[..], a.format.bytes()) else {
            return Ok(self.load(model)? == other.load(model)?);
        };
        if self == other {
            return Ok(true);
        }
        if a.format != b.format || self.shape() != other.shape() {
            return Ok(false);
        }
        let (a, b) = (a.bytes(model)?, b.bytes(model)?);
        let place = |transposed: bool, row: usize, column: usize| {
            let entry = match transposed {
                true => column * rows + row,
                false => row * columns + column,
            };
            entry * each..(entry + 1) * each
        };
        Ok((0..rows).all(|row| {
            (0..columns).all(|column| {
                a[place(self.transposed, row, column)] == b[place(other.transposed, row, column)]
            })
        }))
    }

    /// The numbers, row-major after transposition.
    pub(super) fn load(&self, model: &Path) -> Result<Array<f64>, OnnxError> {
        let shape = self.shape();
        let data = match &self.source {
            Source::Folded(array) => array.data.clone(),
            Source::Stored(stored) => {
                let data = floats(stored.format, &stored.bytes(model)?);
                data.ok_or_else(|| OnnxError::Initializer {
                    path: model.into(),
                    name: stored.name.clone(),
                    cause: format!("holds {:?}, weights are floats", stored.format),
                    remedy: "export the model again",
                })?
            }
        };
        let data = match (self.transposed, &shape[..]) {
            (true, &[rows, columns]) => (0..rows * columns)
                .map(|i| data[i % columns * rows + i / columns])
                .collect(),
            _ => data,
        };
        Ok(Array { shape, data })
    }
}

/// A value of the graph.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// An optional input that is left out.
    Absent,
    /// Floats as stored, loaded only where their numbers matter.
    Weight(Weight),
    Float(Rc<Array<f64>>),
    Int(Rc<Array<i64>>),
    Bool(Rc<Array<bool>>),
    /// Activations.
    Act(Rc<Array<Entry>>),
}

impl Value {
    pub(super) fn float(array: Array<f64>) -> Self {
        Self::Float(array.into())
    }

    pub(super) fn int(array: Array<i64>) -> Self {
        Self::Int(array.into())
    }

    pub(super) fn bool(array: Array<bool>) -> Self {
        Self::Bool(array.into())
    }

    pub(super) fn act(array: Array<Entry>) -> Self {
        Self::Act(array.into())
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Absent => Vec::new(),
            Self::Weight(weight) => weight.shape(),
            Self::Float(array) => array.shape.clone(),
            Self::Int(array) => array.shape.clone(),
            Self::Bool(array) => array.shape.clone(),
            Self::Act(array) => array.shape.clone(),
        }
    }
}

/// One entry of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) term: TermId,
    /// Which of the term's tokens, from 0.
    pub(super) token: u32,
    /// Which of the token's features.
    pub(super) feature: u32,
    /// What it is multiplied by.
    pub(super) factor: f64,
}

/// A term by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TermId(pub(super) u32);

/// Cached keys and the new ones, or values, of one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cached {
    /// The input with those of earlier tokens, if the graph takes any.
    pub(super) past: Option<TermId>,
    /// Those of the tokens at hand.
    pub(super) now: TermId,
    pub(super) kv_heads: usize,
}

/// What a token's features are computed by.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Term {
    /// Token ids.
    Tokens,
    /// Keys or values of earlier tokens: which input of the graph.
    Past(usize),
    Embed(Weight),
    /// The weight is [out, in].
    Linear {
        x: TermId,
        weight: Weight,
        bias: Option<Weight>,
    },
    /// On the way to an RMSNorm: x².
    Square(TermId),
    /// Its mean, one feature.
    MeanSquare(TermId),
    /// Mean square plus eps.
    Shifted(TermId, f64),
    /// Square root of that.
    Root(TermId, f64),
    /// One over the root.
    InverseRoot(TermId, f64),
    /// x over the root.
    Normed(TermId, f64),
    Norm {
        x: TermId,
        eps: f64,
        weight: Weight,
    },
    /// Each head turned by the position times these frequencies.
    Rope {
        x: TermId,
        frequencies: Vec<f64>,
    },
    /// Products of queries and keys, feature head · positions + position; not yet scaled.
    Scores {
        q: TermId,
        k: Cached,
        heads: usize,
    },
    /// Scores with this scale, later tokens masked.
    Masked(TermId, f64),
    /// Softmax over positions.
    Probabilities(TermId),
    /// Where a probability is no number.
    NanTest(TermId),
    Attend {
        probabilities: TermId,
        v: Cached,
    },
    Sigmoid(TermId),
    Silu(TermId),
    Product(TermId, TermId),
    Sum(TermId, TermId),
}

impl Term {
    /// In words.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Tokens => "the token ids",
            Self::Past(_) => "keys or values of earlier tokens",
            Self::Embed(_) => "the embedding",
            Self::Linear { .. } => "a projection",
            Self::Square(_) => "a square",
            Self::MeanSquare(_) => "a mean square",
            Self::Shifted(..) => "a mean square plus eps",
            Self::Root(..) => "a root mean square",
            Self::InverseRoot(..) => "an inverse root mean square",
            Self::Normed(..) => "an RMSNorm without its weight",
            Self::Norm { .. } => "an RMSNorm",
            Self::Rope { .. } => "rotated queries or keys",
            Self::Scores { .. } => "attention scores",
            Self::Masked(..) => "masked attention scores",
            Self::Probabilities(_) => "attention probabilities",
            Self::NanTest(_) => "a test for NaN",
            Self::Attend { .. } => "attention's output",
            Self::Sigmoid(_) => "a sigmoid",
            Self::Silu(_) => "a SiLU",
            Self::Product(..) => "a product",
            Self::Sum(..) => "a sum on the residual stream",
        }
    }

    /// What a decoder does with it.
    pub(super) fn continuation(&self) -> &'static str {
        match self {
            Self::Tokens => "Gather from the embedding table",
            Self::Past(_) => "Concat with the new keys or values",
            Self::Embed(_) | Self::Sum(..) => {
                "RMSNorm (RMSNormalization, or Pow, ReduceMean, Add, Sqrt, Reciprocal, Mul, Mul), or Add to a branch"
            }
            Self::Linear { .. } => {
                "Add of a bias, Reshape to heads, rotary embedding, SiLU (Sigmoid, Mul), Mul by the gate, or Add to the \
                 residual stream"
            }
            Self::Square(_) => "ReduceMean over the features (RMSNorm)",
            Self::MeanSquare(_) => "Add of eps (RMSNorm)",
            Self::Shifted(..) => "Sqrt (RMSNorm)",
            Self::Root(..) => "Reciprocal (RMSNorm)",
            Self::InverseRoot(..) => "Mul with what was normed (RMSNorm)",
            Self::Normed(..) => "Mul by the weight (RMSNorm)",
            Self::Norm { .. } => "MatMul or Gemm with a projection's weight",
            Self::Rope { .. } => "attention, or Concat with earlier keys",
            Self::Scores { .. } => "scaling, Add of a causal mask, Softmax",
            Self::Masked(..) => "Softmax over the positions",
            Self::Probabilities(_) => "MatMul with the values",
            Self::NanTest(_) => "Where that puts 0 for NaN",
            Self::Attend { .. } => "the output projection",
            Self::Sigmoid(_) => "Mul with its own operand (SiLU)",
            Self::Silu(_) => "Mul by the up projection",
            Self::Product(..) => "the down projection",
        }
    }

    /// Whether it is whole: a partial term is one step of several, and must not be used for anything else.
    fn is_whole(&self) -> bool {
        matches!(
            self,
            Self::Embed(_)
                | Self::Linear { .. }
                | Self::Norm { .. }
                | Self::Attend { .. }
                | Self::Silu(_)
                | Self::Product(..)
                | Self::Sum(..)
        )
    }
}

/// All terms so far.
#[derive(Debug, Default)]
pub(super) struct Terms {
    list: Vec<Defined>,
}

#[derive(Debug)]
struct Defined {
    term: Term,
    /// Features of a token.
    width: usize,
    /// The node it was made at.
    node: usize,
}

impl Terms {
    /// The term's number; equal terms have one.
    pub(super) fn add(&mut self, term: Term, width: usize, node: usize) -> TermId {
        let known = self.list.iter().rposition(|known| known.term == term);
        let number = known.unwrap_or_else(|| {
            self.list.push(Defined { term, width, node });
            self.list.len() - 1
        });
        TermId(number as u32)
    }

    pub(super) fn get(&self, id: TermId) -> &Term {
        &self.list[id.0 as usize].term
    }

    pub(super) fn width(&self, id: TermId) -> usize {
        self.list[id.0 as usize].width
    }

    pub(super) fn node(&self, id: TermId) -> usize {
        self.list[id.0 as usize].node
    }

    /// The entries of a term for these tokens, a row each, in this shape.
    pub(super) fn entries(&self, term: TermId, tokens: &[u32], shape: &[usize]) -> Step<Value> {
        let width = self.width(term) as u32;
        let entries = tokens.iter().flat_map(|&token| {
            (0..width).map(move |feature| Entry {
                term,
                token,
                feature,
                factor: 1.0,
            })
        });
        let array = Array::vector(entries.collect()).reshape(shape);
        let array = array.ok_or_else(|| {
            Refusal::new(
                format!("the result does not fit {shape:?}"),
                "another shape",
            )
        })?;
        Ok(Value::act(array))
    }

    /// The whole term whose tokens are the array's rows.
    pub(super) fn whole(&self, array: &Array<Entry>) -> Option<Rows> {
        self.rows(array)
            .filter(|rows| self.get(rows.term).is_whole())
    }

    /// The term whose tokens are the array's rows, with all features in order and as they are.
    pub(super) fn rows(&self, array: &Array<Entry>) -> Option<Rows> {
        let width = array.width();
        let term = array.data.first()?.term;
        if self.width(term) != width {
            return None;
        }
        let row = |row: &[Entry]| {
            let token = row[0].token;
            let whole = row.iter().enumerate().all(|(i, entry)| {
                (
                    entry.term,
                    entry.token,
                    entry.feature as usize,
                    entry.factor,
                ) == (term, token, i, 1.0)
            });
            whole.then_some(token)
        };
        let tokens = array.data.chunks_exact(width).map(row);
        Some(Rows {
            term,
            tokens: tokens.collect::<Option<_>>()?,
            shape: array.shape.clone(),
        })
    }
}

/// An activation that is some tokens of a term, one a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    pub(super) term: TermId,
    pub(super) tokens: Vec<u32>,
    /// Of the array; the last extent is the term's width.
    pub(super) shape: Vec<usize>,
}
