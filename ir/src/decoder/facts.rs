//! What a checkpoint's configuration says about the model.

use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, SQRT_2, TAU};

/// A family of decoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Architecture {
    /// RMSNorm, rotary embedding, grouped-query attention, SwiGLU.
    Llama,
    /// LayerNorm, learned positions, attention with as many key heads as query heads, an MLP without a gate, biases everywhere.
    Gpt2,
}

impl Architecture {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::Llama, Self::Gpt2];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Gpt2 => "gpt2",
        }
    }
}

/// What stands between the MLP's projections, feature by feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Activation {
    /// x / (1 + exp(−x)).
    Silu,
    /// x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) / 2, which the GPT-2 checkpoints were trained with (`gelu_new`).
    GeluTanh,
    /// x·Φ(x) = x·(1 + erf(x/√2)) / 2 (Hendrycks, Gimpel, arXiv 1606.08415).
    Gelu,
}

impl Activation {
    /// Every function.
    pub const ALL: [Self; 3] = [Self::Silu, Self::GeluTanh, Self::Gelu];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_tanh",
            Self::Gelu => "gelu",
        }
    }

    /// Its value at x.
    pub fn value(self, x: f64) -> f64 {
        self.scaled(1.0, x)
    }

    /// `scale` times its value at x.
    pub fn scaled(self, scale: f64, x: f64) -> f64 {
        match self {
            Self::Silu => scale * x / (1.0 + (-x).exp()),
            Self::GeluTanh => {
                let inner = (2.0 / PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * scale * x * (1.0 + inner.tanh())
            }
            Self::Gelu => 0.5 * scale * x * (1.0 + libm::erf(x / SQRT_2)),
        }
    }
}

/// Which projections of attention add a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AttentionBias {
    /// None of them.
    None,
    /// q, k and v, not o: Qwen2's.
    Qkv,
    /// q, k, v and o.
    All,
}

impl AttentionBias {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::None, Self::Qkv, Self::All];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "false",
            Self::Qkv => "qkv",
            Self::All => "true",
        }
    }

    /// Whether q, k and v add a bias.
    pub fn on_inputs(self) -> bool {
        self != Self::None
    }

    /// Whether o does.
    pub fn on_output(self) -> bool {
        self == Self::All
    }
}

/// The model's sizes and constants. All counts are of features, heads, layers or tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The family.
    pub architecture: Architecture,
    /// Features of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Features of one head; `heads · head_dim` need not be `hidden`.
    pub head_dim: usize,
    /// Features between the MLP's projections.
    pub intermediate: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Added under the root of every norm: to the mean square of an RMSNorm, to the variance of a LayerNorm.
    pub norm_eps: f64,
    /// How the model knows where a token stands.
    pub positions: Positions,
    /// What stands between the MLP's projections.
    pub activation: Activation,
    /// Whether the head is the embedding table.
    pub tied: bool,
    /// Which of the q, k, v and o projections add a bias.
    pub attention_bias: AttentionBias,
    /// Whether the MLP's projections add a bias.
    pub mlp_bias: bool,
    /// Token put before every prompt.
    pub bos: Option<u32>,
    /// Tokens that end a text.
    pub eos: Vec<u32>,
    /// Longest sequence the model was made for, in tokens.
    pub max_positions: usize,
}

impl ModelFacts {
    /// Features of all query heads together.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Features of all key heads (or value heads) together.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// How a model knows where a token stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Positions {
    /// Queries and keys are turned.
    Rotary(Rope),
    /// A row of a table [max_positions, hidden] is added to the token's embedding.
    Learned,
}

impl Positions {
    /// The rotary embedding, if there is one.
    pub fn rope(&self) -> Option<&Rope> {
        match self {
            Self::Rotary(rope) => Some(rope),
            Self::Learned => None,
        }
    }
}

/// Rotary position embedding (Su et al., arXiv 2104.09864): feature j of a head turns with feature j + head_dim/2, at
/// position p by the angle p·θ_j.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// The base: unscaled θ_j = theta^(−2j/head_dim).
    pub theta: f64,
    /// How the θ_j are changed for long contexts.
    pub scaling: RopeScaling,
}

/// A change of the rotary frequencies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by a factor (position interpolation, arXiv 2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's: low frequencies divided by a factor, high ones kept, a linear blend between.
    Llama3 {
        /// The divisor.
        factor: f64,
        /// Fewer turns than this over the original context: low.
        low_freq_factor: f64,
        /// More turns than this over the original context: high.
        high_freq_factor: f64,
        /// The original context in tokens.
        original_max_positions: usize,
    },
}

impl Rope {
    /// θ_j for j = 0..head_dim/2, in radians per position.
    pub fn frequencies(&self, head_dim: usize) -> Vec<f64> {
        (0..head_dim / 2)
            .map(|j| {
                let base = 1.0 / self.theta.powf(2.0 * j as f64 / head_dim as f64);
                self.scaling.apply(base)
            })
            .collect()
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_positions,
            } => {
                let turns = original_max_positions as f64 * frequency / TAU;
                let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let kept = kept.clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}
