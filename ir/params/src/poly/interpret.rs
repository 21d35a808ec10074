//! What a plan means: its evaluation on floating-point numbers, and the references it is held against.

use super::{Node, NodeCoefficients, PolyError, PolyPlan};
use std::collections::BTreeMap;
use std::f64::consts::PI;

impl PolyPlan {
    /// Evaluates the series at `x` exactly along the plan, in floating point.
    ///
    /// # Errors
    /// As [`PolyPlan::distribute`].
    pub fn interpret(&self, coefficients: &[f64], x: f64) -> Result<f64, PolyError> {
        let cut = self.distribute(coefficients)?;
        let mut basis = BTreeMap::from([(0, 1.0), (1, x)]);
        for step in &self.basis {
            let value =
                2.0 * basis[&step.left] * basis[&step.right] - basis[&(step.left - step.right)];
            basis.insert(step.index, value);
        }
        Ok(sum(&self.root, &cut, &basis))
    }
}

fn sum(node: &Node, cut: &NodeCoefficients, basis: &BTreeMap<usize, f64>) -> f64 {
    let linear: f64 = node
        .terms
        .iter()
        .zip(&cut.terms)
        .map(|(i, c)| c * basis[i])
        .sum();
    let products = node.products.iter().zip(&cut.quotients);
    linear
        + products
            .map(|(p, q)| basis[&p.giant] * sum(&p.quotient, q, basis))
            .sum::<f64>()
}

/// `Σ c_i T_i(x)` by Clenshaw's recurrence.
pub fn clenshaw(coefficients: &[f64], x: f64) -> f64 {
    let (mut b1, mut b2) = (0.0, 0.0);
    for &c in coefficients.iter().skip(1).rev() {
        (b1, b2) = (c + 2.0 * x * b1 - b2, b1);
    }
    coefficients.first().copied().unwrap_or(0.0) + x * b1 - b2
}

/// Chebyshev coefficients of the polynomial that equals `f` at the `degree + 1` Chebyshev nodes of `[-1, 1]`.
pub fn interpolate(degree: usize, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let count = degree + 1;
    let angle = |k: usize| PI * (k as f64 + 0.5) / count as f64;
    let values: Vec<f64> = (0..count).map(|k| f(angle(k).cos())).collect();
    let coefficient = |i: usize| {
        let sum: f64 = values
            .iter()
            .enumerate()
            .map(|(k, v)| v * (i as f64 * angle(k)).cos())
            .sum();
        sum * if i == 0 { 1.0 } else { 2.0 } / count as f64
    };
    (0..count).map(coefficient).collect()
}
