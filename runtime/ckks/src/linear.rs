//! Linear transforms of the slots: a matrix by its diagonals, in baby and giant steps with double hoisting.
//!
//! The babies share one decomposition and are never divided by P: the plaintexts are encoded modulo QP, the inner sums are taken there.
//! A giant step divides (ModDown) only its second component, to decompose it again; the outer sum is divided once at the end, together with
//! the rescale. All baby work on one prime is done before the next prime's, so the rotated babies stay in cache.
//!
//! Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux: "Efficient Bootstrapping for Approximate Homomorphic Encryption with Non-Sparse Keys",
//! algorithm 6.

use crate::context::Context;
use crate::encoding::Encoder;
use crate::engine::{self, Babies, Carry, Cpu, Ct, Engine, GaloisKey, Keep, Switch, Uses};
use crate::error::{CkksError, Result};
use crate::evaluator::{Evaluator, below};
use crate::keys::KeyKind;
use crate::ring::Primes;
use num_complex::Complex64;
use sotto_params::bootstrap::{Bsgs, Giant};
use sotto_params::galois;
use std::collections::BTreeMap;

const OP: &str = "linear transform";

/// A matrix ready to be applied at one level, its diagonals encoded.
pub struct LinearTransform<E: Engine = Cpu> {
    level: usize,
    bsgs: Bsgs,
    /// Baby steps in use, ascending.
    babies: Vec<usize>,
    /// Per giant, per baby of [`Bsgs::giants`]: the position in `babies` and the plaintext.
    plaintexts: Vec<engine::Giant<E>>,
    bytes: usize,
}

impl<E: Engine> std::fmt::Debug for LinearTransform<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count: usize = self.plaintexts.iter().map(Vec::len).sum();
        write!(
            f,
            "LinearTransform({} slots, {count} diagonals, level {})",
            self.bsgs.slots, self.level
        )
    }
}

impl LinearTransform {
    /// Encodes a matrix for use on the processor (see [`Self::on`]).
    ///
    /// # Errors
    /// As [`Self::on`].
    pub fn new(
        ctx: &Context,
        bsgs: &Bsgs,
        diagonals: &BTreeMap<usize, Vec<Complex64>>,
        level: usize,
    ) -> Result<Self> {
        Self::on(&Cpu::new(ctx), bsgs, diagonals, level, Keep::Ready)
    }
}

impl<E: Engine> LinearTransform<E> {
    /// Encodes a matrix for use at `level`. The entry of row j, column j + s (mod n) is `diagonals[s][j]`; vectors have period n = `bsgs.slots`.
    /// `keep` says how they lie with the engine until they are used.
    ///
    /// # Errors
    /// If the diagonals are not those of the split or not of length n, or a value does not fit.
    pub fn on(
        engine: &E,
        bsgs: &Bsgs,
        diagonals: &BTreeMap<usize, Vec<Complex64>>,
        level: usize,
        keep: Keep,
    ) -> Result<Self> {
        let ctx = engine.context();
        ctx.check_level(OP, level)?;
        let n = bsgs.slots;
        if !n.is_power_of_two() || n > ctx.slots() {
            return Err(CkksError::Slots {
                op: OP,
                len: n,
                max: ctx.slots(),
            });
        }
        if bsgs.giants.is_empty() || bsgs.diagonals().iter().ne(diagonals.keys()) {
            return Err(CkksError::Diagonals {
                given: diagonals.len(),
                split: bsgs.diagonals().len(),
            });
        }
        if let Some(odd) = diagonals.values().find(|d| d.len() != n) {
            return Err(CkksError::Slots {
                op: OP,
                len: odd.len(),
                max: n,
            });
        }
        let encoder = Encoder::new(ctx);
        let mut babies: Vec<usize> = bsgs
            .giants
            .iter()
            .flat_map(|g| g.babies.iter().copied())
            .collect();
        babies.sort_unstable();
        babies.dedup();
        let position = |b: &usize| babies.partition_point(|x| x < b);
        let primes = ctx.wide_primes(level);
        let period = common_period(diagonals.values(), n);
        let mut bytes = 0;
        let mut encode = |step: usize, b: &usize| -> Result<(usize, E::Diagonal)> {
            let diagonal = &diagonals[&((step + b) % n)];
            let turned: Vec<Complex64> =
                (0..period).map(|j| diagonal[(j + n - step) % n]).collect();
            let coefficients = encoder.coefficients(&turned, ctx.scale(level, 1), level)?;
            let diagonal = engine.diagonal(&coefficients, &primes, keep);
            bytes += engine.diagonal_bytes(&diagonal);
            Ok((position(b), diagonal))
        };
        let giant = |g: &Giant| g.babies.iter().map(|b| encode(g.step, b)).collect();
        let plaintexts = bsgs.giants.iter().map(giant).collect::<Result<_>>()?;
        engine.check()?;
        Ok(Self {
            level,
            bsgs: bsgs.clone(),
            babies,
            plaintexts,
            bytes,
        })
    }

    /// The level it applies at.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Bytes its plaintexts take where the engine keeps them.
    pub fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// The transformed vector as a product not yet rescaled: degree 2 at the same level.
    ///
    /// # Errors
    /// If the operand is not of degree 1 at the transform's level, or a rotation's key is missing.
    pub fn apply(&self, ev: &Evaluator<'_, E>, ct: &Ct<E>) -> Result<Ct<E>> {
        let sum = self.sum(ev, ct)?;
        let halves = ev.leave(sum.each_ref(), self.level, self.level);
        Ok(ct.with(halves).at(self.level, 2))
    }

    /// The transformed vector, rescaled in the same division: degree 1 at the level below.
    ///
    /// # Errors
    /// As [`Self::apply`]; also if the level is 0.
    pub fn apply_rescaled(&self, ev: &Evaluator<'_, E>, ct: &Ct<E>) -> Result<Ct<E>> {
        let level = below(self.level)?;
        let sum = self.sum(ev, ct)?;
        let halves = ev.leave(sum.each_ref(), self.level, level);
        Ok(ct.with(halves).at(level, 1))
    }

    /// The transformed vector modulo QP, times P.
    fn sum(&self, ev: &Evaluator<'_, E>, ct: &Ct<E>) -> Result<[E::Poly; 2]> {
        ct.check_like(OP, self.level, 1)?;
        ev.check_key(OP, ct)?;
        // before the work, so that a missing key costs nothing
        for step in self.bsgs.rotations() {
            rotation_key(ev, step, self.level)?;
        }
        let babies = self.babies.iter().map(|&b| rotation_key(ev, b, self.level));
        let babies = Babies {
            c0: &ct.c0,
            rotations: babies.collect::<Result<_>>()?,
            c1: ev.decompose(&ct.c1, Uses::Many),
            wide: ev.context().wide_primes(self.level),
        };
        let inner = ev.engine().inner_sums(&babies, &self.plaintexts);
        match self.bsgs.chained {
            true => self.chained(ev, inner, &babies.wide),
            false => self.rotated(ev, inner, &babies.wide),
        }
    }

    /// Σ of the inner sums, each rotated by its giant step.
    fn rotated(
        &self,
        ev: &Evaluator<'_, E>,
        inner: Vec<[E::Poly; 2]>,
        wide: &Primes,
    ) -> Result<[E::Poly; 2]> {
        let mut outer = [(); 2].map(|()| ev.engine().zero(wide));
        for (sum, giant) in inner.into_iter().zip(&self.bsgs.giants) {
            ev.add_turned(
                OP,
                &mut outer,
                sum,
                self.element(ev, giant.step),
                self.level,
            )?;
        }
        Ok(outer)
    }

    /// The same, rotated a unit at a time.
    fn chained(
        &self,
        ev: &Evaluator<'_, E>,
        inner: Vec<[E::Poly; 2]>,
        wide: &Primes,
    ) -> Result<[E::Poly; 2]> {
        let mut inner: Vec<Option<[E::Poly; 2]>> = inner.into_iter().map(Some).collect();
        let zero = || [(); 2].map(|()| ev.engine().zero(wide));
        let mut outer = zero();
        for (unit, places) in self.bsgs.chains() {
            let element = self.element(ev, unit);
            let mut beyond: Option<[E::Poly; 2]> = None;
            for place in places.into_iter().rev() {
                let mut sum = place.and_then(|i| inner[i].take()).unwrap_or_else(zero);
                if let Some(beyond) = beyond.take() {
                    ev.add_turned(OP, &mut sum, beyond, element, self.level)?;
                }
                beyond = Some(sum);
            }
            if let Some(beyond) = beyond {
                ev.add_turned(OP, &mut outer, beyond, element, self.level)?;
            }
        }
        // what is not rotated is left
        for sum in inner.into_iter().flatten() {
            ev.add_turned(OP, &mut outer, sum, 1, self.level)?;
        }
        Ok(outer)
    }

    /// The Galois element of a rotation.
    fn element(&self, ev: &Evaluator<'_, E>, step: usize) -> u32 {
        galois::rotation(step as i64, ev.context().params().log_n)
    }
}

/// The Galois element of a rotation and its key; none for the rotation by 0.
fn rotation_key<'a, E: Engine>(
    ev: &Evaluator<'a, E>,
    step: usize,
    level: usize,
) -> Result<Option<GaloisKey<'a, E>>> {
    if step == 0 {
        return Ok(None);
    }
    let element = galois::rotation(step as i64, ev.context().params().log_n);
    let key = ev.key(OP, KeyKind::Galois(element), level)?;
    Ok(Some((element, key)))
}

/// The least period, a power of two, that all diagonals repeat with: so many values are kept of each. Factors of the DFT repeat with
/// their longest butterfly, which makes most of them short.
fn common_period<'a>(diagonals: impl Iterator<Item = &'a Vec<Complex64>>, n: usize) -> usize {
    diagonals.fold(1, |period, diagonal| {
        let mut longer = std::iter::successors(Some(period), |p| Some(2 * p));
        let repeats = |p: &usize| {
            *p >= n
                || diagonal
                    .iter()
                    .eq(diagonal[*p..].iter().chain(&diagonal[..*p]))
        };
        longer.find(repeats).unwrap_or(n)
    })
}

/// ct + Σ rot(ct, step) over the steps: one decomposition, one ModDown.
///
/// # Errors
/// If a rotation's key is missing.
pub fn add_rotations<E: Engine>(
    ev: &Evaluator<'_, E>,
    ct: &Ct<E>,
    steps: &[usize],
) -> Result<Ct<E>> {
    ev.check_key("sum of rotations", ct)?;
    let keys: Vec<_> = steps
        .iter()
        .map(|&s| rotation_key(ev, s, ct.level))
        .collect::<Result<_>>()?;
    let decomposed = &ev.decompose(&ct.c1, Uses::Many);
    let switch = |(element, key)| Switch {
        element,
        decomposed,
        key,
    };
    let switches: Vec<_> = keys.into_iter().flatten().map(switch).collect();
    let wide = ev.context().wide_primes(ct.level);
    let mut sum = ct.halves().map(|half| ev.engine().times_p(half, &wide));
    ev.engine()
        .add_switched(&mut sum, &switches, Carry::TimesP(&ct.c0));
    Ok(ct.with(ev.leave(sum.each_ref(), ct.level, ct.level)))
}
