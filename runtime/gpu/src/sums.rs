//! The sums of linear transforms: diagonals times rotations of one ciphertext, for every giant step.
//!
//! With few giant steps the kernel that sums makes the rotations itself, and they are never in memory (double hoisting: Bossuat, Mouchet,
//! Troncoso-Pastoriza, Hubaux 2021). With many it would make them again for every few of them: then they are stored.

use crate::args::{self, MOST_BABIES, MOST_DIGITS, MOST_GIANTS, MOST_LIMBS, MOST_ROTATIONS, NONE};
use crate::device::{Device, Kernel};
use crate::diagonals::{Diagonals, tiles};
use crate::engine::Gpu;
use crate::keyswitch::Carried;
use crate::launch::{limbs_in, limbs_of};
use crate::poly::GpuPoly;
use bytemuck::Zeroable;
use sotto_ckks::engine::{Babies, Giant, Tables};

/// Rotated ciphertexts modulo some primes, in memory.
struct Rotated {
    /// Half h of number r is `limbs` limbs from (2r + h)·`limbs` on.
    memory: u64,
    limbs: usize,
}

/// Limbs that sums are made of at a time: which of all is the first, and their primes.
#[derive(Clone, Copy)]
struct Part<'a> {
    first: usize,
    primes: &'a [u16],
}

impl<D: Device> Gpu<D> {
    /// Σ diagonal·baby for every giant step: some limbs at a time, so that rotated ciphertexts and expanded diagonals need not all be there at
    /// once.
    pub(crate) fn giant_sums(
        &self,
        babies: &Babies<'_, Self>,
        giants: &[Giant<Self>],
    ) -> Vec<[GpuPoly<D>; 2]> {
        let all = &babies.wide;
        let fresh = || GpuPoly::new(self.alloc_limbs(all.len()), all);
        let sums: Vec<[GpuPoly<D>; 2]> = giants.iter().map(|_| [fresh(), fresh()]).collect();
        let diagonals = self.diagonals(giants);
        let digits = babies.c1.digits.digits.len();
        let stored = giants.len() > MOST_GIANTS || digits > MOST_DIGITS;
        let rotated = if stored {
            2 * babies.rotations.len()
        } else {
            0
        };
        let limbs = (self.rotated_words() >> self.log_n()) / (rotated + diagonals.expanded).max(1);
        let limbs = limbs.clamp(1, all.len());
        let store = stored.then(|| self.alloc_limbs(rotated * limbs));
        for (at, primes) in all.chunks(limbs).enumerate() {
            let part = Part {
                first: at * limbs,
                primes,
            };
            match &store {
                Some(store) => {
                    let memory = self.address(store);
                    let rotated = Rotated { memory, limbs };
                    self.rotate_all(&rotated, primes, babies);
                    self.diagonal_sums(&sums, part, &rotated, &diagonals);
                }
                None => self.rotated_sums(&sums, part, babies, &diagonals),
            }
        }
        sums
    }

    /// The sums from rotations that are made on the way.
    fn rotated_sums(
        &self,
        sums: &[[GpuPoly<D>; 2]],
        Part { first, primes }: Part<'_>,
        babies: &Babies<'_, Self>,
        diagonals: &Diagonals<D>,
    ) {
        let mut args = args::RotatedSum::zeroed();
        let digits = &babies.c1.digits.digits;
        for (d, digit) in digits.iter().enumerate() {
            args.rest[d] = self.address(&digit.rest.memory);
            args.rest_limb[d] = limbs_of(&digit.rest, primes);
        }
        args.whole = self.address(&babies.c1.source.memory);
        args.whole_limb = limbs_of(babies.c1.source, primes);
        args.c0 = self.address(&babies.c0.memory);
        args.c0_limb = limbs_of(babies.c0, primes);
        let special = Tables::new(self.context_of()).special();
        args.factor = self.times_special(special, primes);
        for (out, sum) in args.out.iter_mut().zip(sums) {
            *out = sum.each_ref().map(|half| self.address(&half.memory));
        }
        args.primes = self.address(&self.resident().primes);
        (args.log_n, args.giants) = (self.log_n(), sums.len() as u32);
        (args.digits, args.first) = (digits.len() as u32, first as u32);
        args.prime[..primes.len()].copy_from_slice(primes);
        for tile in tiles(&diagonals.giants, MOST_ROTATIONS) {
            let operands = self.operands(primes, first, &tile);
            args.diagonal = operands.diagonal;
            (args.run, args.start) = (operands.run, operands.start);
            args.babies = operands.babies.len() as u32;
            for (place, &baby) in operands.babies.iter().enumerate() {
                self.rotation(&mut args, place, primes, babies, baby);
            }
            self.launch(Kernel::RotatedSum, self.each_word(primes.len()), &args);
            args.more = 1;
        }
    }

    /// Fills in a rotation of such a sum: its element, and its key.
    fn rotation(
        &self,
        args: &mut args::RotatedSum,
        place: usize,
        primes: &[u16],
        babies: &Babies<'_, Self>,
        baby: usize,
    ) {
        (args.b[place], args.a[place]) = ([0; MOST_DIGITS], [0; MOST_DIGITS]);
        args.key_limb[place] = [NONE; MOST_LIMBS];
        args.element[place] = 1;
        let Some((element, key)) = babies.rotations[baby] else {
            return;
        };
        args.element[place] = element;
        for (d, digit) in babies.c1.digits.digits.iter().enumerate() {
            let [b, a] = Self::key_digit(key, digit.index);
            args.b[place][d] = self.address(&b.memory);
            args.a[place][d] = self.address(&a.memory);
            // one list for all digits: they have the key's primes
            args.key_limb[place] = limbs_in(b, primes);
        }
    }

    /// The sums from rotations in memory.
    fn diagonal_sums(
        &self,
        sums: &[[GpuPoly<D>; 2]],
        Part { first, primes }: Part<'_>,
        rotated: &Rotated,
        diagonals: &Diagonals<D>,
    ) {
        let groups = diagonals.giants.chunks(MOST_GIANTS);
        for (giants, sums) in groups.zip(sums.chunks(MOST_GIANTS)) {
            let mut args = args::DiagonalSum::zeroed();
            args.rotated = rotated.memory;
            for (out, sum) in args.out.iter_mut().zip(sums) {
                *out = sum.each_ref().map(|half| self.address(&half.memory));
            }
            args.primes = self.address(&self.resident().primes);
            (args.log_n, args.giants) = (self.log_n(), sums.len() as u32);
            (args.limbs, args.first) = (rotated.limbs as u32, first as u32);
            args.prime[..primes.len()].copy_from_slice(primes);
            for tile in tiles(giants, MOST_BABIES) {
                let operands = self.operands(primes, first, &tile);
                args.diagonal = operands.diagonal;
                (args.run, args.start) = (operands.run, operands.start);
                args.babies = operands.babies.len() as u32;
                for (to, &baby) in args.baby.iter_mut().zip(&operands.babies) {
                    *to =
                        u16::try_from(baby).expect("no matrix has so many babies: slots are fewer");
                }
                self.launch(Kernel::DiagonalSum, self.each_word(primes.len()), &args);
                args.more = 1;
            }
        }
    }

    /// All rotations modulo some primes, times P.
    fn rotate_all(&self, to: &Rotated, primes: &[u16], babies: &Babies<'_, Self>) {
        for baby in 0..babies.rotations.len() {
            let half = |h: usize| {
                let limb = (2 * baby + h) * to.limbs;
                to.memory + ((limb as u64) << (self.log_n() + 2))
            };
            self.rotate_to([half(0), half(1)], primes, babies, baby);
        }
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
