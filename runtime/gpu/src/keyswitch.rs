//! Key switching: digits, and their products with keys.

use crate::args::{self, MOST_LIMBS, NONE};
use crate::device::{Device, Kernel};
use crate::engine::Gpu;
use crate::launch::{Pick, limbs_in, limbs_of};
use crate::poly::{Digit, GpuDigits, GpuPoly};
use bytemuck::Zeroable;
use sotto_ckks::SwitchingKey;
use sotto_ckks::engine::{Decomposed, Primes, Tables};

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

    /// The halves b and a of a key's digit, by its number.
    pub(crate) fn key_digit(key: &SwitchingKey<GpuPoly<D>>, index: usize) -> [&GpuPoly<D>; 2] {
        let found = key.digits().iter().find(|digit| digit.index == index);
        let found = found.expect("keys are looked up by level");
        [&found.b, &found.a]
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
            let [b, a] = Self::key_digit(key, digit.index);
            args.rest[d] = self.address(&digit.rest.memory);
            // what it lacks is its own primes, where it equals the whole
            args.rest_limb[d] = limbs_of(&digit.rest, primes);
            args.b[d] = self.address(&b.memory);
            args.a[d] = self.address(&a.memory);
            // one list for all digits: they have the key's primes
            args.key_limb = limbs_in(b, primes);
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
}
