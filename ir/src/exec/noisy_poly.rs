//! Polynomial evaluation product by product, so that noise enters where the scheme adds it.

use crate::slot::Slots;
use num_complex::Complex64;
use sotto_params::poly::{Node, NodeCoefficients, Parity, PolyError, PolyPlan, basis_depth};
use std::collections::BTreeMap;

/// Evaluate a Chebyshev series along its plan; `rescale(v, depth)` adds what a rescale or drop to that depth below the input
/// adds.
pub(super) fn evaluate(
    v: &Slots,
    coefficients: &[f64],
    rescale: &mut dyn FnMut(Slots, usize) -> Slots,
) -> Result<Slots, PolyError> {
    let degree = coefficients.len().saturating_sub(1);
    let plan = PolyPlan::new(degree, Parity::of(coefficients))?;
    let cut = plan.distribute(coefficients)?;
    let mut run = Run {
        basis: BTreeMap::from([((1, 0), v.clone())]),
        rescale,
    };
    for step in &plan.basis {
        let left = run.basis(step.left, step.at);
        let right = run.basis(step.right, step.at);
        let rest = run.basis(step.left - step.right, step.at);
        let product = left.zip(&right, |a, b| 2.0 * a * b);
        let sum = product.zip(&rest, |a, b| a - b);
        let value = (run.rescale)(sum, step.at + 1);
        run.basis
            .insert((step.index, basis_depth(step.index)), value);
    }
    let sum = run.node(&plan.root, &cut);
    Ok((run.rescale)(sum, plan.depth))
}

struct Run<'a> {
    /// Basis polynomials by index and depth.
    basis: BTreeMap<(usize, usize), Slots>,
    rescale: &'a mut dyn FnMut(Slots, usize) -> Slots,
}

impl Run<'_> {
    /// T_index at a depth, dropped there once.
    fn basis(&mut self, index: usize, depth: usize) -> Slots {
        if index == 0 {
            return Slots::splat(Complex64::ONE);
        }
        if let Some(there) = self.basis.get(&(index, depth)) {
            return there.clone();
        }
        let own = self.basis.get(&(index, basis_depth(index)));
        // A plan forms every basis polynomial before its use; T_0 would show a plan that does not.
        let own = own.cloned().unwrap_or_else(|| Slots::splat(Complex64::ONE));
        let dropped = (self.rescale)(own, depth);
        self.basis.insert((index, depth), dropped.clone());
        dropped
    }

    /// The unrescaled sum of a node.
    fn node(&mut self, node: &Node, cut: &NodeCoefficients) -> Slots {
        let mut sum = Slots::splat(Complex64::ZERO);
        for (&index, &c) in node.terms.iter().zip(&cut.terms) {
            let term = self.basis(index, node.terms_at);
            sum = sum.zip(&term, |s, t| s + c * t);
        }
        for (product, cut) in node.products.iter().zip(&cut.quotients) {
            let quotient = self.node(&product.quotient, cut);
            let quotient = (self.rescale)(quotient, node.at);
            let giant = self.basis(product.giant, node.at);
            let term = quotient.zip(&giant, |q, g| q * g);
            sum = sum.zip(&term, |s, t| s + t);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_series() {
        let x = Slots::real(&[-1.0, -0.7, 0.2, 0.99]).unwrap();
        for degree in [1, 2, 3, 7, 8, 30, 63] {
            for stride in [1, 2] {
                let c = |k: usize| {
                    if k % stride == degree % stride {
                        1.0 / (1 + k) as f64
                    } else {
                        0.0
                    }
                };
                let coefficients: Vec<f64> = (0..=degree).map(c).collect();
                let mut deepest = 0;
                let along = evaluate(&x, &coefficients, &mut |v, depth| {
                    deepest = deepest.max(depth);
                    v
                });
                let difference = along
                    .unwrap()
                    .zip(&x.chebyshev(&coefficients), |a, b| a - b);
                assert!(
                    difference.max_part() < 1e-12,
                    "degree {degree} stride {stride}"
                );
                assert_eq!(deepest, sotto_params::poly::depth(degree));
            }
        }
    }
}
