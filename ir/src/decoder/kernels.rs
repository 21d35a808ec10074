//! Float64 arithmetic of the operations, on one token's vector (linear: on all tokens', so that a weight row is read once).

use super::Tensor;
use super::interpret::Rows;
use rayon::prelude::*;

/// Sequential below this many multiply-adds: handing work to other threads costs about as much.
const PARALLEL_FROM: usize = 1 << 16;

/// Σ aᵢ·bᵢ in a fixed order of eight partial sums, which the compiler turns into vector instructions.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut partial = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            partial[i] += a[i] * b[i];
        }
    }
    partial.iter().sum::<f64>() + rest
}

/// `weight`·x + `bias` for every row x of `xs`.
pub(super) fn linear(xs: &Rows, weight: &Tensor, bias: Option<&Tensor>) -> Rows {
    let (tokens, out) = (xs.len(), weight.shape[0]);
    let feature = |row: usize, column: &mut [f64]| {
        let weights: Vec<f64> = weight.row(row).iter().copied().map(f64::from).collect();
        let bias = bias.map_or(0.0, |bias| f64::from(bias.data[row]));
        for (t, y) in column.iter_mut().enumerate() {
            *y = dot(&weights, xs.row(t)) + bias;
        }
    };
    // Feature-major while computing: every feature's results for all tokens are one thread's.
    let mut columns = vec![0.0; out * tokens];
    if out * tokens * xs.width() < PARALLEL_FROM {
        columns
            .chunks_exact_mut(tokens)
            .enumerate()
            .for_each(|(row, column)| feature(row, column));
    } else {
        columns
            .par_chunks_exact_mut(tokens)
            .enumerate()
            .for_each(|(row, column)| feature(row, column));
    }
    Rows::from_fn(tokens, out, |t, row| columns[row * tokens + t])
}

/// Mean of squares.
pub(super) fn mean_square(x: &[f64]) -> f64 {
    dot(x, x) / x.len() as f64
}

/// `weight` ⊙ x / sqrt(`mean_square` + `eps`).
pub(super) fn rms_norm(x: &[f64], mean_square: f64, weight: &Tensor, eps: f64) -> Vec<f64> {
    let inverse = 1.0 / (mean_square + eps).sqrt();
    x.iter()
        .zip(&weight.data)
        .map(|(x, &w)| f64::from(w) * (x * inverse))
        .collect()
}

/// x less its mean.
pub(super) fn centred(x: &[f64]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|x| x - mean).collect()
}

/// Turns feature j of every head with feature j + d/2 by `position`·`frequencies[j]`, where d = 2·`frequencies.len()`.
pub(super) fn turn(x: &[f64], frequencies: &[f64], position: usize) -> Vec<f64> {
    let half = frequencies.len();
    let mut y = vec![0.0; x.len()];
    for (x, y) in x.chunks_exact(2 * half).zip(y.chunks_exact_mut(2 * half)) {
        for (j, frequency) in frequencies.iter().enumerate() {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            y[j] = x[j] * cos - x[j + half] * sin;
            y[j + half] = x[j + half] * cos + x[j] * sin;
        }
    }
    y
}

/// exp(xᵢ) / Σ exp(xⱼ), computed from differences to the largest.
pub(super) fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}
