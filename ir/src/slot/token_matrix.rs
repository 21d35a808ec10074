//! Keys or values of a group of tokens as an encrypted matrix in diagonals, one ciphertext each.
//!
//! A matrix-vector product by diagonals (Halevi, Shoup 2014) takes a rotation of the vector for each diagonal and no sum over slots, so
//! that scores of all tokens come out side by side, where an element-wise product with a group of tokens asks for a sum over lanes
//! for every group. Every head has a matrix of its own, of lanes by as many tokens, and every token inside a head its own again:
//!
//! - keys: row j is token j, column l is lane l, and the product with a query is a score in each token's slot;
//! - values: row l is lane l, column j is token j, and the product with weights is a mean in each lane's slot.
//!
//! Slot (a·heads + h)·inner + r belongs to row a, head h and token a·inner + r. Diagonals k and k + lanes/2 are real and imaginary part
//! of one ciphertext, whose product with x - i·rot(x, lanes/2) has what is wanted as its real part. They are kept turned back by their
//! giant step, so that baby steps turn the vector and giant steps sums of products:
//!
//! M·x = Re Σ_g rot_gB( Σ_b D_(gB+b) ⊙ rot_b(x - i·rot_(lanes/2)(x)) ),  D_(gB+b)(a) = M(a-gB, a+b) + i·M(a-gB, a+b+lanes/2).
//!
//! A new token's row or column has one entry in each diagonal: of the vector turned by the baby step (keys) or back by the giant step
//! (values), the slots of one row ([`TokenMatrix::mask`]).

use num_complex::Complex64;
use serde::{Deserialize, Serialize};

use super::Slots;

/// Which side of the matrix tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Keys: a row for each token.
    Rows,
    /// Values: a column for each token.
    Columns,
}

/// How the matrix of a group lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenMatrix {
    /// Lanes of a head, a power of two, at least 4: rows and columns.
    pub lanes: u32,
    /// Heads, a power of two.
    pub heads: u32,
    /// Tokens inside a head, a power of two: so many matrices for each head.
    pub inner: u32,
    /// Baby steps, a power of two, at most half the lanes.
    pub baby: u32,
    /// What a token is.
    pub side: Side,
}

impl TokenMatrix {
    /// Slots after which the content repeats.
    pub fn period(&self) -> u32 {
        self.lanes.saturating_mul(self.step())
    }

    /// Tokens that it holds.
    pub fn tokens(&self) -> u32 {
        self.lanes.saturating_mul(self.inner)
    }

    /// Ciphertexts that it consists of.
    pub fn ciphertexts(&self) -> u32 {
        self.lanes / 2
    }

    /// Slots from one row to the next.
    pub fn step(&self) -> u32 {
        self.heads.saturating_mul(self.inner)
    }

    /// Giant steps.
    pub fn giants(&self) -> u32 {
        self.ciphertexts() / self.baby.max(1)
    }

    /// Whether all is a power of two and within bounds.
    pub fn holds(&self) -> bool {
        let powers = [self.lanes, self.heads, self.inner, self.baby];
        powers.iter().all(|n| n.is_power_of_two())
            && self.lanes >= 4
            && self.baby <= self.ciphertexts()
    }

    /// Whether it is a matrix in ciphertexts of `slots` slots.
    pub fn fits(&self, slots: u32) -> bool {
        self.holds() && self.period() <= slots
    }

    /// Rotations of a vector whose parts are added to the diagonals when it is appended, as multiples of the step.
    pub fn turns(&self) -> Vec<i32> {
        match self.side {
            Side::Rows => (0..self.baby as i32).collect(),
            Side::Columns => {
                let giants = 0..self.giants() as i32;
                giants.map(|g| -g * self.baby as i32).collect()
            }
        }
    }

    /// Masks that an append multiplies with; each multiplies every rotation.
    pub fn masks(&self) -> u32 {
        match self.side {
            Side::Rows => self.giants(),
            Side::Columns => self.baby,
        }
    }

    /// The diagonal that a mask of a turned vector is added to: indices of [`TokenMatrix::turns`] and [`TokenMatrix::masks`].
    pub fn diagonal(&self, turn: u32, mask: u32) -> u32 {
        match self.side {
            Side::Rows => mask * self.baby + turn,
            Side::Columns => turn * self.baby + mask,
        }
    }

    /// Mask `index` for the token at `position`, one period: 1 where the real part has an entry, i where the imaginary part has.
    pub fn mask(&self, position: u32, index: u32) -> Vec<Complex64> {
        let (lanes, token) = (self.lanes, self.row(position));
        let (real, imaginary) = match self.side {
            // the vector itself has both parts
            Side::Rows => ((token + index * self.baby) % lanes, None),
            Side::Columns => {
                let real = (token + lanes - index % lanes) % lanes;
                (real, Some((real + lanes / 2) % lanes))
            }
        };
        let slot = |p: u32| match p / self.step() {
            row if row == real => Complex64::ONE,
            row if Some(row) == imaginary => Complex64::I,
            _ => Complex64::ZERO,
        };
        (0..self.period()).map(slot).collect()
    }

    /// Row (or column) of the token at a position.
    fn row(&self, position: u32) -> u32 {
        position % self.tokens().max(1) / self.inner.max(1)
    }

    /// Adds an appended vector's part to the diagonals, which are there or still zero.
    pub fn append(&self, diagonals: &mut [Slots], v: &Slots, position: u32) {
        let turned: Vec<Slots> = self.turned(v);
        for mask in 0..self.masks() {
            let Some(kept) = Slots::new(self.mask(position, mask)) else {
                continue;
            };
            for (turn, v) in turned.iter().enumerate() {
                let at = self.diagonal(turn as u32, mask) as usize;
                let part = v.zip(&kept, |v, m| v * m);
                diagonals[at] = diagonals[at].zip(&part, |a, b| a + b);
            }
        }
    }

    fn turned(&self, v: &Slots) -> Vec<Slots> {
        let step = self.step() as i32;
        let turns = self.turns().into_iter();
        turns.map(|turn| v.rotate(turn * step)).collect()
    }
}

/// The sum over giant and baby steps: diagonal gB + b times v turned by b, the sums turned by gB.
pub fn apply(diagonals: &[Slots], v: &Slots, baby: u32, step: u32) -> Slots {
    let baby = baby.max(1) as usize;
    let step = step as i32;
    let turned: Vec<Slots> = (0..baby as i32).map(|b| v.rotate(b * step)).collect();
    let zero = Slots::splat(Complex64::ZERO);
    let giants = diagonals.chunks(baby).enumerate();
    giants.fold(zero, |sum, (g, chunk)| {
        let products = chunk.iter().zip(&turned);
        let inner = products.fold(Slots::splat(Complex64::ZERO), |inner, (d, v)| {
            inner.zip(&d.zip(v, |d, v| d * v), |a, b| a + b)
        });
        sum.zip(&inner.rotate((g * baby) as i32 * step), |a, b| a + b)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Entry (row, column) of each head's matrix for each token inside it, and the naive product.
    fn naive(m: &TokenMatrix, tokens: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
        let (lanes, step) = (m.lanes, m.step());
        let entry = |row: u32, column: u32, s: u32| {
            let (token, lane) = match m.side {
                Side::Rows => (row, column),
                Side::Columns => (column, row),
            };
            let token = tokens.get((token * m.inner + s % m.inner) as usize);
            token.map_or(0.0, |v| v[(lane * step + s) as usize])
        };
        let slot = |p: u32| {
            let (row, s) = (p / step, p % step);
            let term = |c: u32| entry(row, c, s) * x[(c * step + s) as usize];
            (0..lanes).map(term).sum()
        };
        (0..m.period()).map(slot).collect()
    }

    fn shapes() -> impl Strategy<Value = TokenMatrix> {
        let side = prop_oneof![Just(Side::Rows), Just(Side::Columns)];
        (2..5u32, 0..3u32, 0..3u32, 0..4u32, side).prop_map(|(l, h, r, b, side)| TokenMatrix {
            lanes: 1 << l,
            heads: 1 << h,
            inner: 1 << r,
            baby: 1 << b.min(l - 1),
            side,
        })
    }

    proptest! {
        #[test]
        fn appended_tokens_multiply_as_a_matrix(
            m in shapes(), seed in 0..1000u32, filled in 1..40u32,
        ) {
            let mut drawn = f64::from(seed);
            let mut vector = || -> Vec<f64> {
                let mut next = || {
                    drawn += 1.0;
                    (drawn * 12.9898).sin() * 43758.5453 % 1.0
                };
                (0..m.period()).map(|_| next()).collect()
            };
            let count = filled.min(m.tokens());
            let tokens: Vec<Vec<f64>> = (0..count).map(|_| vector()).collect();
            let x = vector();
            let half = (m.lanes / 2 * m.step()) as i32;
            let mut diagonals = vec![Slots::splat(Complex64::ZERO); m.ciphertexts() as usize];
            for (position, token) in tokens.iter().enumerate() {
                // a token is in its own slots of each run only
                let own = |p: usize| p as u32 % m.inner == position as u32 % m.inner;
                let token = token.iter().enumerate().map(|(p, &x)| if own(p) { x } else { 0.0 });
                let v = Slots::real(&token.collect::<Vec<_>>()).unwrap();
                let v = match m.side {
                    Side::Rows => v.zip(&v.rotate(half), |a, b| a + Complex64::I * b),
                    Side::Columns => v,
                };
                // groups before this one do not matter
                m.append(&mut diagonals, &v, position as u32 + 3 * m.tokens());
            }
            let v = Slots::real(&x).unwrap();
            let v = v.zip(&v.rotate(half), |a, b| a - Complex64::I * b);
            let product = apply(&diagonals, &v, m.baby, m.step());
            for (p, expected) in naive(&m, &tokens, &x).into_iter().enumerate() {
                prop_assert!((product.at(p).re - expected).abs() < 1e-9, "{m:?} at {p}");
            }
        }
    }
}
