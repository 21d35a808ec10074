//! Polynomials of a value: Chebyshev series evaluated along a [`PolyPlan`].

use crate::engine::{Ct, Engine};
use crate::error::{CkksError, Result};
use crate::evaluator::Evaluator;
use sotto_params::poly::{
    BasisStep, Node, NodeCoefficients, Parity, PolyError, PolyPlan, basis_depth,
};
use std::collections::{BTreeSet, HashMap};

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
        // those of one depth are made of shallower ones
        for steps in self.plan.basis.chunk_by(|a, b| a.at == b.at) {
            run.extend(steps)?;
        }
        let mut needed = BTreeSet::new();
        needs(&self.plan.root, &mut needed);
        run.bring(needed)?;
        run.node(&self.plan.root, &self.coefficients, self.plan.depth)
    }
}

/// The basis polynomials that a node multiplies with, and the depths it takes them at.
fn needs(node: &Node, needed: &mut BTreeSet<(usize, usize)>) {
    let terms = node.terms.iter().filter(|&&index| index > 0);
    needed.extend(terms.map(|&index| (index, node.terms_at)));
    for product in &node.products {
        needed.insert((product.giant, node.at));
        needs(&product.quotient, needed);
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

    /// Drops basis polynomials from their own depths to those where they are needed.
    fn bring(&mut self, needed: BTreeSet<(usize, usize)>) -> Result<()> {
        let missing = needed.into_iter().filter(|at| !self.basis.contains_key(at));
        let drop = |(index, depth): (usize, usize)| -> Result<_> {
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
        let operands = |step: &BasisStep| [step.left, step.right, step.left - step.right];
        let needed = steps.iter().flat_map(|step| {
            let indices = operands(step).into_iter().filter(|&index| index > 0);
            indices.map(|index| (index, step.at))
        });
        self.bring(needed.collect())?;
        let form = |step: &BasisStep| -> Result<_> {
            let [left, right, difference] = operands(step);
            let right = self.at(right, step.at);
            // 2·T_a·T_b as T_a·(2·T_b).
            let twice = self.ev.add(right, right)?;
            let mut product = self.ev.product(&[(self.at(left, step.at), &twice)])?;
            match difference {
                0 => self.ev.add_constant_to_product(&mut product, -1.0)?,
                _ => {
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
