//! The `decoder` stage: the model exactly as its checkpoint and configuration describe it.
//!
//! A [`Decoder`] holds three [`Template`]s of tensor operations on one token's vectors: `embed` (token to residual stream),
//! `layer` (run once per layer, `{i}` in its names standing for the layer) and `final` (norm and head). Keys and values
//! of earlier tokens are a declared [`State`] that each layer owns one of. Weights are named, never held: a
//! [`WeightSource`] resolves the names.
//!
//! - Text form: [`std::fmt::Display`] prints, [`std::str::FromStr`] parses back to the same value.
//! - Meaning: [`Interpreter`], in float64.
//! - What holds: [`Decoder::verify`].

mod facts;
#[cfg(test)]
mod gpt2_tests;
mod interpret;
mod kernels;
mod parse;
mod print;
#[cfg(test)]
mod tests;
mod verify;
mod weights;

pub use facts::{
    Activation, Architecture, AttentionBias, ModelFacts, Positions, Rope, RopeScaling,
};
pub use interpret::{InterpretError, Interpreter, KvCache, Observation, Pass, Rows};
pub use weights::{Tensor, Tensors, WeightError, WeightSource, check_rows};

use crate::Digest;
use serde::{Deserialize, Serialize};

/// Version of the text form; the parser refuses any other.
pub const DECODER_VERSION: u32 = 2;

/// A model: facts, state and templates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decoder {
    /// Names the checkpoint whose tensors the templates name.
    pub checkpoint: Digest,
    /// Sizes and constants.
    pub model: ModelFacts,
    /// State that every layer owns one of.
    pub states: Vec<State>,
    /// Token id to residual stream.
    pub embed: Template,
    /// One layer, residual stream to residual stream; run `model.layers` times.
    pub layer: Template,
    /// Residual stream to logits.
    pub final_: Template,
}

/// Keys and values of all tokens so far, one pair of vectors per token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The name operations use.
    pub name: String,
    /// Key (and value) heads.
    pub kv_heads: usize,
    /// Features of one head.
    pub head_dim: usize,
}

/// A straight-line function of one token's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// Its argument.
    pub param: (Value, Type),
    /// Statements in order.
    pub insts: Vec<Inst>,
    /// What it returns.
    pub result: Value,
}

impl Template {
    /// The statement that defines `value`, if one does.
    pub fn definition(&self, value: Value) -> Option<&Inst> {
        self.insts
            .iter()
            .find(|inst| inst.result.is_some_and(|(defined, _)| defined == value))
    }
}

/// An SSA value, printed `%n`; its number means something within one template only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Value(pub u32);

/// What a value holds for one token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Type {
    /// A token id.
    Token,
    /// That many features.
    Vector(usize),
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inst {
    /// The value it defines and its type; none for [`Op::KvAppend`].
    pub result: Option<(Value, Type)>,
    /// What it does.
    pub op: Op,
    /// Where in the model it comes from: `layers.{i}.attention.q_proj`.
    pub site: String,
}

/// An operation. Weight names may contain `{i}`, the layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Row `token` of `weight` [vocab, features].
    Embed {
        /// A token id.
        token: Value,
        /// Tensor name.
        weight: String,
    },
    /// Row p of `weight` [max_positions, features], p being the token's position.
    Position {
        /// A token id.
        token: Value,
        /// Tensor name.
        weight: String,
    },
    /// `weight`·x + `bias`, with `weight` [out, in].
    Linear {
        /// The vector.
        x: Value,
        /// Tensor name.
        weight: String,
        /// Tensor name, [out].
        bias: Option<String>,
    },
    /// `weight` ⊙ x / sqrt(mean(x²) + `eps`).
    RmsNorm {
        /// The vector.
        x: Value,
        /// Tensor name, [features].
        weight: String,
        /// Added to the mean square.
        eps: f64,
    },
    /// `weight` ⊙ (x − mean(x)) / sqrt(var(x) + `eps`) + `bias`, with the variance of all features (Ba, Kiros, Hinton, arXiv 1607.06450).
    LayerNorm {
        /// The vector.
        x: Value,
        /// Tensor name, [features].
        weight: String,
        /// Tensor name, [features].
        bias: String,
        /// Added to the variance.
        eps: f64,
    },
    /// Rotary embedding of every head of x at the token's position, by [`ModelFacts::positions`].
    Rope {
        /// Heads side by side.
        x: Value,
        /// Features of one head.
        head_dim: usize,
    },
    /// Appends this token's key and value to the layer's state.
    KvAppend {
        /// Which state.
        state: String,
        /// Key heads side by side.
        k: Value,
        /// Value heads side by side.
        v: Value,
    },
    /// Softmax attention of every query head over all tokens in the layer's state (this one included): head h reads key
    /// and value head h / (heads / kv_heads).
    Attend {
        /// Query heads side by side.
        q: Value,
        /// Which state.
        state: String,
        /// Query heads.
        heads: usize,
        /// Multiplies the scores q·k; usually 1/sqrt(head_dim).
        scale: f64,
    },
    /// A function of every feature by itself.
    Activate {
        /// The vector.
        x: Value,
        /// Which.
        function: Activation,
    },
    /// Product, feature by feature.
    Mul {
        /// One factor.
        a: Value,
        /// The other.
        b: Value,
    },
    /// Sum, feature by feature.
    Add {
        /// One term.
        a: Value,
        /// The other.
        b: Value,
    },
}

impl Op {
    /// The name in the text form.
    pub fn mnemonic(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::Position { .. } => "position",
            Self::Linear { .. } => "linear",
            Self::RmsNorm { .. } => "rmsnorm",
            Self::LayerNorm { .. } => "layernorm",
            Self::Rope { .. } => "rope",
            Self::KvAppend { .. } => "kv_append",
            Self::Attend { .. } => "attend",
            Self::Activate { function, .. } => function.name(),
            Self::Mul { .. } => "mul",
            Self::Add { .. } => "add",
        }
    }

    /// Values it reads.
    pub fn operands(&self) -> Vec<Value> {
        match *self {
            Self::Embed { token, .. } | Self::Position { token, .. } => vec![token],
            Self::Linear { x, .. }
            | Self::RmsNorm { x, .. }
            | Self::LayerNorm { x, .. }
            | Self::Rope { x, .. }
            | Self::Activate { x, .. } => vec![x],
            Self::KvAppend { k, v, .. } => vec![k, v],
            Self::Attend { q, .. } => vec![q],
            Self::Mul { a, b } | Self::Add { a, b } => vec![a, b],
        }
    }

    /// Tensors it reads, `{i}` still in their names.
    pub fn tensors(&self) -> Vec<&str> {
        match self {
            Self::Embed { weight, .. }
            | Self::Position { weight, .. }
            | Self::RmsNorm { weight, .. } => vec![weight],
            Self::LayerNorm { weight, bias, .. } => vec![weight, bias],
            Self::Linear { weight, bias, .. } => std::iter::once(weight)
                .chain(bias)
                .map(String::as_str)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// `name` with the layer in place of `{i}`.
pub fn instantiate(name: &str, layer: usize) -> String {
    name.replace("{i}", &layer.to_string())
}

impl Decoder {
    /// The templates with their names in the text form.
    pub fn templates(&self) -> [(&'static str, &Template); 3] {
        [
            ("embed", &self.embed),
            ("layer", &self.layer),
            ("final", &self.final_),
        ]
    }

    /// Every tensor the model reads, with its shape; layer by layer, in the order of use. Meaningful on a verified stage.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let layers = (0..self.model.layers).flat_map(|i| {
            let named = self.template_tensors(&self.layer).into_iter();
            named.map(move |(name, shape)| (instantiate(&name, i), shape))
        });
        let mut tensors = self.template_tensors(&self.embed);
        tensors.extend(layers);
        tensors.extend(self.template_tensors(&self.final_));
        tensors
    }

    fn template_tensors(&self, template: &Template) -> Vec<(String, Vec<usize>)> {
        let width = |value: Value| {
            let defined = template.definition(value).and_then(|inst| inst.result);
            match defined.unwrap_or(template.param).1 {
                Type::Vector(width) => width,
                Type::Token => self.model.vocab,
            }
        };
        let mut tensors = Vec::new();
        for inst in &template.insts {
            let Some((result, _)) = inst.result else {
                continue;
            };
            let out = width(result);
            match &inst.op {
                Op::Embed { token: x, weight } => {
                    tensors.push((weight.clone(), vec![width(*x), out]))
                }
                Op::Linear { x, weight, bias } => {
                    // An embedding table is [vocab, features] too, so a tied head needs no transposition.
                    tensors.push((weight.clone(), vec![out, width(*x)]));
                    tensors.extend(bias.iter().map(|bias| (bias.clone(), vec![out])));
                }
                Op::Position { weight, .. } => {
                    tensors.push((weight.clone(), vec![self.model.max_positions, out]));
                }
                Op::RmsNorm { weight, .. } => tensors.push((weight.clone(), vec![out])),
                Op::LayerNorm { weight, bias, .. } => {
                    tensors.extend([weight, bias].map(|name| (name.clone(), vec![out])));
                }
                _ => {}
            }
        }
        tensors
    }
}
