//! The range of every value of a packed program where there is no data to run it on.
//!
//! A stored value is taken to fill [-1, 1], for which its unit is made. Three kinds are not made so, and follow from the program:
//! - a polynomial's result, as 1/√x that multiplies something small, reaches as far as the polynomial on [-1, 1]; what rotates, negates or
//!   scales it reaches accordingly, up to the product that brings it back;
//! - what calibrated numbers multiply, as softmax's factors of the heads, reaches as far as the largest of them, up to the product that
//!   brings it back;
//! - the sums from which a polynomial's argument is made by adding a constant, or numbers that each head has, exceed 1 by those.

use sotto_ir::slot::{
    DataDecl, Node, Op, Packed, Plain, PlainFactor, Poly, Program, Recipe, Slots, ValueId,
};
use std::collections::BTreeMap;

/// Points on which a polynomial is looked at, a power of two; some thirty for each of its oscillations.
const POINTS: usize = 1 << 13;

/// Sets the ranges of a freshly lowered program.
pub fn assume(program: &mut Program<Packed>) {
    let reaches: Vec<f64> = program.polys.iter().map(reach).collect();
    let factors: Vec<f64> = (program.plains.iter())
        .map(|plain| largest(plain, &program.data))
        .collect();
    for template in &mut program.templates {
        let mut ranges: BTreeMap<ValueId, f64> = BTreeMap::new();
        for node in &mut template.nodes {
            let of = |v: &ValueId| ranges.get(v).copied().unwrap_or(1.0);
            let reached = match &node.op {
                Op::Poly { poly, .. } => reaches.get(poly.0 as usize).copied().unwrap_or(1.0),
                Op::Rotate { v, .. } | Op::Conjugate { v } | Op::MulI { v } | Op::Neg { v } => {
                    of(v)
                }
                Op::MulPlain { v, plain } => {
                    of(v) * factors.get(plain.0 as usize).copied().unwrap_or(1.0)
                }
                Op::MulConst { v, c } if of(v) > 1.0 => of(v) * c.abs(),
                Op::Add { a, b } | Op::Sub { a, b } if of(a).max(of(b)) > 1.0 => of(a) + of(b),
                _ => 1.0,
            };
            for (value, ty) in node.results.iter().zip(&mut node.types) {
                ty.range = reached.max(1.0);
                ranges.insert(*value, ty.range);
            }
        }
        let needed = before_constants(&template.nodes, &factors);
        for node in &mut template.nodes {
            for (value, ty) in node.results.iter().zip(&mut node.types) {
                ty.range = needed.get(value).map_or(ty.range, |&n| ty.range.max(n));
            }
        }
    }
}

/// Ranges of the sums that a polynomial's argument is made of.
fn before_constants(nodes: &[Node<Packed>], plains: &[f64]) -> BTreeMap<ValueId, f64> {
    let arguments = nodes.iter().filter_map(|node| match &node.op {
        Op::Poly { v, .. } => Some((*v, 1.0)),
        _ => None,
    });
    let mut needed: BTreeMap<ValueId, f64> = arguments.collect();
    for node in nodes.iter().rev() {
        let Some(reached) = node.results.first().and_then(|v| needed.get(v)).copied() else {
            continue;
        };
        match &node.op {
            Op::AddConst { v, c } => needed.insert(*v, reached + c.abs()),
            Op::AddPlain { v, plain } => {
                let added = plains.get(plain.0 as usize).copied().unwrap_or(1.0);
                needed.insert(*v, reached + added)
            }
            Op::Add { a, b } if a == b => needed.insert(*a, reached / 2.0),
            _ => None,
        };
    }
    needed
}

/// Largest calibrated number of a plaintext, with its constants; 1 where there is none, since units and masks bring nothing beyond 1.
fn largest(plain: &Plain, data: &[DataDecl]) -> f64 {
    let numbers = plain.factors.iter().filter_map(|factor| match factor {
        PlainFactor::Vector { data: id, .. } => match &data.get(id.0 as usize)?.recipe {
            Recipe::Values(layers) => {
                Some(layers.iter().flatten().fold(0.0f64, |m, x| m.max(x.abs())))
            }
            _ => None,
        },
        _ => None,
    });
    let Some(numbers) = numbers.reduce(|a, b| a * b) else {
        return 1.0;
    };
    let constants = plain.factors.iter().map(|factor| match factor {
        PlainFactor::Const(c) => c.abs(),
        _ => 1.0,
    });
    numbers * constants.product::<f64>()
}

/// Largest magnitude of a polynomial on [-1, 1].
fn reach(poly: &Poly) -> f64 {
    let point = |i: usize| 2.0 * i as f64 / (POINTS - 1) as f64 - 1.0;
    let points: Vec<f64> = (0..POINTS).map(point).collect();
    let values = Slots::real(&points).map(|points| points.chebyshev(&poly.coefficients));
    values.map_or(1.0, |values| values.max_part())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polynomial_reaches_what_it_does_on_the_interval() {
        let poly = |coefficients: &[f64]| Poly {
            name: "p".into(),
            coefficients: coefficients.into(),
            error: 0.0,
        };
        // T_0 + 2·T_1 + 3·T_2 is largest at 1.
        assert!((reach(&poly(&[1.0, 2.0, 3.0])) - 6.0).abs() < 1e-9);
        assert!((reach(&poly(&[0.25, 0.0, 0.5])) - 0.75).abs() < 1e-6);
    }
}
