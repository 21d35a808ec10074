//! Structure of a Chebyshev polynomial evaluation, as data.
//!
//! A series `Σ c_i T_i(x)`, `x` in `[-1, 1]`, is evaluated by Paterson–Stockmeyer in the Chebyshev basis at the least possible
//! depth, `ceil(log2(degree + 1))` levels, every product included. The plan says which basis polynomials are formed, by which
//! products, at which depth below the input, and how the series is cut by `T_{2^k}` into quotients and remainders. It holds no
//! coefficient: [`PolyPlan::distribute`] cuts a coefficient vector along it.
//!
//! **Depth** counts levels below the input. A product of two values at depth `a` is an unrescaled value at depth `a` ("degree
//! 2"); rescaling it gives a value at depth `a + 1`. All summands of a node are added unrescaled at the node's depth and are
//! rescaled together, and its ciphertext products share one relinearisation.
//!
//! Bossuat, Mouchet, Troncoso-Pastoriza, Hubaux: "Efficient Bootstrapping for Approximate Homomorphic Encryption with
//! Non-Sparse Keys" (depth-optimal Paterson–Stockmeyer); the flattening of remainders into one sum is ours.

mod build;
mod interpret;

pub use build::MAX_DEGREE;
pub use interpret::{clenshaw, interpolate};

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which coefficients of a series are zero throughout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parity {
    /// Any coefficient may be non-zero.
    Mixed,
    /// Odd coefficients are zero.
    Even,
    /// Even coefficients are zero.
    Odd,
    /// Odd coefficients are zero but for the linear one: an even function plus a multiple of its argument, as SiLU and GELU are
    /// about zero. The linear term costs next to nothing, and the rest is as cheap as an even series.
    EvenAndLinear,
}

impl Parity {
    /// The parity of a Chebyshev coefficient vector, by exact zeros.
    pub fn of(coefficients: &[f64]) -> Self {
        let zero_from = |start: usize| {
            coefficients
                .iter()
                .skip(start)
                .step_by(2)
                .all(|&c| c == 0.0)
        };
        match (zero_from(1), zero_from(0), zero_from(3)) {
            (true, ..) => Parity::Even,
            (_, true, _) => Parity::Odd,
            (.., true) => Parity::EvenAndLinear,
            _ => Parity::Mixed,
        }
    }

    /// Whether index `i` may carry a non-zero coefficient.
    pub fn allows(self, i: usize) -> bool {
        match self {
            Parity::Mixed => true,
            Parity::Even => i.is_multiple_of(2),
            Parity::Odd => !i.is_multiple_of(2),
            Parity::EvenAndLinear => i == 1 || i.is_multiple_of(2),
        }
    }

    /// The parity of a series' quotient by an even-indexed `T_g`, `g > 1`.
    pub(crate) fn of_quotient(self) -> Self {
        match self {
            Parity::EvenAndLinear => Parity::Even,
            same => same,
        }
    }
}

/// Why a plan or its coefficients were refused.
#[derive(Clone, Debug, PartialEq, Error, Diagnostic)]
pub enum PolyError {
    /// The polynomial is a constant.
    #[error("a polynomial of degree 0 needs no evaluation: add its constant instead")]
    #[diagnostic(code(poly::constant))]
    Constant,
    /// The degree exceeds what a plan is built for.
    #[error("polynomial degree {0} exceeds {MAX_DEGREE}: split the function or lower the degree")]
    #[diagnostic(code(poly::degree))]
    Degree(usize),
    /// The coefficients do not fit the plan.
    #[error("{given} Chebyshev coefficients given, the plan of degree {degree} takes {}", degree + 1)]
    #[diagnostic(code(poly::length))]
    Length {
        /// Number of coefficients given.
        given: usize,
        /// Degree of the plan.
        degree: usize,
    },
    /// A coefficient the plan takes to be zero is not.
    #[error(
        "coefficient {index} is {value}, but the plan was built for parity {parity:?}: build it for Parity::of(coefficients)"
    )]
    #[diagnostic(code(poly::parity))]
    Parity {
        /// Index of the coefficient.
        index: usize,
        /// Its value.
        value: f64,
        /// Parity of the plan.
        parity: Parity,
    },
    /// A coefficient is infinite or not a number.
    #[error("coefficient {index} is {value}: coefficients must be finite")]
    #[diagnostic(code(poly::not_finite))]
    NotFinite {
        /// Index of the coefficient.
        index: usize,
        /// Its value.
        value: f64,
    },
}

/// One basis polynomial by `T_{a+b} = 2·T_a·T_b − T_{|a−b|}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasisStep {
    /// `a + b`.
    pub index: usize,
    /// `a`, a power of two.
    pub left: usize,
    /// `b ≤ a`; equal to `a` when the step is a squaring.
    pub right: usize,
    /// Depth of the product; `T_{a+b}` lies at `at + 1`.
    pub at: usize,
}

/// `Σ c_i T_i + Σ T_g · quotient_g`, all summands unrescaled at depth `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Depth of the unrescaled sum.
    pub at: usize,
    /// Depth at which the linear part is formed (`≤ at`): the depth of its deepest basis polynomial. When it is less than `at`
    /// the linear part is formed there with constants scaled so that one division brings it to depth `at`, unrescaled.
    pub terms_at: usize,
    /// Indices of the linear part, ascending; index 0 is the constant.
    pub terms: Vec<usize>,
    /// Products with giants, by descending giant.
    pub products: Vec<Product>,
}

/// A quotient times a giant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// `g = 2^k`, the index of the giant.
    pub giant: usize,
    /// The quotient, rescaled to the depth of the node that holds the product.
    pub quotient: Node,
}

/// How a Chebyshev series of one degree and parity is evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolyPlan {
    /// Degree of the series.
    pub degree: usize,
    /// Which coefficients are zero.
    pub parity: Parity,
    /// Linear parts have indices below this power of two (the last one of a node may reach it).
    pub baby: usize,
    /// Levels consumed, [`depth`] of the degree.
    pub depth: usize,
    /// Basis polynomials in the order they are formed.
    pub basis: Vec<BasisStep>,
    /// The series; its sum lies at `depth - 1`, the rescaled result at `depth`.
    pub root: Node,
}

/// The coefficients of one [`Node`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeCoefficients {
    /// One per entry of [`Node::terms`].
    pub terms: Vec<f64>,
    /// One per entry of [`Node::products`].
    pub quotients: Vec<NodeCoefficients>,
}

/// Operations of one plan at one depth. Cost models multiply them with the price of the level there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepthOps {
    /// Ciphertext products before relinearisation (squarings included).
    pub products: usize,
    /// Relinearisations.
    pub relinearisations: usize,
    /// Products with a constant.
    pub constants: usize,
    /// Rescales of a sum or product lying at this depth, to any deeper one (both components).
    pub rescales: usize,
    /// Level drops of a basis polynomial from this depth.
    pub drops: usize,
}

/// Levels a polynomial of this degree consumes: `ceil(log2(degree + 1))`.
pub fn depth(degree: usize) -> usize {
    (degree + 1).next_power_of_two().trailing_zeros() as usize
}

/// Depth of `T_i` below the input: `ceil(log2 i)`, 0 for `i ≤ 1`.
pub fn basis_depth(i: usize) -> usize {
    if i <= 1 {
        0
    } else {
        i.next_power_of_two().trailing_zeros() as usize
    }
}
