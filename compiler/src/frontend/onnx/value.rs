//! What a value of the graph is while the graph is evaluated: a constant, or activations told by where each entry comes from.
//!
//! The sizes that a graph leaves open are bound to small numbers before evaluation, so that every shape, position and mask is
//! a plain constant. An activation is then an array whose every entry is a feature of one token of a [`Term`], times a
//! factor: reshapes, transposes, slices and repetitions just move entries, and whether a transposed and repeated tensor is the
//! keys of a grouped-query attention is seen entry by entry, however the exporter wrote it.

use super::array::{Array, broadcast, count};
use super::error::{Refusal, Step};
use super::weight::Weight;
use sotto_ir::decoder::{Activation, Architecture};
use std::rc::Rc;

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

impl Array<Entry> {
    /// The factor that all entries have, if they have one.
    pub(super) fn factor(&self) -> Option<f64> {
        let factor = self.data.first()?.factor;
        let same = self.data.iter().all(|entry| entry.factor == factor);
        same.then_some(factor)
    }
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
    /// An embedding plus the row of a table [positions, hidden] for the token's position.
    Positioned {
        x: TermId,
        table: Weight,
    },
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
    /// (x − mean) over the root of the variance plus eps, times weight, plus bias.
    LayerNorm {
        x: TermId,
        eps: f64,
        weight: Weight,
        bias: Weight,
    },
    /// Neighbouring features of a wider projection, from `first` on.
    Part {
        x: TermId,
        first: usize,
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
    /// On the way to a GELU: x³.
    Cube(TermId),
    /// x + 0.044715·x³.
    GeluArgument(TermId),
    /// tanh(√(2/π)·argument), or erf(x/√2): the GELU it is a step to.
    GeluGate(TermId, Activation),
    /// One more than the gate.
    GeluShare(TermId, Activation),
    Activated(TermId, Activation),
    Product(TermId, TermId),
    Sum(TermId, TermId),
}

impl Term {
    /// Whether it is whole: a partial term is one step of several, and must not be used for anything else.
    fn is_whole(&self) -> bool {
        matches!(
            self,
            Self::Embed(_)
                | Self::Positioned { .. }
                | Self::Linear { .. }
                | Self::Norm { .. }
                | Self::LayerNorm { .. }
                | Self::Attend { .. }
                | Self::Activated(..)
                | Self::Product(..)
                | Self::Sum(..)
        )
    }

    /// The family of decoders that it is a part of, if it is of one only.
    fn family(&self) -> Option<Architecture> {
        match self {
            Self::Norm { .. } | Self::Rope { .. } => Some(Architecture::Llama),
            Self::Positioned { .. } | Self::LayerNorm { .. } => Some(Architecture::Gpt2),
            _ => None,
        }
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

    /// The family of decoders that the graph is of, as far as can be seen.
    pub(super) fn family(&self) -> Option<Architecture> {
        self.list.iter().find_map(|known| known.term.family())
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

    /// The same of an array whose entries are all times one factor, with that.
    pub(super) fn scaled_rows(&self, array: &Array<Entry>) -> Option<(Rows, f64)> {
        let factor = array.factor()?;
        let plain = array.map(|entry| Entry {
            factor: 1.0,
            ..*entry
        });
        Some((self.rows(&plain)?, factor))
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

impl Rows {
    /// Extents ahead of the features.
    fn outer(&self) -> &[usize] {
        self.shape.split_last().map_or(&[], |(_, outer)| outer)
    }

    /// The rows that an operation entry by entry makes of these and others, of this term; none unless each token's meet the same
    /// token's: broadcasting may put every token's together with every other's.
    pub(super) fn beside(&self, other: &Self) -> Option<Self> {
        let outer = broadcast(self.outer(), other.outer())?;
        let paired = self.tokens == other.tokens && count(&outer) == Some(self.tokens.len());
        paired.then(|| Self {
            shape: [&outer[..], &self.shape[self.outer().len()..]].concat(),
            ..self.clone()
        })
    }
}
