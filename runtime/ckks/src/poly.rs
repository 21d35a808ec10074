//! Polynomials of a value: Chebyshev series evaluated along a [`PolyPlan`].

use crate::engine::{Ct, Engine};
use crate::error::{CkksError, Result};
use crate::evaluator::Evaluator;
use sotto_params::poly::{
    BasisStep, Node, NodeCoefficients, Parity, PolyError, PolyPlan, basis_depth,
};
use std::collections::HashMap;

/// A Chebyshev series on [-1, 1] ready for evaluation.
#[derive(Clone, Debug)]
pub struct ChebyshevSeries {
    plan: PolyPlan,
    coefficients: NodeCoefficients,
}

impl ChebyshevSeries {
    /// The series Σ c_i T_i; trailing zeros are cut off, and zeros at all odd or all even places are made use of.
    ///
    /// # Errors
    /// If the series is constant, its degree too large or a coefficient not finite.
    pub fn new(coefficients: &[f64]) -> Result<Self> {
        let degree = coefficients.iter().rposition(|&c| c != 0.0).unwrap_or(0);
        let used = &coefficients[..coefficients.len().min(degree + 1)];
        Ok(Self::with_plan(
            PolyPlan::new(degree, Parity::of(used))?,
            used,
        )?)
    }

    /// The series along a given plan.
    ///
    /// # Errors
    /// If the coefficients do not fit the plan.
    pub fn with_plan(plan: PolyPlan, coefficients: &[f64]) -> std::result::Result<Self, PolyError> {
        Ok(Self {
            coefficients: plan.distribute(coefficients)?,
            plan,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &PolyPlan {
        &self.plan
    }

    /// p(x) in every slot, of degree 1 at the level of `x` less the plan's depth. The slots of `x` must be real and lie in [-1, 1] (up to noise).
    ///
    /// # Errors
    /// If the operand is of degree 2 or its level too low, or the relinearization key is missing.
    pub fn evaluate<E: Engine>(&self, ev: &Evaluator<'_, E>, x: &Ct<E>) -> Result<Ct<E>> {
        x.check_degree("polynomial", 1)?;
        if x.level < self.plan.depth {
            return Err(CkksError::TooDeep {
                depth: self.plan.depth,
                level: x.level,
            });
        }
        let mut run = Run {
            ev,
            level: x.level,
            basis: HashMap::from([((1, 0), x.clone())]),
        };
        let drops = self.plan.drops();
        // those of one depth are made of shallower ones
        for steps in self.plan.basis.chunk_by(|a, b| a.at == b.at) {
            run.bring(drops.iter().filter(|drop| drop.1 == steps[0].at))?;
            run.extend(steps)?;
        }
        run.bring(&drops)?;
        run.node(&self.plan.root, &self.coefficients, self.plan.depth)
    }
}

/// One evaluation: the basis polynomials formed so far, by index and depth.
struct Run<'a, 'e, E: Engine> {
    ev: &'a Evaluator<'e, E>,
    level: usize,
    basis: HashMap<(usize, usize), Ct<E>>,
}

impl<E: Engine> Run<'_, '_, E> {
    /// T_index at a depth to which it has been brought.
    fn at(&self, index: usize, depth: usize) -> &Ct<E> {
        &self.basis[&(index, depth)]
    }

    /// Drops basis polynomials, by index and depth, from their own depths.
    fn bring<'d>(&mut self, drops: impl IntoIterator<Item = &'d (usize, usize)>) -> Result<()> {
        let missing = drops.into_iter().filter(|at| !self.basis.contains_key(at));
        let drop = |&(index, depth): &(usize, usize)| -> Result<_> {
            let own = self.at(index, basis_depth(index));
            let dropped = self.ev.drop_to_level(own, self.level - depth)?;
            Ok(((index, depth), dropped))
        };
        let dropped = self.ev.engine().each(missing.collect(), drop);
        for entry in dropped {
            self.basis.extend([entry?]);
        }
        Ok(())
    }

    /// Forms the basis polynomials of one depth.
    fn extend(&mut self, steps: &[BasisStep]) -> Result<()> {
        let form = |step: &BasisStep| -> Result<_> {
            let right = self.at(step.right, step.at);
            // 2·T_a·T_b as T_a·(2·T_b).
            let twice = self.ev.add(right, right)?;
            let mut product = self.ev.product(&[(self.at(step.left, step.at), &twice)])?;
            match step.left - step.right {
                0 => self.ev.add_constant_to_product(&mut product, -1.0)?,
                difference => {
                    let known = self.at(difference, step.at);
                    self.ev.sub_value_from_product(&mut product, known)?
                }
            }
            let value = self.ev.relinearise_rescaled(product)?;
            Ok(((step.index, step.at + 1), value))
        };
        let formed = self.ev.engine().each(steps.iter().collect(), form);
        for entry in formed {
            self.basis.extend([entry?]);
        }
        Ok(())
    }

    /// The value of a node at depth `due`.
    fn node(&self, node: &Node, cut: &NodeCoefficients, due: usize) -> Result<Ct<E>> {
        if node.products.is_empty() {
            return self.linear(node, cut, due, 1);
        }
        let ev = self.ev;
        let inner = node.products.iter().zip(&cut.quotients).collect();
        let quotients = ev.engine().each(inner, |(product, inner)| {
            self.node(&product.quotient, inner, node.at)
        });
        let quotients = quotients.into_iter().collect::<Result<Vec<_>>>()?;
        let factors = node.products.iter().zip(&quotients);
        let pairs: Vec<_> = factors
            .map(|(product, quotient)| (self.at(product.giant, node.at), quotient))
            .collect();
        let mut sum = ev.product(&pairs)?;
        if node.terms.iter().any(|&i| i > 0) {
            let linear = self.linear(node, cut, node.at, 2)?;
            ev.add_to_product(&mut sum, &linear)?;
        } else if let Some(&constant) = cut.terms.first() {
            ev.add_constant_to_product(&mut sum, constant)?;
        }
        let value = ev.relinearise_rescaled(sum)?;
        debug_assert_eq!(due, node.at + 1);
        Ok(value)
    }

    /// The linear part of a node at a depth and degree, straight from where it is formed.
    fn linear(
        &self,
        node: &Node,
        cut: &NodeCoefficients,
        depth: usize,
        degree: u8,
    ) -> Result<Ct<E>> {
        let mut constant = 0.0;
        let mut terms = Vec::new();
        for (&index, &c) in node.terms.iter().zip(&cut.terms) {
            match index {
                0 => constant = c,
                _ => terms.push((self.at(index, node.terms_at), c)),
            }
        }
        self.ev
            .combine_to(&terms, constant, self.level - depth, degree)
    }
}
