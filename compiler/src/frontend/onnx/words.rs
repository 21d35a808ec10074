//! Terms in words, for errors: what each is, and what a decoder does with it.

use super::value::Term;
use sotto_ir::decoder::{Activation, Architecture};

/// What a decoder of this family is called, or of any.
pub(super) fn decoder(family: Option<Architecture>) -> &'static str {
    match family {
        Some(Architecture::Llama) => "a Llama decoder",
        Some(Architecture::Gpt2) => "a GPT-2 decoder",
        None => "a Llama or GPT-2 decoder",
    }
}

impl Term {
    /// In words.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Tokens => "the token ids",
            Self::Past(_) => "keys or values of earlier tokens",
            Self::Embed(_) => "the embedding",
            Self::Positioned { .. } => "the embedding with its positions",
            Self::Linear { .. } => "a projection",
            Self::Part { .. } => "a part of a projection",
            Self::Square(_) => "a square",
            Self::MeanSquare(_) => "a mean square",
            Self::Shifted(..) => "a mean square plus eps",
            Self::Root(..) => "a root mean square",
            Self::InverseRoot(..) => "an inverse root mean square",
            Self::Normed(..) => "an RMSNorm without its weight",
            Self::Norm { .. } => "an RMSNorm",
            Self::LayerNorm { .. } => "a LayerNorm",
            Self::Rope { .. } => "rotated queries or keys",
            Self::Scores { .. } => "attention scores",
            Self::Masked(..) => "masked attention scores",
            Self::Probabilities(_) => "attention probabilities",
            Self::NanTest(_) => "a test for NaN",
            Self::Attend { .. } => "attention's output",
            Self::Sigmoid(_) => "a sigmoid",
            Self::Cube(_) => "a cube",
            Self::GeluArgument(_) => "a GELU's argument",
            Self::GeluGate(..) => "a GELU's tanh or erf",
            Self::GeluShare(..) => "a GELU's tanh or erf plus one",
            Self::Activated(_, Activation::Silu) => "a SiLU",
            Self::Activated(..) => "a GELU",
            Self::Product(..) => "a product",
            Self::Sum(..) => "a sum on the residual stream",
        }
    }

    /// What a decoder of this family, or of any, does with it.
    pub(super) fn continuation(&self, family: Option<Architecture>) -> &'static str {
        match self {
            Self::Tokens => "Gather from the embedding table",
            Self::Past(_) => "Concat with the new keys or values",
            Self::Embed(_) | Self::Positioned { .. } | Self::Sum(..) => stream(family),
            Self::Linear { .. } => projection(family),
            Self::Part { .. } => "attention",
            Self::Square(_) => "ReduceMean over the features (RMSNorm)",
            Self::MeanSquare(_) => "Add of eps (RMSNorm)",
            Self::Shifted(..) => "Sqrt (RMSNorm)",
            Self::Root(..) => "Reciprocal (RMSNorm)",
            Self::InverseRoot(..) => "Mul with what was normed (RMSNorm)",
            Self::Normed(..) => "Mul by the weight (RMSNorm)",
            Self::Norm { .. } | Self::LayerNorm { .. } => {
                "MatMul or Gemm with a projection's weight"
            }
            Self::Rope { .. } => "attention, or Concat with earlier keys",
            Self::Scores { .. } => "scaling, Add of a causal mask, Softmax",
            Self::Masked(..) => "Softmax over the positions",
            Self::Probabilities(_) => "MatMul with the values",
            Self::NanTest(_) => "Where that puts 0 for NaN",
            Self::Attend { .. } => "the output projection",
            Self::Sigmoid(_) => "Mul with its own operand (SiLU)",
            Self::Cube(_) => "Mul by 0.044715 and Add to what was cubed (GELU)",
            Self::GeluArgument(_) => "Mul by sqrt(2/pi) and Tanh (GELU)",
            Self::GeluGate(..) => "Add of 1 (GELU)",
            Self::GeluShare(..) => "Mul with half of the GELU's operand",
            Self::Activated(_, Activation::Silu) => "Mul by the up projection",
            Self::Activated(..) | Self::Product(..) => "the down projection",
        }
    }
}

/// What is done with the residual stream.
fn stream(family: Option<Architecture>) -> &'static str {
    match family {
        Some(Architecture::Llama) => {
            "RMSNorm (RMSNormalization, or Pow, ReduceMean, Add, Sqrt, Reciprocal, Mul, Mul), or Add to a branch"
        }
        Some(Architecture::Gpt2) => "LayerNormalization, or Add to a branch",
        None => {
            "RMSNorm (RMSNormalization, or Pow, ReduceMean, Add, Sqrt, Reciprocal, Mul, Mul) in a Llama, Add of the positions' \
             embedding in a GPT-2"
        }
    }
}

/// What is done with the result of a projection.
fn projection(family: Option<Architecture>) -> &'static str {
    match family {
        Some(Architecture::Gpt2) => {
            "Add of a bias, Split into queries, keys and values, GELU (Gelu, or Pow, Mul, Add, Mul, Tanh, Add, Mul), or Add to \
             the residual stream"
        }
        Some(Architecture::Llama) | None => {
            "Add of a bias, Reshape to heads, rotary embedding, SiLU (Sigmoid, Mul), Mul by the gate, or Add to the \
             residual stream"
        }
    }
}
