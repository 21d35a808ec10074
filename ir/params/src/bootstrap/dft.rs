//! The special DFT of the canonical embedding in sparse factors.
//!
//! With ζ a primitive 4n-th root of unity, the slots of an n-periodic value with coefficients `m_0 ‥ m_{2n−1}` (of the subring) are
//! `z_j = Σ_k t_k ζ^{k·5^j}`, `t_k = m_k + i·m_{k+n}`. That map is a bit reversal followed by log2 n butterfly stages of lengths 2, 4,
//! …, n: `(u, v) → (u + w·v, u − w·v)` with `w = ζ_{4·len}^{5^p}` at place p of a block. Leaving the bit reversal out on both ways leaves the
//! coefficients in bit-reversed order. A stage has three diagonals: 0, ±len/2 (two at length n); a run of r stages multiplied
//! out has 2^{r+1} − 1 (2^r if length n is among them).
//!
//! Cheon, Han, Kim, Kim, Song: "Bootstrapping for Approximate Homomorphic Encryption"; Chen, Chillotti, Song and Han, Hhan, Cheon for
//! the factorisation.

use super::split::Bsgs;
use num_complex::Complex64;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::f64::consts::PI;

/// Diagonals of a matrix by their step: the entry of row j, column j + step (mod n) stands at place j.
pub type Diagonals = BTreeMap<usize, Vec<Complex64>>;

/// Direction of the transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transform {
    /// Slots become coefficients: the ciphertext's slots go through the DFT itself.
    SlotsToCoefficients,
    /// Coefficients become slots: the inverse DFT, normalised.
    CoefficientsToSlots,
}

/// One factor: consecutive butterfly stages multiplied out, applied at one level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorSpec {
    /// Direction.
    pub transform: Transform,
    /// Level the factor is applied at; the product is rescaled to the level below.
    pub level: usize,
    /// log2 of the shortest butterfly length in the factor.
    pub low: u32,
    /// log2 of the longest; `low - 1` for the single factor of one slot, which has no stage.
    pub high: u32,
    /// Diagonals with their split.
    pub bsgs: Bsgs,
}

/// The factors of a transform on `2^log_slots` slots, in order of application, at levels `top_level`, `top_level - 1`, …
/// Stages are shared out evenly, the extra ones to the factor with length n, which has half the diagonals.
pub(super) fn factors(
    transform: Transform,
    log_slots: u32,
    count: usize,
    top_level: usize,
) -> Vec<FactorSpec> {
    if count == 0 {
        return Vec::new();
    }
    let (share, extra) = (log_slots / count as u32, log_slots % count as u32);
    // From length n down, as CtS applies them.
    let mut high = log_slots;
    let mut runs = Vec::new();
    for f in 0..count as u32 {
        let stages = share + u32::from(f < extra);
        runs.push((high + 1 - stages, high));
        high -= stages;
    }
    if transform == Transform::SlotsToCoefficients {
        runs.reverse();
    }
    let spec = |(f, (low, high)): (usize, (u32, u32))| FactorSpec {
        transform,
        level: top_level - f,
        low,
        high,
        bsgs: split(log_slots, low, high),
    };
    // The shortest butterflies come last in CtS, where key switches are cheapest but keys are still large. StC is split as CtS is, so
    // that it finds its keys there.
    let spare = |factor: FactorSpec| match factor.low == 1 && count > 1 && factor.babies() > FEW {
        true => factor.with_fewer_babies(),
        false => factor,
    };
    runs.into_iter()
        .enumerate()
        .map(|run| spare(spec(run)))
        .collect()
}

/// So many babies or fewer are not worth halving: few keys go, and every giant step that comes for them is a key switch more.
const FEW: usize = 8;

/// Steps that have come round are whole units, too: the cheapest babies are a power of two.
fn split(log_slots: u32, low: u32, high: u32) -> Bsgs {
    let slots = 1usize << log_slots;
    match span(log_slots, low, high) {
        Some((unit, first, last)) => Bsgs::cheapest(slots, unit, first, last).with_chains(),
        None => Bsgs::regular(slots, 1, 0, 0, 1),
    }
}

/// The diagonals of the stages from `low` to `high`: unit, first and last; none where there is no stage.
fn span(log_slots: u32, low: u32, high: u32) -> Option<(usize, i64, i64)> {
    if high < low {
        return None;
    }
    let reach = (1i64 << (high + 1 - low)) - 1;
    let first = if high == log_slots { 0 } else { -reach };
    Some((1 << (low - 1), first, reach))
}

impl FactorSpec {
    /// Whether both are the same matrix at the same level, however they are split.
    pub(super) fn same_factor(&self, other: &Self) -> bool {
        let shape = |f: &Self| (f.transform, f.level, f.low, f.high, f.bsgs.slots);
        shape(self) == shape(other)
            && self.bsgs.steps_in_range()
            && self.bsgs.chains_reach()
            && self.bsgs.diagonals() == other.bsgs.diagonals()
    }

    /// Most babies of a giant.
    fn babies(&self) -> usize {
        let giants = self.bsgs.giants.iter().map(|g| g.babies.len());
        giants.max().unwrap_or(1)
    }

    /// The same factor with half the babies a giant: fewer keys, more key switches.
    pub(super) fn with_fewer_babies(self) -> Self {
        let slots = self.bsgs.slots;
        let few = (self.babies().next_power_of_two() / 2).max(1);
        let bsgs = match span(slots.trailing_zeros(), self.low, self.high) {
            Some((unit, first, last)) => Bsgs::regular(slots, unit, first, last, few).with_chains(),
            None => self.bsgs,
        };
        Self { bsgs, ..self }
    }

    /// The period its diagonals repeat with: the longest butterfly.
    pub fn period(&self) -> usize {
        1 << self.high
    }

    /// The diagonals of the factor, every entry multiplied by `gain`.
    pub fn diagonals(&self, gain: f64) -> Diagonals {
        let slots = self.bsgs.slots;
        let mut lengths: Vec<u32> = (self.low..=self.high).collect();
        if self.transform == Transform::CoefficientsToSlots {
            lengths.reverse();
        }
        let mut product = Diagonals::from([(0, vec![Complex64::new(gain, 0.0); slots])]);
        for log_len in lengths {
            product = compose(&stage(self.transform, slots, log_len), &product, slots);
        }
        product
    }
}

/// One butterfly stage; the inverse one is halved, so that stages of both directions are inverse to each other.
fn stage(transform: Transform, slots: usize, log_len: u32) -> Diagonals {
    let (len, half) = (1usize << log_len, 1usize << (log_len - 1));
    let roots = stage_roots(len);
    let zero = Complex64::ZERO;
    let (mut same, mut up, mut down) = (vec![zero; slots], vec![zero; slots], vec![zero; slots]);
    for j in 0..slots {
        let place = j % len;
        let (first, w) = (place < half, roots[place % half]);
        match (transform, first) {
            (Transform::SlotsToCoefficients, true) => (same[j], up[j]) = (Complex64::ONE, w),
            (Transform::SlotsToCoefficients, false) => (same[j], down[j]) = (-w, Complex64::ONE),
            (Transform::CoefficientsToSlots, true) => (same[j], up[j]) = (0.5.into(), 0.5.into()),
            (Transform::CoefficientsToSlots, false) => {
                (same[j], down[j]) = (-w.conj() / 2.0, w.conj() / 2.0)
            }
        }
    }
    let mut diagonals = Diagonals::from([(0, same)]);
    add(&mut diagonals, half % slots, up);
    add(&mut diagonals, slots - half, down);
    diagonals
}

/// `ζ_{4·len}^{5^p}` for the places p of half a block.
fn stage_roots(len: usize) -> Vec<Complex64> {
    let order = 4 * len;
    let powers = std::iter::successors(Some(1usize), |g| Some(g * 5 % order));
    powers
        .take(len / 2)
        .map(|g| Complex64::cis(2.0 * PI * g as f64 / order as f64))
        .collect()
}

fn add(diagonals: &mut Diagonals, step: usize, values: Vec<Complex64>) {
    match diagonals.get_mut(&step) {
        Some(sum) => sum.iter_mut().zip(&values).for_each(|(s, v)| *s += v),
        None => {
            diagonals.insert(step, values);
        }
    }
}

/// The diagonals of `outer · inner`.
fn compose(outer: &Diagonals, inner: &Diagonals, slots: usize) -> Diagonals {
    let mut product = Diagonals::new();
    for (&s, a) in outer {
        for (&t, b) in inner {
            let shifted = (0..slots).map(|j| a[j] * b[(j + s) % slots]).collect();
            add(&mut product, (s + t) % slots, shifted);
        }
    }
    product
}
