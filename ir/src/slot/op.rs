//! Operations on ciphertext values, and the tables they name.

use super::data::DataId;
use super::types::{Group, StateId};
use serde::{Deserialize, Serialize};

/// Index into [`super::Program::plains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlainId(pub u32);
/// Index into [`super::Program::matrices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MatrixId(pub u32);
/// Index into [`super::Program::polys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolyId(pub u32);

/// What a bootstrap refreshes. The input must repeat with period `slots` and lie in [-1, 1] (each part).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BootstrapKind {
    /// Slots refreshed, a power of two; fewer than S is the sparse route.
    pub slots: u32,
    /// Refresh both parts; otherwise only the real part survives.
    pub complex: bool,
}

/// An operation over operands of type `V`: SSA values in the stages, buffers in the plan.
///
/// Level rules (leveled stage and plan; ℓ is the operands' level): operands of `Add`/`Sub` agree in level and degree;
/// `Mul`, `MulPlain`, `MulConst`, `Linear`, `Apply` take degree 1 and give degree 2 at ℓ; `Rescale` takes degree 2 at ℓ to degree 1
/// at ℓ-1; `Drop` keeps degree 1; `Poly` takes degree 1 at ℓ to degree 1 at ℓ - ⌈log2(deg+1)⌉; `Bootstrap` takes degree 1 at
/// its kind's input level to degree 1 at the top application level; everything else keeps level and degree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // fields are the operands and parameters that each variant's text names
pub enum Op<V> {
    /// Left rotation by `by` slots.
    Rotate { v: V, by: i32 },
    /// Complex conjugate of every slot.
    Conjugate { v: V },
    /// Multiply every slot by the imaginary unit; exact and free.
    MulI { v: V },
    /// Slot-wise sum.
    Add { a: V, b: V },
    /// Slot-wise difference a - b.
    Sub { a: V, b: V },
    /// Slot-wise negation.
    Neg { v: V },
    /// Add a plaintext vector.
    AddPlain { v: V, plain: PlainId },
    /// Multiply by a plaintext vector.
    MulPlain { v: V, plain: PlainId },
    /// Add a real constant to every slot.
    AddConst { v: V, c: f64 },
    /// Multiply every slot by a real constant.
    MulConst { v: V, c: f64 },
    /// Slot-wise product of two ciphertexts, relinearised.
    Mul { a: V, b: V },
    /// Σ over i < count of v rotated left by i·step; `count` is a power of two, log2(count) rotations.
    Fold { v: V, step: i32, count: u32 },
    /// Σ over i < count of v rotated left by i - (position mod count), so that of every run of `count` slots the current token's holds
    /// the sum; log2(count) rotations, each to the side that the position's bit says ([`current_steps`]).
    FoldCurrent { v: V, count: u32 },
    /// Σ over k of diagonal k times v rotated left by k (see [`Matrix`]).
    Linear { v: V, matrix: MatrixId },
    /// The product of an encrypted matrix, `count` diagonals in `baby` steps of `step` slots, with v; relinearised
    /// (see [`super::TokenMatrix`]).
    Apply {
        matrix: V,
        v: V,
        step: u32,
        count: u32,
        baby: u32,
    },
    /// A Chebyshev series on [-1, 1].
    Poly { v: V, poly: PolyId },
    /// Add v to the current group of a state, opening a group when its first token arrives. To a group that is a matrix v is added turned
    /// and masked, one level down.
    Append { state: StateId, v: V },
    /// For each occupied group g: run `template` on `args` followed by group g of each state; sum the results over g.
    SumGroups {
        template: usize,
        states: Vec<StateId>,
        args: Vec<V>,
    },
    /// Divide a product by its level's modulus ratio.
    Rescale { v: V },
    /// Move to a lower level at that level's canonical scale.
    Drop { v: V, level: u32 },
    /// Refresh to the top application level.
    Bootstrap { v: V, kind: BootstrapKind },
}

/// The rotations of [`Op::FoldCurrent`] at a position, one after the other.
pub fn current_steps(position: u32, count: u32) -> impl Iterator<Item = i32> {
    let bits = (0..32).map(|bit| 1u32 << bit);
    bits.take_while(move |step| *step < count)
        .map(move |step| match position & step {
            0 => step as i32,
            _ => -(step as i32),
        })
}

impl<V> Op<V> {
    /// Name in text forms, traces and cost tables.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Rotate { .. } => "rotate",
            Op::Conjugate { .. } => "conjugate",
            Op::MulI { .. } => "mul_i",
            Op::Add { .. } => "add",
            Op::Sub { .. } => "sub",
            Op::Neg { .. } => "neg",
            Op::AddPlain { .. } => "add_plain",
            Op::MulPlain { .. } => "mul_plain",
            Op::AddConst { .. } => "add_const",
            Op::MulConst { .. } => "mul_const",
            Op::Mul { .. } => "mul",
            Op::Fold { .. } => "fold",
            Op::FoldCurrent { .. } => "fold_current",
            Op::Linear { .. } => "linear",
            Op::Apply { .. } => "apply",
            Op::Poly { .. } => "poly",
            Op::Append { .. } => "append",
            Op::SumGroups { .. } => "sum_groups",
            Op::Rescale { .. } => "rescale",
            Op::Drop { .. } => "drop",
            Op::Bootstrap { .. } => "bootstrap",
        }
    }

    /// The operands, in order.
    pub fn operands(&self) -> Vec<&V> {
        match self {
            Op::Rotate { v, .. }
            | Op::Conjugate { v }
            | Op::MulI { v }
            | Op::Neg { v }
            | Op::AddPlain { v, .. }
            | Op::MulPlain { v, .. }
            | Op::AddConst { v, .. }
            | Op::MulConst { v, .. }
            | Op::Fold { v, .. }
            | Op::FoldCurrent { v, .. }
            | Op::Linear { v, .. }
            | Op::Poly { v, .. }
            | Op::Append { v, .. }
            | Op::Rescale { v }
            | Op::Drop { v, .. }
            | Op::Bootstrap { v, .. } => vec![v],
            Op::Add { a, b } | Op::Sub { a, b } | Op::Mul { a, b } => vec![a, b],
            Op::Apply { matrix, v, .. } => vec![matrix, v],
            Op::SumGroups { args, .. } => args.iter().collect(),
        }
    }

    /// The same operation over other operands.
    pub fn map<W>(&self, mut f: impl FnMut(&V) -> W) -> Op<W> {
        match self {
            Op::Rotate { v, by } => Op::Rotate { v: f(v), by: *by },
            Op::Conjugate { v } => Op::Conjugate { v: f(v) },
            Op::MulI { v } => Op::MulI { v: f(v) },
            Op::Add { a, b } => Op::Add { a: f(a), b: f(b) },
            Op::Sub { a, b } => Op::Sub { a: f(a), b: f(b) },
            Op::Neg { v } => Op::Neg { v: f(v) },
            Op::AddPlain { v, plain } => Op::AddPlain {
                v: f(v),
                plain: *plain,
            },
            Op::MulPlain { v, plain } => Op::MulPlain {
                v: f(v),
                plain: *plain,
            },
            Op::AddConst { v, c } => Op::AddConst { v: f(v), c: *c },
            Op::MulConst { v, c } => Op::MulConst { v: f(v), c: *c },
            Op::Mul { a, b } => Op::Mul { a: f(a), b: f(b) },
            Op::Fold { v, step, count } => Op::Fold {
                v: f(v),
                step: *step,
                count: *count,
            },
            Op::FoldCurrent { v, count } => Op::FoldCurrent {
                v: f(v),
                count: *count,
            },
            Op::Linear { v, matrix } => Op::Linear {
                v: f(v),
                matrix: *matrix,
            },
            Op::Apply {
                matrix,
                v,
                step,
                count,
                baby,
            } => Op::Apply {
                matrix: f(matrix),
                v: f(v),
                step: *step,
                count: *count,
                baby: *baby,
            },
            Op::Poly { v, poly } => Op::Poly {
                v: f(v),
                poly: *poly,
            },
            Op::Append { state, v } => Op::Append {
                state: *state,
                v: f(v),
            },
            Op::SumGroups {
                template,
                states,
                args,
            } => Op::SumGroups {
                template: *template,
                states: states.clone(),
                args: args.iter().map(f).collect(),
            },
            Op::Rescale { v } => Op::Rescale { v: f(v) },
            Op::Drop { v, level } => Op::Drop {
                v: f(v),
                level: *level,
            },
            Op::Bootstrap { v, kind } => Op::Bootstrap {
                v: f(v),
                kind: *kind,
            },
        }
    }
}

/// A plaintext operand: the slot-wise product of its factors, tiled to S slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plain {
    /// What it is for, for dumps.
    pub name: String,
    /// Multiplied together; the product of no factors is 1.
    pub factors: Vec<PlainFactor>,
}

/// One factor of a [`Plain`]. `position` counts tokens already cached, so it is the first current token's index; `count` tokens are
/// current. In a program that takes several, slot p belongs to the token p mod `block` of the block; tokens beyond `count` are
/// treated as the last one, so that they compute nothing that it does not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // fields are the operands and parameters that each variant's text names
pub enum PlainFactor {
    /// A real constant.
    Const(f64),
    /// A vector from the data table, every entry in `stride` slots, tiled.
    Vector { data: DataId, stride: u32 },
    /// Of a table from the data table the row of the slot's token, every entry in `stride` slots, tiled.
    PositionRow {
        data: DataId,
        stride: u32,
        block: u32,
    },
    /// 1 in the slots of current tokens of a group that all tokens of the block share, else 0.
    CurrentToken { group: Group, block: u32 },
    /// 1 in the slots of those tokens of the group being visited that the slot's token may see: itself and those before it; else 0.
    CachedTokens { group: Group, block: u32 },
    /// 1 in slots p with p mod width < first, else 0.
    FirstOf { width: u32, first: u32 },
    /// 1 in slots p with p mod width = width - 1, else 0.
    LastOf { width: u32 },
    /// 1 / (index of the slot's token + 1).
    InverseCount { block: u32 },
}

/// A Chebyshev series Σ c_k T_k(x) on [-1, 1].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Poly {
    /// Site and function, for dumps.
    pub name: String,
    /// c_0 … c_deg.
    pub coefficients: Vec<f64>,
    /// Largest deviation from the function it stands for, over [-1, 1].
    pub error: f64,
}

impl Poly {
    /// Degree of the series.
    pub fn degree(&self) -> u32 {
        self.coefficients.len().saturating_sub(1) as u32
    }
}
