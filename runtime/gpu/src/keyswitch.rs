//! Key switching and the sums of linear transforms.

use crate::args::{self, MOST_LIMBS, NONE};
use crate::device::{Device, Kernel};
use crate::diagonals::Rotated;
use crate::engine::Gpu;
use crate::launch::{Pick, limbs_in, limbs_of};
use crate::poly::{Digit, GpuDigits, GpuPoly};
use bytemuck::Zeroable;
use sotto_ckks::SwitchingKey;
use sotto_ckks::engine::{Babies, Decomposed, Giant, Primes, Tables};

/// What is carried along: up to one polynomial for each half, and per limb what it is multiplied with.
pub(crate) struct Carried<'a, D: Device> {
    pub halves: [Option<&'a GpuPoly<D>>; 2],
    pub factor: [u32; MOST_LIMBS],
}

impl<D: Device> Gpu<D> {
    pub(crate) fn digits(&self, c: &GpuPoly<D>, special: &Primes) -> GpuDigits<D> {
        let all: Primes = c.primes.iter().chain(special.iter()).copied().collect();
        let split = Tables::new(self.context_of()).digits_of(&c.primes);
        let others = |members: &[u16]| -> Primes {
            let own = |p: &u16| !members.contains(p);
            all.iter().copied().filter(own).collect()
        };
        // every limb belongs to one digit, so one transform serves all of them
        let mut picks = Vec::new();
        for (_, members) in &split {
            let table = self.resident().conversion(
                self.device(),
                self.context_of(),
                members,
                &others(members),
            );
            picks.extend(members.iter().zip(&table.factors).map(|(&prime, &factor)| {
                let limb = c.limb_of(prime).expect("a digit of the polynomial");
                Pick {
                    limb,
                    prime,
                    factor,
                }
            }));
        }
        let [coefficients] = self.coefficients([&*c.memory], &picks);
        let mut first = 0;
        let digit = |(index, members): (usize, Vec<u16>)| {
            let primes = others(&members);
            let from = self.limb_address(&coefficients, first);
            first += members.len();
            let rest = self.convert(from, &members, &primes);
            self.forward(&rest, &primes);
            let rest = GpuPoly::new(rest, &primes);
            Digit { index, rest }
        };
        GpuDigits {
            digits: split.into_iter().map(digit).collect(),
            primes: all,
        }
    }

    /// P modulo some primes, in Montgomery form, P being the product of `special`; zero modulo those themselves.
    pub(crate) fn times_special(&self, special: &[u16], primes: &[u16]) -> [u32; MOST_LIMBS] {
        let tables = Tables::new(self.context_of());
        let mut factors = [0; MOST_LIMBS];
        for (factor, &prime) in factors.iter_mut().zip(primes) {
            let m = self.modulus(prime);
            *factor = m.to_mont(tables.product_mod(special, m));
        }
        factors
    }

    /// Σ digit·key and what is carried, modulo some of the primes, under X → X^element. Added to `out` or written there.
    pub(crate) fn key_product_to(
        &self,
        out: [u64; 2],
        primes: &[u16],
        decomposed: &Decomposed<'_, Self>,
        key: &SwitchingKey<GpuPoly<D>>,
        carried: &Carried<'_, D>,
        (element, more): (u32, bool),
    ) {
        let mut args = args::KeyProduct::zeroed();
        for (d, digit) in decomposed.digits.digits.iter().enumerate() {
            let found = key.digits().iter().find(|k| k.index == digit.index);
            let found = found.expect("keys are looked up by level");
            args.rest[d] = self.address(&digit.rest.memory);
            // what it lacks is its own primes, where it equals the whole
            args.rest_limb[d] = limbs_of(&digit.rest, primes);
            args.b[d] = self.address(&found.b.memory);
            args.a[d] = self.address(&found.a.memory);
            // one list for all digits: they have the key's primes
            args.key_limb = limbs_in(&found.b, primes);
        }
        args.whole = self.address(&decomposed.source.memory);
        args.whole_limb = limbs_of(decomposed.source, primes);
        args.carry_limb = [NONE; MOST_LIMBS];
        for (k, half) in carried.halves.into_iter().enumerate() {
            if let Some(half) = half {
                args.carry[k] = self.address(&half.memory);
                args.carry_limb = limbs_of(half, primes);
            }
        }
        args.factor = carried.factor;
        args.out = out;
        args.primes = self.address(&self.resident().primes);
        args.log_n = self.log_n();
        args.digits = decomposed.digits.digits.len() as u32;
        (args.element, args.more) = (element, more.into());
        args.prime[..primes.len()].copy_from_slice(primes);
        self.launch(Kernel::KeyProduct, self.each_word(primes.len()), &args);
    }

    /// Σ diagonal·baby for every giant step: some limbs at a time, so that rotated ciphertexts need not all be there at once.
    pub(crate) fn giant_sums(
        &self,
        babies: &Babies<'_, Self>,
        giants: &[Giant<Self>],
    ) -> Vec<[GpuPoly<D>; 2]> {
        let all = &babies.wide;
        let fresh = || GpuPoly::new(self.alloc_limbs(all.len()), all);
        let sums: Vec<[GpuPoly<D>; 2]> = giants.iter().map(|_| [fresh(), fresh()]).collect();
        let diagonals = self.diagonals(giants);
        let rotated = 2 * babies.rotations.len();
        let chunk = (self.rotated_words() >> self.log_n()) / (rotated + diagonals.expanded).max(1);
        let chunk = chunk.clamp(1, all.len());
        let store = self.alloc_limbs(rotated * chunk);
        for (at, primes) in all.chunks(chunk).enumerate() {
            for baby in 0..babies.rotations.len() {
                let half = |h: usize| self.limb_address(&store, (2 * baby + h) * chunk);
                self.rotate_to([half(0), half(1)], primes, babies, baby);
            }
            let rotated = Rotated {
                memory: self.address(&store),
                limbs: chunk,
                first: at * chunk,
            };
            self.diagonal_sums(&sums, primes, &rotated, &diagonals);
        }
        sums
    }

    /// P times a rotation of the ciphertext, modulo some primes.
    fn rotate_to(&self, out: [u64; 2], primes: &[u16], babies: &Babies<'_, Self>, baby: usize) {
        let special = Tables::new(self.context_of()).special();
        let factor = self.times_special(special, primes);
        if let Some((element, key)) = babies.rotations[baby] {
            let carried = Carried {
                halves: [Some(babies.c0), None],
                factor,
            };
            return self.key_product_to(out, primes, &babies.c1, key, &carried, (element, false));
        }
        for (out, half) in out.into_iter().zip([babies.c0, babies.c1.source]) {
            let mut args = self.map(out, primes);
            args.a = self.address(&half.memory);
            args.a_limb = limbs_of(half, primes);
            (args.low, args.high) = (factor, factor);
            self.launch(Kernel::Scale, self.each_word(primes.len()), &args);
        }
    }
}
