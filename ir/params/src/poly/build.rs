//! Builds a [`PolyPlan`]: chooses the baby set, forms the recursion, counts operations.

use super::{
    BasisStep, DepthOps, Node, NodeCoefficients, Parity, PolyError, PolyPlan, Product, basis_depth,
    depth,
};
use std::collections::{BTreeMap, BTreeSet};

/// Largest degree a plan is built for; Chebyshev approximations beyond it belong in pieces.
pub const MAX_DEGREE: usize = (1 << 12) - 1;

/// A relinearisation costs about this many other operations (a rescale, a drop); used to choose the baby set only.
const RELINEARISATION_WEIGHT: usize = 12;

impl PolyPlan {
    /// The cheapest plan (fewest relinearisations, then products, then rescales) of least depth.
    ///
    /// # Errors
    /// [`PolyError::Constant`] for degree 0, [`PolyError::Degree`] above [`MAX_DEGREE`].
    pub fn new(degree: usize, parity: Parity) -> Result<Self, PolyError> {
        if degree == 0 {
            return Err(PolyError::Constant);
        }
        if degree > MAX_DEGREE {
            return Err(PolyError::Degree(degree));
        }
        let largest = (degree + 1).next_power_of_two();
        let candidates =
            std::iter::successors(Some(2), |b| Some(b * 2)).take_while(|&b| b <= largest);
        let best = candidates
            .map(|baby| Self::with_baby(degree, parity, baby))
            .min_by_key(Self::weight);
        best.ok_or(PolyError::Constant)
    }

    fn with_baby(degree: usize, parity: Parity, baby: usize) -> Self {
        let depth = depth(degree);
        let root = node(degree, parity, baby, depth - 1);
        let mut wanted = BTreeSet::new();
        collect_wanted(&root, &mut wanted);
        Self {
            degree,
            parity,
            baby,
            depth,
            basis: basis_steps(wanted),
            root,
        }
    }

    /// Cuts the Chebyshev coefficients `c_0 ‥ c_degree` along the plan.
    ///
    /// # Errors
    /// When the number of coefficients, their parity or their finiteness does not fit.
    pub fn distribute(&self, coefficients: &[f64]) -> Result<NodeCoefficients, PolyError> {
        if coefficients.len() != self.degree + 1 {
            return Err(PolyError::Length {
                given: coefficients.len(),
                degree: self.degree,
            });
        }
        for (index, &value) in coefficients.iter().enumerate() {
            if !value.is_finite() {
                return Err(PolyError::NotFinite { index, value });
            }
            if value != 0.0 && !self.parity.allows(index) {
                return Err(PolyError::Parity {
                    index,
                    value,
                    parity: self.parity,
                });
            }
        }
        Ok(distribute(&self.root, coefficients))
    }

    /// Operations per depth, `depth` entries.
    pub fn operations(&self) -> Vec<DepthOps> {
        let mut ops = vec![DepthOps::default(); self.depth];
        let mut placed = BTreeSet::new();
        for step in &self.basis {
            let at = &mut ops[step.at];
            at.products += 1;
            at.relinearisations += 1;
            at.rescales += 1;
            let difference = step.left - step.right;
            at.constants += usize::from(difference > 0);
            for index in [step.left, step.right, difference] {
                place(index, step.at, &mut placed, &mut ops);
            }
        }
        count(&self.root, self.depth, &mut placed, &mut ops);
        ops
    }

    /// Every use of a basis polynomial below its own depth, as (index, depth it is wanted at): the level drops of a run.
    pub fn drops(&self) -> Vec<(usize, usize)> {
        let mut placed = BTreeSet::new();
        let mut ops = vec![DepthOps::default(); self.depth];
        for step in &self.basis {
            for index in [step.left, step.right, step.left - step.right] {
                place(index, step.at, &mut placed, &mut ops);
            }
        }
        count(&self.root, self.depth, &mut placed, &mut ops);
        placed.into_iter().collect()
    }

    fn weight(&self) -> (usize, usize) {
        let ops = self.operations();
        let sum = |f: fn(&DepthOps) -> usize| ops.iter().map(f).sum::<usize>();
        let light = sum(|o| o.rescales) + sum(|o| o.drops) + sum(|o| o.products);
        (
            sum(|o| o.relinearisations) * RELINEARISATION_WEIGHT + light,
            self.baby,
        )
    }
}

/// Highest index of the parity up to `degree`, if any coefficient is there at all.
fn top_index(degree: usize, parity: Parity) -> Option<usize> {
    (0..=degree).rev().find(|&i| parity.allows(i))
}

/// The quotient by an even-indexed `T_g` keeps the parity of the series, but for a linear term, which stays in the remainder.
fn node(degree: usize, parity: Parity, baby: usize, at: usize) -> Node {
    let mut products = Vec::new();
    let mut rest = top_index(degree, parity);
    while let Some(top) = rest {
        if top < baby && basis_depth(top) <= at {
            break;
        }
        let giant = (top + 1).next_power_of_two() / 2;
        if giant <= 1 {
            break;
        }
        if top > giant {
            products.push(Product {
                giant,
                quotient: quotient(top - giant, parity.of_quotient(), baby, at),
            });
            rest = top_index(giant - 1, parity);
            continue;
        }
        // A constant quotient is a term: c_g·T_g.
        let mut low = node(giant - 1, parity, baby, at);
        low.terms.push(giant);
        low.terms_at = low.terms_at.max(basis_depth(giant));
        products.append(&mut low.products);
        return Node { products, ..low };
    }
    let terms: Vec<usize> = (0..=rest.unwrap_or(0))
        .filter(|&i| rest.is_some() && parity.allows(i))
        .collect();
    let terms_at = terms.last().map_or(at, |&i| basis_depth(i));
    Node {
        at,
        terms_at,
        terms,
        products,
    }
}

/// A quotient is due, rescaled, at depth `at`: a linear one is formed as early as its terms are there.
fn quotient(degree: usize, parity: Parity, baby: usize, at: usize) -> Node {
    let mut inner = node(degree, parity, baby, at - 1);
    if inner.products.is_empty() {
        inner.at = inner.terms_at;
    }
    inner
}

fn collect_wanted(node: &Node, wanted: &mut BTreeSet<usize>) {
    wanted.extend(node.terms.iter().copied());
    for product in &node.products {
        wanted.insert(product.giant);
        collect_wanted(&product.quotient, wanted);
    }
}

/// Steps for the wanted indices and all they stand on, ascending: every operand precedes its use.
fn basis_steps(mut wanted: BTreeSet<usize>) -> Vec<BasisStep> {
    let mut steps = Vec::new();
    while let Some(index) = wanted.pop_last() {
        if index <= 1 {
            continue;
        }
        let left = index.next_power_of_two() / 2;
        let right = index - left;
        wanted.extend([left, right, left - right]);
        steps.push(BasisStep {
            index,
            left,
            right,
            at: basis_depth(index) - 1,
        });
    }
    steps.reverse();
    steps
}

fn place(index: usize, at: usize, placed: &mut BTreeSet<(usize, usize)>, ops: &mut [DepthOps]) {
    let own = basis_depth(index);
    if index > 0 && own < at && placed.insert((index, at)) {
        ops[own].drops += 1;
    }
}

fn count(node: &Node, to: usize, placed: &mut BTreeSet<(usize, usize)>, ops: &mut [DepthOps]) {
    for &index in &node.terms {
        place(index, node.terms_at, placed, ops);
        ops[node.terms_at].constants += usize::from(index > 0);
    }
    for product in &node.products {
        place(product.giant, node.at, placed, ops);
        count(&product.quotient, node.at, placed, ops);
        ops[node.at].products += 1;
    }
    ops[node.at].relinearisations += usize::from(!node.products.is_empty());
    let apart = node.terms_at < node.at && node.terms.iter().any(|&i| i > 0);
    ops[node.terms_at].rescales += usize::from(apart);
    debug_assert!(to > node.at);
    ops[node.at].rescales += 1;
}

/// `p = q·T_g + r`: `q_0 = c_g`, `q_j = 2c_{g+j}`, `r_{g−j} = c_{g−j} − c_{g+j}`, from `2·T_g·T_j = T_{g+j} + T_{g−j}`.
fn divide(coefficients: &[f64], giant: usize) -> (Vec<f64>, Vec<f64>) {
    let (low, high) = coefficients.split_at(giant);
    let mut remainder = low.to_vec();
    let mut quotient = vec![high[0]];
    for (j, &c) in high.iter().enumerate().skip(1) {
        quotient.push(2.0 * c);
        remainder[giant - j] -= c;
    }
    (quotient, remainder)
}

fn distribute(node: &Node, coefficients: &[f64]) -> NodeCoefficients {
    let mut rest = coefficients.to_vec();
    let mut tops = BTreeMap::new();
    let mut quotients = Vec::new();
    for product in &node.products {
        // Above 2g − 1 stand only powers of two with a constant quotient, which are terms.
        tops.extend(rest.iter().copied().enumerate().skip(2 * product.giant));
        rest.truncate(2 * product.giant);
        let (quotient, remainder) = divide(&rest, product.giant);
        quotients.push(distribute(&product.quotient, &quotient));
        rest = remainder;
    }
    tops.extend(rest.into_iter().enumerate());
    let terms = node
        .terms
        .iter()
        .map(|i| tops.get(i).copied().unwrap_or(0.0))
        .collect();
    NodeCoefficients { terms, quotients }
}
