//! Linear transforms of the slots: a matrix by its diagonals, in baby and giant steps with double hoisting.
//!
//! The babies share one decomposition and are never divided by P: the plaintexts are encoded modulo QP, the inner sums are taken there.
//! A giant step divides (ModDown) only its second component, to decompose it again; the outer sum is divided once at the end, together with
//! the rescale. All baby work on one prime is done before the next prime's, so the rotated babies stay in cache.
//!
//! Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux: "Efficient Bootstrapping for Approximate Homomorphic Encryption with Non-Sparse Keys",
//! algorithm 6.

use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::encoding::Encoder;
use crate::error::{CkksError, Result};
use crate::evaluator::Evaluator;
use crate::keys::{KeyKind, SwitchingKey};
use crate::keyswitch::{self, Matched};
use crate::ring::{Form, Modulus, RnsPoly, kernels, permute, primes, sums};
use crate::wide::{Carry, Wide, add_times_p, columns, wide_primes};
use num_complex::Complex64;
use rayon::prelude::*;
use sotto_params::bootstrap::{Bsgs, Giant};
use sotto_params::galois;
use std::collections::BTreeMap;

const OP: &str = "linear transform";

/// A matrix ready to be applied at one level, its diagonals encoded.
pub struct LinearTransform {
    level: usize,
    bsgs: Bsgs,
    /// Baby steps in use, ascending.
    babies: Vec<usize>,
    /// Per giant, per baby of [`Bsgs::giants`]: the position in `babies` and the plaintext.
    plaintexts: Vec<Vec<(usize, Diagonal)>>,
}

/// One diagonal modulo QP, transformed, in Montgomery form. A diagonal of period n has 2n different values only, each in a run.
struct Diagonal {
    words: Vec<u32>,
    /// Words per prime.
    len: usize,
}

impl std::fmt::Debug for LinearTransform {
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
    /// Encodes a matrix for use at `level`. The entry of row j, column j + s (mod n) is `diagonals[s][j]`; vectors have period n = `bsgs.slots`.
    ///
    /// # Errors
    /// If the diagonals are not those of the split or not of length n, or a value does not fit.
    pub fn new(
        ctx: &Context,
        bsgs: &Bsgs,
        diagonals: &BTreeMap<usize, Vec<Complex64>>,
        level: usize,
    ) -> Result<Self> {
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
        let encode = |step: usize, b: &usize| -> Result<(usize, Diagonal)> {
            let diagonal = &diagonals[&((step + b) % n)];
            let turned: Vec<Complex64> = (0..n).map(|j| diagonal[(j + n - step) % n]).collect();
            Ok((
                position(b),
                Diagonal::encode(ctx, &encoder, &turned, level)?,
            ))
        };
        let giant = |g: &Giant| g.babies.iter().map(|b| encode(g.step, b)).collect();
        let plaintexts = bsgs.giants.iter().map(giant).collect::<Result<_>>()?;
        Ok(Self {
            level,
            bsgs: bsgs.clone(),
            babies,
            plaintexts,
        })
    }

    /// The level it applies at.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Bytes its plaintexts take in memory.
    pub fn size_bytes(&self) -> usize {
        self.plaintexts
            .iter()
            .flatten()
            .map(|(_, d)| 4 * d.words.len())
            .sum()
    }

    /// The transformed vector as a product not yet rescaled: degree 2 at the same level.
    ///
    /// # Errors
    /// If the operand is not of degree 1 at the transform's level, or a rotation's key is missing.
    pub fn apply(&self, ev: &Evaluator<'_>, ct: &Ciphertext) -> Result<Ciphertext> {
        let (c0, c1) = self
            .sum(ev, ct)?
            .leave(ev.context(), self.level, self.level);
        Ok(Ciphertext {
            c0,
            c1,
            level: self.level,
            degree: 2,
            key: ct.key,
        })
    }

    /// The transformed vector, rescaled in the same division: degree 1 at the level below.
    ///
    /// # Errors
    /// As [`Self::apply`]; also if the level is 0.
    pub fn apply_rescaled(&self, ev: &Evaluator<'_>, ct: &Ciphertext) -> Result<Ciphertext> {
        let Some(level) = self.level.checked_sub(1) else {
            return Err(CkksError::Level {
                op: OP,
                level: 0,
                highest: 0,
            });
        };
        let (c0, c1) = self.sum(ev, ct)?.leave(ev.context(), self.level, level);
        Ok(Ciphertext {
            c0,
            c1,
            level,
            degree: 1,
            key: ct.key,
        })
    }

    fn sum(&self, ev: &Evaluator<'_>, ct: &Ciphertext) -> Result<Wide> {
        ct.check_like(OP, self.level, 1)?;
        ev.check_key(OP, ct)?;
        let ctx = ev.context();
        let giant_keys: Vec<Option<(u32, &SwitchingKey)>> = self
            .bsgs
            .giants
            .iter()
            .map(|g| rotation_key(ev, g.step, self.level))
            .collect::<Result<_>>()?;
        let mut inner = self.inner_sums(ev, ct)?;
        let mut outer = Wide::zero(ctx, inner[0].c0.primes());
        let level_primes = ctx.level_primes(self.level);
        for (sum, key) in inner.drain(..).zip(giant_keys) {
            let Some((element, key)) = key else {
                outer.add_assign(ctx, &sum);
                continue;
            };
            let c1 = keyswitch::mod_down(ctx, &sum.c1, ctx.special(), level_primes);
            let decomposed = keyswitch::decompose(ctx, &c1, ctx.special());
            let switch = [(element, Matched::new(&decomposed, key))];
            outer.add_switched(ctx, &switch, Carry::Wide(&sum.c0));
        }
        Ok(outer)
    }

    /// Σ_b diagonal·rot(ct, b) for every giant, modulo QP and times P.
    fn inner_sums(&self, ev: &Evaluator<'_>, ct: &Ciphertext) -> Result<Vec<Wide>> {
        let (ctx, ring) = (ev.context(), ev.context().ring());
        let decomposed = keyswitch::decompose(ctx, &ct.c1, ctx.special());
        let keys = self.babies.iter().map(|&b| rotation_key(ev, b, self.level));
        let babies: Vec<_> = keys
            .map(|k| {
                Ok(k?.map(|(element, key)| {
                    (ring.permutation(element), Matched::new(&decomposed, key))
                }))
            })
            .collect::<Result<_>>()?;
        let all = wide_primes(ctx, self.level);
        let dirty = || RnsPoly::dirty(ring, &all, Form::Transformed);
        let mut inner: Vec<Wide> = self
            .bsgs
            .giants
            .iter()
            .map(|_| Wide {
                c0: dirty(),
                c1: dirty(),
            })
            .collect();
        let mut limbs = columns(inner.iter_mut().flat_map(|w| [&mut w.c0, &mut w.c1]));
        limbs.par_iter_mut().enumerate().for_each(|(at, sums)| {
            let prime = all[at];
            // Two limbs per baby, then three of scratch.
            let mut store = RnsPoly::dirty(
                ring,
                &primes(vec![prime; 2 * babies.len() + 3]),
                Form::Transformed,
            );
            let mut parts: Vec<&mut [u32]> = store.limbs_mut().collect();
            let (rotated, scratch) = parts.split_at_mut(2 * babies.len());
            for (baby, out) in babies.iter().zip(rotated.chunks_exact_mut(2)) {
                let [x, y, _] = scratch else { return };
                match baby {
                    None => {
                        for (o, c) in out.iter_mut().zip([&ct.c0, &ct.c1]) {
                            o.fill(0);
                            add_times_p(ctx, o, c, prime);
                        }
                    }
                    Some((table, matched)) => {
                        matched.limb(ring, prime, x, y);
                        add_times_p(ctx, x, &ct.c0, prime);
                        permute::permute(out[0], x, table);
                        permute::permute(out[1], y, table);
                    }
                }
            }
            let part = |baby: usize, half: usize| &*rotated[2 * baby + half];
            for (giant, out) in self.plaintexts.iter().zip(sums.chunks_exact_mut(2)) {
                for (half, o) in out.iter_mut().enumerate() {
                    let pairs: Vec<(&[u32], &[u32])> = giant
                        .iter()
                        .map(|(b, d)| (part(*b, half), d.limb(at)))
                        .collect();
                    dot(o, scratch[0], &pairs, ring.modulus(prime));
                }
            }
        });
        Ok(inner)
    }
}

/// out = Σ a·b over any number of pairs, the second members in Montgomery form and possibly in runs.
fn dot(out: &mut [u32], scratch: &mut [u32], pairs: &[(&[u32], &[u32])], m: Modulus) {
    if pairs.is_empty() {
        return out.fill(0);
    }
    for (i, chunk) in pairs.chunks(kernels::MAX_TERMS).enumerate() {
        let target = if i == 0 { &mut *out } else { &mut *scratch };
        sums::dot_mont_in_runs(target, chunk, m);
        if i > 0 {
            kernels::add_assign(out, scratch, m);
        }
    }
}

/// The Galois element of a rotation and its key; none for the rotation by 0.
fn rotation_key<'a>(
    ev: &Evaluator<'a>,
    step: usize,
    level: usize,
) -> Result<Option<(u32, &'a SwitchingKey)>> {
    if step == 0 {
        return Ok(None);
    }
    let ctx = ev.context();
    let element = galois::rotation(step as i64, ctx.params().log_n);
    let key = ev.keys().find(ctx, OP, KeyKind::Galois(element), level)?;
    Ok(Some((element, key)))
}

impl Diagonal {
    fn encode(
        ctx: &Context,
        encoder: &Encoder,
        values: &[Complex64],
        level: usize,
    ) -> Result<Self> {
        let (ring, all) = (ctx.ring(), wide_primes(ctx, level));
        let mut poly = encoder.encode_at(values, &all, ctx.scale(level, 1), level)?;
        poly.par_limbs(|_, prime, limb| {
            let m = ring.modulus(prime);
            kernels::mul_scalar(limb, m.r2, m);
        });
        // A polynomial in X^(N/2n) takes 2n different values, constant on runs in bit-reversed order.
        let run = ring.n / (2 * values.len());
        Ok(Self {
            words: poly.words().iter().copied().step_by(run).collect(),
            len: ring.n / run,
        })
    }

    fn limb(&self, i: usize) -> &[u32] {
        &self.words[i * self.len..(i + 1) * self.len]
    }
}

/// ct + Σ rot(ct, step) over the steps: one decomposition, one ModDown.
///
/// # Errors
/// If a rotation's key is missing.
pub fn add_rotations(ev: &Evaluator<'_>, ct: &Ciphertext, steps: &[usize]) -> Result<Ciphertext> {
    ev.check_key("sum of rotations", ct)?;
    let ctx = ev.context();
    let keys: Vec<_> = steps
        .iter()
        .map(|&s| rotation_key(ev, s, ct.level))
        .collect::<Result<_>>()?;
    let decomposed = keyswitch::decompose(ctx, &ct.c1, ctx.special());
    let switches: Vec<_> = keys
        .into_iter()
        .flatten()
        .map(|(element, key)| (element, Matched::new(&decomposed, key)))
        .collect();
    let mut sum = Wide::lift(ctx, ct);
    sum.add_switched(ctx, &switches, Carry::TimesP(&ct.c0));
    let (c0, c1) = sum.leave(ctx, ct.level, ct.level);
    Ok(Ciphertext { c0, c1, ..*ct })
}
