//! The structure of a bootstrap, as data, and the constants that follow from it.
//!
//! A bootstrap is slots-to-coefficients (StC) first: it takes slots at a low level, moves them into the coefficients of a
//! level-0 ciphertext, raises the modulus under an ephemeral sparse secret, moves the coefficients back into slots (CtS) and
//! removes the multiples of `q_0` that the raise left there (EvalMod). So every slot is refreshed on its own: junk in one slot does
//! not reach another.
//!
//! Data flow for `slots = n`, S slots in the ring, input periodic with period n, real and imaginary part of every slot in [-1, 1]:
//!
//! 1. StC: the special DFT on n slots as [`BootstrapSpec::stc`] factors, one level each, down to level 0. Coefficients come out
//!    in bit-reversed order, which no later step minds: no permutation is ever made.
//! 2. Level 0: key switch to the ephemeral secret, centered lift to the top modulus, key switch back. Coefficients are now
//!    `m + q_0·I`; the value is read at the canonical scale of the top level.
//! 3. Trace to the subring of n-periodic values: groups of rotations summed ([`BootstrapSpec::trace`]); factor S/n.
//! 4. CtS: [`BootstrapSpec::cts`] factors, then `t + conj t` (and `i·(conj t − t)` for complex values). The constants (S/n, 1/2,
//!    the scale of the top level, `q_0` and the interval of EvalMod) are folded in the factors' entries.
//! 5. EvalMod on the real part (and the imaginary part): see [`EvalModSpec`]. The result lies at the top app level, at its
//!    canonical scale.

mod dft;
mod evalmod;
mod split;

pub use dft::{FactorSpec, Transform};
pub use evalmod::{EvalModConstants, EvalModSpec, irwin_hall_log2_tail};
pub use split::{Bsgs, Giant};

use crate::{LevelKind, ParamSet};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a bootstrap specification was refused.
#[derive(Clone, Debug, PartialEq, Error, Diagnostic)]
pub enum BootstrapError {
    /// Slot count not a power of two within the ring.
    #[error(
        "a bootstrap of {slots} slots does not fit: the count must be a power of two up to {max}"
    )]
    #[diagnostic(code(bootstrap::slots))]
    Slots {
        /// Slots asked for.
        slots: usize,
        /// Slots of the ring.
        max: usize,
    },
    /// The parameter set lacks an ephemeral secret or EvalMod or CtS levels.
    #[error("parameter set {set} cannot bootstrap: it has {what}")]
    #[diagnostic(code(bootstrap::unsupported))]
    Unsupported {
        /// Name of the set.
        set: String,
        /// What is missing.
        what: String,
    },
    /// A specification from elsewhere that is not one of the parameter set.
    #[error(
        "the {part} part of a bootstrap of {slots} slots does not fit parameter set {set}: it was made for another set or version"
    )]
    #[diagnostic(code(bootstrap::structure))]
    Structure {
        /// Slots of the bootstrap.
        slots: usize,
        /// Name of the set.
        set: String,
        /// The part that differs.
        part: &'static str,
    },
    /// Number of StC or CtS factors out of range.
    #[error("{given} {transform} factors for {slots} slots: between {min} and {max} are possible")]
    #[diagnostic(code(bootstrap::factors))]
    Factors {
        /// `StC` or `CtS`.
        transform: &'static str,
        /// Factors asked for.
        given: usize,
        /// Slots of the bootstrap.
        slots: usize,
        /// Least number.
        min: usize,
        /// Largest number.
        max: usize,
    },
}

/// What a bootstrap does, literally: levels, diagonals, rotations. Made by [`BootstrapSpec::new`], executed as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootstrapSpec {
    /// Number of slots refreshed; the input repeats with this period.
    pub slots: usize,
    /// Whether imaginary parts are kept. A real bootstrap costs one EvalMod less and returns imaginary parts of zero (plus noise).
    pub complex: bool,
    /// Slots-to-coefficients factors, in the order they are applied.
    pub stc: Vec<FactorSpec>,
    /// Level the modulus is raised to.
    pub raised_level: usize,
    /// Groups of rotation steps; each group replaces v by `v + Σ rot(v, step)`.
    pub trace: Vec<Vec<usize>>,
    /// Coefficients-to-slots factors, in the order they are applied.
    pub cts: Vec<FactorSpec>,
    /// The modular reduction.
    pub evalmod: EvalModSpec,
    /// Level of the input: the number of StC factors.
    pub input_level: usize,
    /// Level of the output.
    pub output_level: usize,
}

/// Evaluation keys a bootstrap uses, each with the highest level it is used at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapKeys {
    /// Rotation step in `1..slots of the ring` to level.
    pub rotations: BTreeMap<usize, usize>,
    /// Level of the conjugation key.
    pub conjugation: usize,
    /// Level of the relinearisation key.
    pub relinearisation: usize,
    /// Level of the key from the ephemeral secret back to the main one (its partner lives at level 0).
    pub ephemeral: usize,
}

impl BootstrapKeys {
    /// Adds another bootstrap's needs: each key at the higher of the two levels.
    pub fn merge(&mut self, other: &BootstrapKeys) {
        for (&step, &level) in &other.rotations {
            let entry = self.rotations.entry(step).or_insert(level);
            *entry = level.max(*entry);
        }
        self.conjugation = self.conjugation.max(other.conjugation);
        self.relinearisation = self.relinearisation.max(other.relinearisation);
        self.ephemeral = self.ephemeral.max(other.ephemeral);
    }
}

/// Steps of one trace group are summed at once, sharing one decomposition: two doublings a group.
const TRACE_DOUBLINGS: u32 = 2;

/// Numbers of StC and CtS factors for a slot count, chosen so that no factor has more than 256 diagonals (StC, at levels of a
/// few primes) or 63 (CtS, at the top).
fn default_factors(log_slots: u32) -> (usize, usize) {
    let stc = match log_slots {
        0 => 0,
        1..=8 => 1,
        9..=11 => 2,
        _ => 3,
    };
    let cts = match log_slots {
        0..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    (stc, cts)
}

impl BootstrapSpec {
    /// The bootstrap of `slots` slots at its default structure.
    ///
    /// # Errors
    /// [`BootstrapError::Slots`], [`BootstrapError::Unsupported`].
    pub fn new(set: &ParamSet, slots: usize, complex: bool) -> Result<Self, BootstrapError> {
        let log_slots = check_slots(set, slots)?;
        let (stc, cts) = default_factors(log_slots);
        let levels = cts_levels(set);
        Self::with_factors(set, slots, complex, stc, cts.min(levels.max(1)))
    }

    /// The bootstrap with `stc` levels spent on slots-to-coefficients and `cts` on coefficients-to-slots.
    ///
    /// # Errors
    /// As [`BootstrapSpec::new`], and [`BootstrapError::Factors`].
    pub fn with_factors(
        set: &ParamSet,
        slots: usize,
        complex: bool,
        stc: usize,
        cts: usize,
    ) -> Result<Self, BootstrapError> {
        let log_slots = check_slots(set, slots)?;
        let output_level = set.top_app_level();
        let evalmod = EvalModSpec::new(set)?;
        let stages = log_slots as usize;
        let range = |transform, given, min: usize, max: usize| {
            let error = BootstrapError::Factors {
                transform,
                given,
                slots,
                min,
                max,
            };
            if (min..=max).contains(&given) {
                Ok(())
            } else {
                Err(error)
            }
        };
        range("StC", stc, stages.min(1), stages.min(output_level))?;
        range("CtS", cts, 1, stages.max(1).min(cts_levels(set)))?;
        let raised_level = evalmod.level + cts;
        let trace_doublings = (set.slots() / slots).trailing_zeros();
        Ok(Self {
            slots,
            complex,
            stc: dft::factors(Transform::SlotsToCoefficients, log_slots, stc, stc),
            raised_level,
            trace: trace_groups(slots, trace_doublings),
            cts: dft::factors(Transform::CoefficientsToSlots, log_slots, cts, raised_level),
            evalmod,
            input_level: stc,
            output_level,
        })
    }

    /// The same bootstrap with fewer keys, for more key switches: half the babies a giant.
    #[must_use]
    pub fn sparing(self) -> Self {
        let fewer = |factors: Vec<FactorSpec>| {
            let factors = factors.into_iter().map(FactorSpec::with_fewer_babies);
            factors.collect()
        };
        Self {
            stc: fewer(self.stc),
            cts: fewer(self.cts),
            ..self
        }
    }

    /// Checks a specification that came from elsewhere: it must be what [`BootstrapSpec::with_factors`] makes, except that factors may be
    /// split otherwise.
    ///
    /// # Errors
    /// As [`BootstrapSpec::with_factors`], and [`BootstrapError::Structure`] naming the first part that differs.
    pub fn check(&self, set: &ParamSet) -> Result<(), BootstrapError> {
        let ours = Self::with_factors(
            set,
            self.slots,
            self.complex,
            self.stc.len(),
            self.cts.len(),
        )?;
        let stc = self
            .stc
            .iter()
            .zip(&ours.stc)
            .all(|(a, b)| a.same_factor(b));
        let cts = self
            .cts
            .iter()
            .zip(&ours.cts)
            .all(|(a, b)| a.same_factor(b));
        let levels = |s: &Self| (s.input_level, s.raised_level, s.output_level);
        let parts = [
            (stc, "slots-to-coefficients"),
            (cts, "coefficients-to-slots"),
            (self.evalmod == ours.evalmod, "EvalMod"),
            (self.trace == ours.trace, "trace"),
            (levels(self) == levels(&ours), "levels"),
        ];
        match parts.into_iter().find(|(same, _)| !same) {
            Some((_, part)) => Err(BootstrapError::Structure {
                slots: self.slots,
                set: set.name.clone(),
                part,
            }),
            None => Ok(()),
        }
    }

    /// Every rotation with the highest level it is used at, by step.
    pub fn rotations(&self) -> Vec<(usize, usize)> {
        self.keys().rotations.into_iter().collect()
    }

    /// All evaluation keys the bootstrap uses.
    pub fn keys(&self) -> BootstrapKeys {
        let mut rotations = BTreeMap::new();
        let mut need = |step: usize, level: usize| {
            if step != 0 {
                let entry = rotations.entry(step).or_insert(level);
                *entry = level.max(*entry);
            }
        };
        for factor in self.stc.iter().chain(&self.cts) {
            for step in factor.bsgs.rotations() {
                need(step, factor.level);
            }
        }
        for &step in self.trace.iter().flatten() {
            need(step, self.raised_level);
        }
        BootstrapKeys {
            rotations,
            conjugation: self.evalmod.level,
            relinearisation: self.evalmod.level,
            ephemeral: self.raised_level,
        }
    }

    /// The real factor the entries of every CtS factor are multiplied by: the k-th root of
    /// `Δ_raised / (2·q_0·radius) · n/S`, so that CtS delivers EvalMod's argument.
    pub fn cts_gain(&self, set: &ParamSet) -> f64 {
        let q0 = level0_modulus(set);
        let share = self.slots as f64 / set.slots() as f64;
        let total = set.scale(self.raised_level) / (2.0 * q0 * self.evalmod.radius()) * share;
        total.powf(1.0 / self.cts.len() as f64)
    }

    /// log2 of (a bound on) the probability that one bootstrap fails: that the multiple of `q_0` in some coefficient exceeds
    /// EvalMod's interval. It is the union bound over the 2n coefficients (n for a real bootstrap) of the exact tail of the sum
    /// of h independent uniform variables, see [`irwin_hall_log2_tail`].
    pub fn failure_log2_probability(&self, set: &ParamSet) -> f64 {
        let h = set.ephemeral.as_ref().map_or(0, |e| e.h);
        let coefficients = self.slots as f64 * if self.complex { 2.0 } else { 1.0 };
        coefficients.log2() + irwin_hall_log2_tail(h, f64::from(self.evalmod.bound) + 0.5)
    }

    /// Standard deviation of what a bootstrap adds to each component of a slot (real and imaginary, also to the imaginary part that a
    /// real bootstrap leaves empty), beside [`EvalModSpec::transfer`]: the rounding of the last rescale, `sqrt((1 + 2N/3)/12)` per
    /// coefficient, and the polynomial's error, once per part. What is left out (mostly the rounding of the squared argument, which
    /// the cosine amplifies near zero) adds about a sixth at N = 2^16.
    pub fn noise_std(&self, set: &ParamSet) -> f64 {
        let n = set.n() as f64;
        let coefficient = ((1.0 + 2.0 * n / 3.0) / 12.0).sqrt();
        let rounding = coefficient * (n / 2.0).sqrt() / set.scale(self.output_level);
        let parts = if self.complex { 2.0 } else { 1.0 };
        (parts * rounding.powi(2) + self.evalmod.polynomial_error(set).powi(2)).sqrt()
    }
}

/// Product of the level-0 primes.
fn level0_modulus(set: &ParamSet) -> f64 {
    set.level_primes(0).map(f64::from).product()
}

fn check_slots(set: &ParamSet, slots: usize) -> Result<u32, BootstrapError> {
    let max = set.slots();
    if slots.is_power_of_two() && slots <= max {
        Ok(slots.trailing_zeros())
    } else {
        Err(BootstrapError::Slots { slots, max })
    }
}

fn cts_levels(set: &ParamSet) -> usize {
    set.levels
        .iter()
        .filter(|l| l.kind == LevelKind::CtS)
        .count()
}

/// Rotations by n, 2n, 4n, … summed, [`TRACE_DOUBLINGS`] doublings at a time; the odd ones first, so that bootstraps of different
/// slot counts share the larger steps.
fn trace_groups(slots: usize, doublings: u32) -> Vec<Vec<usize>> {
    let mut groups = Vec::new();
    let mut done = 0;
    while done < doublings {
        let now = match (doublings - done) % TRACE_DOUBLINGS {
            0 => TRACE_DOUBLINGS,
            odd => odd,
        };
        let unit = slots << done;
        groups.push((1..1usize << now).map(|k| k * unit).collect());
        done += now;
    }
    groups
}
