//! Integer-only base conversion: from residues modulo a few primes to residues of the representative nearest to zero modulo others.
//!
//! For x modulo D = Π d_i, let v_i = x·(D/d_i)^-1 mod d_i; then x ≡ Σ v_i·(D/d_i), which exceeds the representative nearest to zero by u·D
//! with u = round(Σ v_i/d_i) (Halevi, Polyakov, Shoup 2019). u comes from 60-bit fixed-point arithmetic: only where x lies within
//! 2^-26 of ±D/2 can it be off by one, and there both representatives serve.

use super::kernels::{self, Source};
use super::{Modulus, Ring};
use crate::engine::ConversionTable;
use rayon::prelude::*;

/// Coefficients converted at a time: twelve sources stay within the first-level cache.
const BLOCK: usize = 512;

/// Tables of the conversion from one prime set to another.
pub(crate) struct BaseConversion {
    sources: Vec<Source>,
    targets: Vec<Target>,
}

/// A target prime and its constants, one per source and one for the overflow.
type Target = (Modulus, Vec<u32>);

impl BaseConversion {
    /// Tables for inputs that come out of an inverse transform not yet divided by N.
    pub(crate) fn new(ring: &Ring, from: &[u16], to: &[u16]) -> Self {
        let others =
            |skip: u16| -> Vec<u16> { from.iter().copied().filter(|&i| i != skip).collect() };
        let sources = from
            .iter()
            .map(|&i| {
                let modulus = ring.modulus(i);
                let cofactor = ring.product_mod(&others(i), modulus);
                let n = modulus.reduce_u64(ring.n as u64);
                let bits = 32 - modulus.p.leading_zeros();
                Source {
                    modulus,
                    factor: modulus.to_mont(modulus.inv(modulus.mul(cofactor, n))),
                    reciprocal: ((1u64 << (bits + 30)) / u64::from(modulus.p)) as u32,
                    align: 30 - bits,
                }
            })
            .collect();
        let targets = to
            .iter()
            .map(|&t| {
                let m = ring.modulus(t);
                let mut constants: Vec<u32> = from
                    .iter()
                    .map(|&i| m.to_mont(ring.product_mod(&others(i), m)))
                    .collect();
                constants.push(m.to_mont(m.neg(ring.product_mod(from, m))));
                (m, constants)
            })
            .collect();
        Self { sources, targets }
    }

    /// Its constants, for those who compute elsewhere.
    pub(crate) fn table(&self) -> ConversionTable {
        ConversionTable {
            factors: self.sources.iter().map(|s| s.factor).collect(),
            reciprocals: self
                .sources
                .iter()
                .map(|s| [s.reciprocal, s.align])
                .collect(),
            targets: self.targets.iter().map(|(_, c)| c.clone()).collect(),
        }
    }

    /// Converts. `inputs` are coefficient limbs times N (one per source prime), `outputs` receive coefficient limbs.
    pub(crate) fn apply(&self, inputs: &[&[u32]], outputs: Vec<&mut [u32]>) {
        let n = inputs[0].len();
        let block = BLOCK.min(n);
        let mut columns: Vec<Vec<&mut [u32]>> = (0..n / block)
            .map(|_| Vec::with_capacity(outputs.len()))
            .collect();
        for limb in outputs {
            for (column, part) in columns.iter_mut().zip(limb.chunks_exact_mut(block)) {
                column.push(part);
            }
        }
        // Eight blocks per task: enough work to be worth handing out, enough tasks to share.
        columns
            .par_chunks_mut(8)
            .enumerate()
            .for_each(|(group, columns)| {
                let mut y = vec![0; (inputs.len() + 1) * block];
                let mut overflow = vec![0; block];
                for (i, column) in columns.iter_mut().enumerate() {
                    let start = (group * 8 + i) * block;
                    let part: Vec<&[u32]> =
                        inputs.iter().map(|x| &x[start..start + block]).collect();
                    kernels::convert_sources(&mut y, &mut overflow, &part, &self.sources);
                    for (out, target) in column.chunks_mut(2).zip(self.targets.chunks(2)) {
                        convert_pair(out, &y, target);
                    }
                }
            });
    }
}

/// Two targets at a time share the loads of their sources.
fn convert_pair(out: &mut [&mut [u32]], y: &[u32], targets: &[Target]) {
    match (out, targets) {
        ([a, b], [(m, c), (n, d)]) => kernels::convert_targets([a, b], y, [c, d], [*m, *n]),
        (out, targets) => {
            for (out, (m, constants)) in out.iter_mut().zip(targets) {
                kernels::convert_target(out, y, constants, *m);
            }
        }
    }
}
