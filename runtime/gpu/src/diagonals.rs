//! Sums of plaintexts times rotated ciphertexts, and the plaintexts themselves: ready, or by their coefficients.
//!
//! A model's matrices are gigabytes when they are ready to be multiplied with: every coefficient modulo every prime of QP. By their
//! coefficients they are about a tenth of that, and lie on the card; what a sum needs is expanded just before, some limbs at a time.

use crate::args::{self, MOST_LIMBS, MOST_POLYS};
use crate::device::{Device, Kernel};
use crate::engine::Gpu;
use crate::poly::{DiagonalForm, GpuDiagonal, GpuPoly};
use crate::tables::resident;
use bytemuck::{Zeroable, cast_slice};

/// Plaintexts that are expanded at a time.
const EXPANDED: usize = 16;

/// The rotated ciphertexts of a linear transform modulo some of its primes.
pub(crate) struct Rotated {
    /// Half h of number r is `limbs` limbs from (2r + h)·`limbs` on.
    pub memory: u64,
    pub limbs: usize,
    /// Which of all limbs is their first.
    pub first: usize,
}

impl<D: Device> Gpu<D> {
    /// A plaintext by its coefficients.
    pub(crate) fn compact(&self, coefficients: &[i64]) -> GpuDiagonal<D> {
        let words: &[u32] = cast_slice(coefficients);
        let gap = self.log_n() - coefficients.len().trailing_zeros();
        GpuDiagonal {
            memory: resident(self.device(), words),
            words: words.len(),
            form: DiagonalForm::Compact(gap),
        }
    }

    /// One giant step's sum modulo some primes, or zero if it has no diagonals.
    pub(crate) fn diagonal_sum(
        &self,
        sum: &[GpuPoly<D>; 2],
        primes: &[u16],
        rotated: &Rotated,
        giant: &[(usize, GpuDiagonal<D>)],
    ) {
        let compact = |(_, d): &(usize, GpuDiagonal<D>)| matches!(d.form, DiagonalForm::Compact(_));
        let most = if giant.iter().any(compact) {
            EXPANDED
        } else {
            MOST_LIMBS
        };
        let mut pieces: Vec<_> = giant.chunks(most).collect();
        if pieces.is_empty() {
            pieces.push(&[]);
        }
        for (piece, diagonals) in pieces.into_iter().enumerate() {
            let count = diagonals.iter().filter(|d| compact(d)).count();
            let room = (count > 0).then(|| self.alloc_limbs(count * primes.len()));
            let mut args = args::DiagonalSum::zeroed();
            args.rotated = rotated.memory;
            args.out = sum.each_ref().map(|half| self.address(&half.memory));
            args.primes = self.address(&self.resident().primes);
            args.log_n = self.log_n();
            (args.limbs, args.first) = (rotated.limbs as u32, rotated.first as u32);
            args.prime[..primes.len()].copy_from_slice(primes);
            let mut expanded = Vec::new();
            for (t, (baby, diagonal)) in diagonals.iter().enumerate() {
                args.baby[t] =
                    u16::try_from(*baby).expect("no matrix has so many babies: slots are fewer");
                match diagonal.form {
                    DiagonalForm::Ready(run) => {
                        args.diagonal[t] = self.address(&diagonal.memory);
                        args.run[t] = run as u8;
                    }
                    DiagonalForm::Compact(gap) => {
                        let room = room.as_ref().expect("there is room for what is expanded");
                        let to = self.limb_address(room, expanded.len() * primes.len());
                        self.expand(self.address(&diagonal.memory), gap, to, primes);
                        expanded.push(to);
                        (args.diagonal[t], args.own[t]) = (to, 1);
                    }
                }
            }
            for batch in expanded.chunks(MOST_POLYS) {
                self.forward_all(batch, primes);
            }
            (args.terms, args.more) = (diagonals.len() as u32, (piece > 0).into());
            let [x, y, _] = self.each_word(primes.len());
            self.launch(Kernel::DiagonalSum, [x, y, 2], &args);
        }
    }

    /// Coefficients to residues modulo some primes, in Montgomery form.
    fn expand(&self, from: u64, gap: u32, to: u64, primes: &[u16]) {
        let mut args = args::Expansion::zeroed();
        (args.from, args.to) = (from, to);
        args.primes = self.address(&self.resident().primes);
        (args.log_n, args.gap) = (self.log_n(), gap);
        args.prime[..primes.len()].copy_from_slice(primes);
        for (i, &prime) in primes.iter().enumerate() {
            let m = self.modulus(prime);
            (args.square[i], args.cube[i]) = (m.r2, m.to_mont(m.r2));
        }
        self.launch(Kernel::Expand, self.each_word(primes.len()), &args);
    }
}
