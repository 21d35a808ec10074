//! How much a launch does: what it moves and multiplies at least, for holding its time against what the card can do.

use crate::args::{
    Chain, Combination, Conversion, DiagonalSum, KeyProduct, MOST_TERMS, Map, NONE, Products,
    RotatedSum, Transform,
};
use crate::device::{Kernel, THREADS};
use crate::launch::{ROW_LOG, TARGETS};
use std::collections::BTreeSet;
use std::ops::AddAssign;

/// Multiplications of a product modulo a prime, whether by Montgomery, Barrett or Shoup.
const MODULAR: u64 = 3;
/// Multiplications that reduce a sum of products.
const REDUCTION: u64 = 2;
/// Squarings of one round of a chain.
const CHAINS: u64 = 8;

/// What a launch moves and multiplies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes read from memory and written to it, each word once however often it is used: caches may save the rest, and no more.
    pub bytes: u64,
    /// Multiplications of 32-bit words, whichever half of the product they give, or both.
    pub products: u64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.products += other.products;
    }
}

impl Work {
    fn of(words: u64, products: u64) -> Self {
        Self {
            bytes: words * size_of::<u32>() as u64,
            products,
        }
    }
}

/// What a kernel is given, from which its work follows.
pub(crate) trait Task {
    /// The work of a launch on a grid.
    fn work(&self, kernel: Kernel, grid: [u32; 3]) -> Work;
}

/// How many of some limbs are there.
fn there(limbs: &[u8], count: u32) -> u64 {
    let limbs = limbs.iter().take(count as usize);
    limbs.filter(|limb| **limb != NONE).count() as u64
}

impl Task for Transform {
    fn work(&self, kernel: Kernel, [_, limbs, polys]: [u32; 3]) -> Work {
        let n = 1u64 << self.log_n;
        let columns = 1u64 << (self.log_n - ROW_LOG);
        let dividends = there(&self.dividend_limb, limbs);
        let (limbs, polys) = (u64::from(limbs), u64::from(polys));
        let on_columns = matches!(
            kernel,
            Kernel::ForwardColumns | Kernel::ExpandColumns | Kernel::InverseColumns
        );
        let (roots, products) = match on_columns {
            // a root is a pair of words
            true => (2 * columns, u64::from(self.log_n - ROW_LOG) * n / 2),
            // sixteen entries take fifteen roots for the 32 butterflies of four stages
            false => (
                u64::from(ROW_LOG) * columns + (1 << ROW_LOG),
                u64::from(ROW_LOG) * n / 2 + 15 * n / 8,
            ),
        };
        let (words, more) = match kernel {
            Kernel::ForwardRowsDivide => ((2 * limbs + dividends) * n, (limbs + dividends) * n),
            Kernel::InverseColumns => (2 * limbs * n, limbs * n),
            Kernel::ExpandColumns => {
                let coefficients = n >> self.gap;
                (2 * coefficients + limbs * n, 2 * limbs * coefficients)
            }
            _ => (2 * limbs * n, 0),
        };
        Work::of(
            polys * words + limbs * roots,
            polys * (limbs * products + more) * MODULAR,
        )
    }
}

impl Task for Map {
    fn work(&self, kernel: Kernel, [_, limbs, _]: [u32; 3]) -> Work {
        let (n, all) = (1u64 << self.log_n, u64::from(limbs));
        let a = there(&self.a_limb, limbs);
        let (words, products) = match kernel {
            Kernel::Add | Kernel::Sub => (3 * all, 0),
            Kernel::Mul => (3 * all, MODULAR * all),
            Kernel::MulAdd => (4 * all, MODULAR * all),
            Kernel::Scale => (all + a, MODULAR * a),
            Kernel::ScaleAdd => (2 * all + a, MODULAR * a),
            _ => (all + a, 0),
        };
        Work::of(words * n, products * n)
    }
}

impl Task for Products {
    fn work(&self, _: Kernel, [_, limbs, _]: [u32; 3]) -> Work {
        let words = u64::from(limbs) << self.log_n;
        let pairs = &self.pair[..self.pairs as usize];
        // a square has its operands once
        let operands: BTreeSet<u64> = pairs.iter().flatten().copied().collect();
        let sums = 3 * (1 + u64::from(self.more));
        let products = 4 * MODULAR * u64::from(self.pairs);
        Work::of((operands.len() as u64 + sums) * words, products * words)
    }
}

impl Task for Combination {
    fn work(&self, _: Kernel, [_, limbs, _]: [u32; 3]) -> Work {
        let words = u64::from(limbs) << self.log_n;
        let terms = u64::from(self.terms);
        Work::of(
            (terms + 1 + u64::from(self.more)) * words,
            (terms + REDUCTION) * words,
        )
    }
}

impl Task for Conversion {
    fn work(&self, _: Kernel, _: [u32; 3]) -> Work {
        let n = 1u64 << self.log_n;
        let (sources, targets) = (u64::from(self.sources), u64::from(self.targets));
        let quotients = targets.div_ceil(TARGETS as u64) * sources;
        let sums = targets * (sources + 1 + REDUCTION);
        Work::of((sources + targets) * n, (quotients + sums) * n)
    }
}

impl Task for KeyProduct {
    fn work(&self, _: Kernel, [_, limbs, _]: [u32; 3]) -> Work {
        let (n, all) = (1u64 << self.log_n, u64::from(limbs));
        let digits = u64::from(self.digits);
        let halves = self.carry.iter().filter(|at| **at != 0).count() as u64;
        let carried = halves * there(&self.carry_limb, limbs);
        let sums = 2 * (1 + u64::from(self.more)) * all;
        Work::of(
            (3 * digits * all + carried + sums) * n,
            (2 * (digits + REDUCTION) * all + MODULAR * carried) * n,
        )
    }
}

impl Task for DiagonalSum {
    fn work(&self, _: Kernel, [_, limbs, _]: [u32; 3]) -> Work {
        let (n, all) = (1u64 << self.log_n, u64::from(limbs));
        let (babies, giants) = (u64::from(self.babies), u64::from(self.giants));
        let used = self.diagonal.iter().take(self.babies as usize).flatten();
        let diagonals = used.filter(|at| **at != 0).count() as u64;
        let sums = giants * (1 + u64::from(self.more));
        let reductions = giants * babies.div_ceil(MOST_TERMS as u64);
        Work::of(
            all * (2 * (babies + sums) * n + diagonals * (n >> self.run)),
            all * 2 * (diagonals + REDUCTION * reductions) * n,
        )
    }
}

impl Task for RotatedSum {
    fn work(&self, _: Kernel, [_, limbs, _]: [u32; 3]) -> Work {
        let (n, all) = (1u64 << self.log_n, u64::from(limbs));
        let (digits, giants) = (u64::from(self.digits), u64::from(self.giants));
        let places = self.b.iter().take(self.babies as usize);
        let rotations = places.filter(|b| b[0] != 0).count() as u64;
        let babies = u64::from(self.babies);
        let diagonals = self.diagonal.iter().flatten();
        let diagonals = diagonals.filter(|at| **at != 0).count() as u64;
        let carried = there(&self.c0_limb, limbs);
        // digits and the first half once, however many rotations; the second half is in the digits
        let whole = if rotations == 0 { carried } else { 0 };
        let digits_read = if rotations > 0 { digits } else { 0 };
        let keys = 2 * digits * rotations;
        let sums = 2 * giants * (1 + u64::from(self.more));
        Work::of(
            (all * (digits_read + keys + sums) + carried + whole) * n
                + all * diagonals * (n >> self.run),
            (all * (keys + 2 * REDUCTION * (rotations + giants) + 2 * diagonals)
                + MODULAR * (2 * babies - rotations) * carried)
                * n,
        )
    }
}

impl Task for Chain {
    fn work(&self, _: Kernel, [blocks, ..]: [u32; 3]) -> Work {
        let threads = u64::from(blocks) * u64::from(THREADS);
        let rounds = u64::from(self.rounds);
        Work::of(threads, threads * rounds * CHAINS * MODULAR)
    }
}
