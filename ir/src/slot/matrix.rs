//! Matrices in diagonal form: where rows and columns lie, how many products they take, and their entries as numbers.

use super::data::DataId;
use num_complex::Complex64;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How the rows and columns of a matrix lie in the slots.
///
/// The two forms alternate: a spread matrix makes from a tiled vector one whose features stand [`Form::stride`] slots apart, a
/// gathering matrix makes from that (every feature repeated over its `stride` slots) a tiled one again, and no skewing of slots comes
/// between. With stride s, a spread matrix of in-width a takes a/s products instead of a, and log2(s) more rotations to fold (row
/// products against diagonals; Cachemir's interleaved packing, arXiv 2602.11470, has the same counts).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // the stride is explained above
pub enum Form {
    /// Input column c at every slot p ≡ c (mod in-width); products of output row o in slots [o·stride, (o+1)·stride), repeating
    /// after out-width·stride slots. The caller folds with step 1 and count min(stride, in-width), after which slot o·stride holds
    /// row o, and the slots between hold nothing of use.
    Spread { stride: u32 },
    /// Input column c in all slots [c·stride, (c+1)·stride), repeating after in-width·stride slots; products of output row o at every
    /// slot p ≡ o (mod out-width), but zero beyond the first out-width slots of a run where the stride is longer. The caller folds
    /// over in-width·stride slots with step out-width, after which row o is at every slot p ≡ o.
    Gather { stride: u32 },
    /// A product across the tokens of a block, the same at every place of a run of `run` slots: what token r has in run j becomes
    /// Σ_c W[j mod block][c] × what token c has there. So the identity gives run j of every token to token j. Diagonal k multiplies the
    /// operand rotated left by k - (block - 1), of which the caller does the - (block - 1).
    Mix { run: u32 },
}

impl Form {
    /// Slots of one token that one feature of the strided side takes.
    pub fn stride(self) -> u32 {
        match self {
            Form::Spread { stride } | Form::Gather { stride } => stride,
            Form::Mix { .. } => 1,
        }
    }
}

/// What the imaginary part of a matrix's entries is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pairing {
    /// Nothing: entries are real.
    None,
    /// A second matrix: (W_a + i·W_b)·v, the caller takes real and imaginary part.
    Outputs,
    /// The second half of the diagonals: with n of them, the operand is v + i·rot(v, stride·n), and diagonal k is D_k - i·D_{k+n}, so that
    /// the real part of the product is the sum of all 2n.
    Inputs,
}

/// A matrix in diagonal form: out = Σ_k diagonal_k ⊙ rot(v, k·stride), with rows and columns as [`Form`] says.
///
/// Of a block of tokens side by side ([`Layout::Block`](super::Layout::Block)), every slot and every step of that is one for each
/// token, and all tokens are multiplied alike.
///
/// Evaluated in baby and giant steps: k = g·baby + j, babies rot(v, j·step) hoisted, giants rot(·, g·baby·step), with the step of
/// [`Matrix::step`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    /// Site it belongs to.
    pub name: String,
    /// Width of the input vector, a power of two.
    pub in_width: u32,
    /// Width of the output vector, a power of two.
    pub out_width: u32,
    /// How rows and columns lie.
    pub form: Form,
    /// Tokens side by side, a power of two.
    pub block: u32,
    /// What imaginary parts are for.
    pub pairing: Pairing,
    /// Baby steps B; the giants are ⌈diagonals / B⌉.
    pub baby: u32,
    /// The W entries: data of shape [out_width, in_width], doubled (first matrix, then second) for [`Pairing::Outputs`].
    pub data: DataId,
}

impl Matrix {
    /// The rotations that the caller sums the product with, as step and count of a fold, in slots of one token.
    pub fn fold(&self) -> (u32, u32) {
        match self.form {
            Form::Spread { stride } => (1, stride.min(self.in_width)),
            Form::Gather { stride } => {
                let step = self.out_width;
                (step, (self.in_width * stride / step).max(1))
            }
            Form::Mix { .. } => (1, 1),
        }
    }

    /// Slots from the rotation of one diagonal to the next's.
    pub fn step(&self) -> u32 {
        match self.form {
            Form::Spread { stride } | Form::Gather { stride } => stride.saturating_mul(self.block),
            Form::Mix { .. } => 1,
        }
    }

    /// Number of diagonals: of a spread matrix in_width / stride, of a gathering one out_width / stride, at least one; half as many
    /// where inputs are paired.
    pub fn diagonals(&self) -> u32 {
        let all = self.all_diagonals();
        match self.pairing {
            Pairing::Inputs => all / 2,
            _ => all,
        }
    }

    /// Diagonals before pairing.
    pub fn all_diagonals(&self) -> u32 {
        let width = match self.form {
            Form::Spread { .. } => self.in_width,
            Form::Gather { .. } => self.out_width,
            Form::Mix { .. } => self.block.saturating_mul(2).saturating_sub(1),
        };
        (width / self.form.stride().max(1)).max(1)
    }

    /// Period of each diagonal: the longer of input's and output's.
    pub fn period(&self) -> u32 {
        let each = match self.form {
            Form::Spread { stride } => self.in_width.max(self.out_width.saturating_mul(stride)),
            Form::Gather { stride } => self.out_width.max(self.in_width.saturating_mul(stride)),
            Form::Mix { run } => self.block.saturating_mul(run),
        };
        each.saturating_mul(self.block)
    }

    /// The matrix's row and column that slot p of (unpaired) diagonal k multiplies; None where it multiplies by 0.
    pub fn entry(&self, p: u32, k: u32) -> Option<(u32, u32)> {
        let (place, token) = (p / self.block, p % self.block);
        match self.form {
            Form::Spread { stride } => {
                let column = (place + k * stride) % self.in_width;
                Some(((place / stride) % self.out_width, column))
            }
            Form::Gather { stride } => {
                let column = (place / stride + k) % self.in_width;
                let once = place % stride < self.out_width;
                once.then_some((place % self.out_width, column))
            }
            Form::Mix { run } => {
                let column = (token + k).checked_sub(self.block - 1)?;
                (column < self.block).then_some((place / run % self.block, column))
            }
        }
    }

    /// Whether the result of a real operand has imaginary parts.
    pub fn complex(&self) -> bool {
        self.pairing != Pairing::None
    }
}

/// The entries of a matrix, by diagonal.
#[derive(Clone, Debug)]
pub struct Entries<'m> {
    pub(super) values: Arc<[f64]>,
    pub(super) matrix: &'m Matrix,
}

impl Entries<'_> {
    /// Slot p of diagonal k, as [`Form`](Form) and [`Pairing`] say.
    pub fn at(&self, p: u32, k: u32) -> Complex64 {
        let Matrix {
            in_width,
            out_width,
            pairing,
            ..
        } = *self.matrix;
        let value = |p, k, part: usize| {
            let Some((row, column)) = self.matrix.entry(p, k) else {
                return 0.0;
            };
            let count = in_width as usize * out_width as usize;
            self.values[part * count + row as usize * in_width as usize + column as usize]
        };
        let im = match pairing {
            Pairing::None => 0.0,
            Pairing::Outputs => value(p, k, 1),
            Pairing::Inputs => -value(p, k + self.matrix.diagonals(), 0),
        };
        Complex64::new(value(p, k, 0), im)
    }

    /// Diagonal k in slot order, one period.
    pub fn diagonal(&self, k: u32) -> Vec<Complex64> {
        (0..self.matrix.period()).map(|p| self.at(p, k)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Slots;
    use proptest::prelude::*;

    const SLOTS: u32 = 256;

    fn weight(row: u32, column: u32) -> f64 {
        f64::from((row * 31 + column * 17) % 23) / 23.0 - 0.5
    }

    fn value(column: u32) -> f64 {
        f64::from(column * 7 % 13) / 13.0 - 0.4
    }

    /// Weights times values: what a row of the product is.
    fn exact(matrix: &Matrix, row: u32, token: u32) -> f64 {
        let columns = 0..matrix.in_width;
        columns.map(|c| weight(row, c) * value(c + 3 * token)).sum()
    }

    /// Row products as the executor computes them: rotations times diagonals, then the fold, then the part that pairing asks for.
    fn product(matrix: &Matrix) -> Slots {
        let Matrix {
            in_width,
            out_width,
            form,
            pairing,
            ..
        } = *matrix;
        let mut values: Vec<f64> = (0..out_width * in_width)
            .map(|i| weight(i / in_width, i % in_width))
            .collect();
        if pairing == Pairing::Outputs {
            let second: Vec<f64> = values.iter().map(|x| 2.0 * x).collect();
            values.extend(second);
        }
        let entries = Entries {
            values: values.into(),
            matrix,
        };
        let block = matrix.block;
        let places = match form {
            Form::Spread { .. } | Form::Mix { .. } => in_width,
            Form::Gather { stride } => in_width * stride,
        };
        let column = |p: u32| p / block / (places / in_width);
        let x = (0..places * block).map(|p| value(column(p) + 3 * (p % block)));
        let mut v = Slots::real(&x.collect::<Vec<_>>()).unwrap();
        let step = matrix.step() as i32;
        if pairing == Pairing::Inputs {
            let turned = v.rotate(step * matrix.diagonals() as i32);
            v = v.zip(&turned, |a, b| a + Complex64::i() * b);
        }
        let mut sum = Slots::real(&[0.0]).unwrap();
        for k in 0..matrix.diagonals() {
            let diagonal = Slots::new(entries.diagonal(k)).unwrap();
            let turned = v.rotate(step * k as i32);
            sum = sum.zip(&turned.zip(&diagonal, |a, b| a * b), |a, b| a + b);
        }
        let (step, count) = matrix.fold();
        sum.fold((step * block) as i32, count)
    }

    fn matrix() -> impl Strategy<Value = Matrix> {
        let power = |most: u32| (0..=most).prop_map(|log| 1u32 << log);
        let pairing = prop::sample::select(vec![Pairing::None, Pairing::Outputs, Pairing::Inputs]);
        let all = (
            power(6),
            power(6),
            power(6),
            power(2),
            any::<bool>(),
            pairing,
        );
        let made = all.prop_map(
            |(in_width, out_width, stride, block, spread, pairing)| Matrix {
                block,
                name: "w".into(),
                in_width,
                out_width,
                form: match spread {
                    true => Form::Spread { stride },
                    false => Form::Gather { stride },
                },
                pairing,
                baby: 1,
                data: DataId(0),
            },
        );
        made.prop_filter("what the verifier asks for", |m| {
            let holds = match m.form {
                Form::Spread { stride } => m.out_width * stride * m.block <= SLOTS,
                Form::Gather { stride } => {
                    m.in_width * stride * m.block <= SLOTS && m.in_width * stride >= m.out_width
                }
                Form::Mix { .. } => false,
            };
            holds && (m.pairing != Pairing::Inputs || m.all_diagonals() >= 2)
        })
    }

    proptest! {
        #[test]
        fn every_form_computes_the_product(matrix in matrix()) {
            let found = product(&matrix);
            let tokens = 0..matrix.block;
            for (row, token) in (0..matrix.out_width).flat_map(|row| tokens.clone().map(move |t| (row, t))) {
                let exact = exact(&matrix, row, token);
                let places = SLOTS / matrix.block;
                let at: Vec<u32> = match matrix.form {
                    Form::Spread { stride } => vec![row * stride],
                    _ => (row..places).step_by(matrix.out_width as usize).collect(),
                };
                for p in at.into_iter().map(|place| place * matrix.block + token) {
                    let slot = found.at(p as usize);
                    prop_assert!((slot.re - exact).abs() < 1e-9, "{matrix:?} row {row}");
                    if matrix.pairing == Pairing::Outputs {
                        prop_assert!((slot.im - 2.0 * exact).abs() < 1e-9, "{matrix:?} row {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn mixing_multiplies_across_the_tokens_of_each_place() {
        for (block, run) in [(1, 1), (2, 4), (8, 1), (4, 16)] {
            let matrix = Matrix {
                name: "w".into(),
                in_width: block,
                out_width: block,
                form: Form::Mix { run },
                block,
                pairing: Pairing::None,
                baby: 1,
                data: DataId(0),
            };
            let entries = Entries {
                values: (0..block * block)
                    .map(|i| weight(i / block, i % block))
                    .collect(),
                matrix: &matrix,
            };
            let x: Vec<f64> = (0..SLOTS).map(value).collect();
            let v = Slots::real(&x).unwrap().rotate(1 - block as i32);
            let mut sum = Slots::real(&[0.0]).unwrap();
            for k in 0..matrix.diagonals() {
                let diagonal = Slots::new(entries.diagonal(k)).unwrap();
                let term = v.rotate(k as i32).zip(&diagonal, |a, b| a * b);
                sum = sum.zip(&term, |a, b| a + b);
            }
            for p in 0..SLOTS {
                let place = p / block;
                let terms = 0..block;
                let exact: f64 = terms
                    .map(|c| weight(place / run % block, c) * x[(place * block + c) as usize])
                    .sum();
                assert!((sum.at(p as usize).re - exact).abs() < 1e-9, "{block}: {p}");
            }
        }
    }

    #[test]
    fn products_are_width_times_width_over_slots() {
        let matrix = |in_width, out_width, form, pairing| Matrix {
            block: 1,
            name: "w".into(),
            in_width,
            out_width,
            form,
            pairing,
            baby: 1,
            data: DataId(0),
        };
        let spread = |stride| Form::Spread { stride };
        let gather = |stride| Form::Gather { stride };
        // Llama-3-8B on 2^15 slots: queries, keys with values, gate with up, down.
        let counts = [
            (4096, 4096, spread(8), Pairing::Inputs, 256),
            (4096, 1024, spread(32), Pairing::Outputs, 128),
            (4096, 16384, spread(2), Pairing::Outputs, 2048),
            (16384, 4096, gather(2), Pairing::Inputs, 1024),
            (128, 256, spread(1), Pairing::None, 128),
            (256, 128, gather(1), Pairing::None, 128),
        ];
        for (a, b, form, pairing, count) in counts {
            assert_eq!(
                matrix(a, b, form, pairing).diagonals(),
                count,
                "{a} {b} {form:?}"
            );
        }
    }
}
