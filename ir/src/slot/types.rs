//! Values of a slot program: identity, layout, ranges, levels.

use super::parse::ParseNote;
use super::print::PrintNote;
use super::token_matrix::TokenMatrix;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// An SSA value inside one template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub u32);

/// A declared KV state; each layer has its own instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StateId(pub u32);

/// How features lie in the slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// Feature `f` stands at every slot `p ≡ f (mod width)`; features `count..width` are zero.
    Periodic {
        /// Features that carry data.
        count: u32,
        /// Power of two, the period.
        width: u32,
    },
    /// Feature `f` stands in all slots `f·stride ..(f+1)·stride`; repeats with period `width·stride`; features `count..width` are zero.
    Strided {
        /// Features that carry data.
        count: u32,
        /// Power of two.
        width: u32,
        /// Power of two.
        stride: u32,
    },
    /// A group of tokens.
    Tokens(Group),
    /// A group of tokens as an encrypted matrix, which is several ciphertexts: a state's group, or a group template's parameter that
    /// is one; only [`super::Op::Apply`] reads it.
    Matrix(TokenMatrix),
    /// Several tokens side by side: slot p·tokens + r holds slot p of token r's own vector, which lies as `each` says.
    Block {
        /// Tokens, a power of two.
        tokens: u32,
        /// How one token's vector lies.
        each: Box<Layout>,
    },
    /// A scalar in every slot.
    Scalar,
    /// Slots with meaning only to the kernel that made them (sums before masking).
    Partial {
        /// Power of two, the period.
        period: u32,
    },
}

/// How the tokens of a KV group lie: slot (g·width + f)·inner + r holds feature f of token g·inner + r, and all repeats with period
/// tokens·width. So `inner` tokens lie inside the features, and as many such runs as it takes outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Tokens of one group, a power of two.
    pub tokens: u32,
    /// Features of one token, a power of two.
    pub width: u32,
    /// Tokens inside the features, a power of two.
    pub inner: u32,
}

impl Group {
    /// Slots after which the content repeats.
    pub fn period(&self) -> u32 {
        self.tokens.saturating_mul(self.width)
    }

    /// The token of a slot.
    pub fn token(&self, slot: u32) -> u32 {
        let run = self.width.saturating_mul(self.inner).max(1);
        let inner = self.inner.max(1);
        (slot / run * inner + slot % inner) % self.tokens.max(1)
    }

    /// Whether there are whole runs of tokens.
    pub fn holds(&self) -> bool {
        self.inner > 0 && self.tokens.is_multiple_of(self.inner)
    }
}

impl Layout {
    /// Tokens of a group; None for anything else.
    pub fn tokens(&self) -> Option<u32> {
        match self {
            Layout::Tokens(group) => Some(group.tokens),
            Layout::Matrix(matrix) => Some(matrix.tokens()),
            Layout::Block { each, .. } => each.tokens(),
            _ => None,
        }
    }

    /// Ciphertexts that a value with this layout consists of.
    pub fn ciphertexts(&self) -> u32 {
        match self {
            Layout::Matrix(matrix) => matrix.ciphertexts(),
            _ => 1,
        }
    }

    /// How one token's vector lies: itself, unless several lie side by side.
    pub fn each(&self) -> &Layout {
        match self {
            Layout::Block { each, .. } => each,
            _ => self,
        }
    }

    /// The same vector of each of `tokens` tokens, side by side; itself for one, or where several are already.
    pub fn block(self, tokens: u32) -> Layout {
        match self {
            each if tokens > 1 && !matches!(each, Layout::Block { .. }) => Layout::Block {
                tokens,
                each: Box::new(each),
            },
            layout => layout,
        }
    }

    /// Slots after which the content repeats.
    pub fn period(&self) -> u32 {
        match self {
            Layout::Periodic { width, .. } => *width,
            Layout::Strided { width, stride, .. } => width.saturating_mul(*stride),
            Layout::Tokens(group) => group.period(),
            Layout::Matrix(matrix) => matrix.period(),
            Layout::Block { tokens, each } => each.period().saturating_mul(*tokens),
            Layout::Scalar => 1,
            Layout::Partial { period } => *period,
        }
    }
}

/// What a ciphertext value holds, in any stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueType {
    /// Where features lie.
    pub layout: Layout,
    /// Whether imaginary parts carry data (two real values as re + i·im).
    pub complex: bool,
    /// Bound on the largest |re| and |im| over all slots, calibrated with margin: what polynomials and, since StC comes
    /// first, also EvalMod see.
    pub range: f64,
    /// Real-world value = slot value × unit.
    pub unit: f64,
}

/// Level and degree of a leveled value: degree 1 has the level's canonical scale Δ, degree 2 has Δ² (not yet rescaled).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct At {
    /// Level in the parameter set's table.
    pub level: u32,
    /// 1 or 2.
    pub degree: u8,
}

/// The annotation that tells the two stages of a slot program apart.
pub trait Stage: Clone + Debug + PartialEq {
    /// What each value carries besides its type.
    type Note: Clone + Debug + PartialEq + Serialize + DeserializeOwned + PrintNote + ParseNote;
    /// Name in dumps and files.
    const NAME: &'static str;
}

/// Kernels, layouts and approximations are chosen; levels are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed;

/// Levels, rescales, drops and bootstraps are placed too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leveled;

impl Stage for Packed {
    type Note = ();
    const NAME: &'static str = "packed";
}

impl Stage for Leveled {
    type Note = At;
    const NAME: &'static str = "leveled";
}

/// A KV state that grows by groups of tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateDecl {
    /// `k` or `v`.
    pub name: String,
    /// What one group holds; `layout` is [`Layout::Matrix`], or [`Layout::Tokens`], or that for every token of a block, which then share
    /// the group's tokens.
    pub ty: ValueType,
    /// Level at which groups are stored; decided by placement, absent in the packed stage.
    pub level: Option<u32>,
}

impl StateDecl {
    /// Ciphertexts of one group.
    pub fn ciphertexts(&self) -> u32 {
        self.ty.layout.ciphertexts()
    }

    /// Levels that an append takes: the masks of a matrix take one.
    pub fn append_depth(&self) -> u32 {
        u32::from(matches!(self.ty.layout, Layout::Matrix(_)))
    }

    /// Where an appended value has to be; None in the packed stage.
    pub fn append_at(&self) -> Option<At> {
        let level = self.level?.checked_add(self.append_depth())?;
        Some(At { level, degree: 1 })
    }
}
