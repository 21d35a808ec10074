//! Which basic operations an operation of a program consists of.

use miette::Diagnostic;
use sotto_ir::params::poly::{Parity, PolyPlan};
use sotto_ir::slot::{
    BootstrapKind, Layout, Op, PlainFactor, Program, Stage, StateDecl, TokenMatrix,
};
use thiserror::Error;

/// Work to be priced at one level.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Ciphertext plus ciphertext.
    Add,
    /// Ciphertext plus an encoded plaintext or a constant.
    AddPlain,
    /// Ciphertext times an encoded plaintext.
    MulPlain,
    /// Ciphertext times a constant.
    MulConst,
    /// Ciphertext times ciphertext, relinearised.
    Mul,
    /// One rotation.
    Rotate,
    /// Complex conjugation.
    Conjugate,
    /// Degree 2 to degree 1, one level down.
    Rescale,
    /// To a lower level.
    Drop,
    /// Encoding a plaintext that depends on the position, so that it cannot be cached.
    Encode,
    /// Rotations and additions, one after the other.
    Fold {
        /// How many.
        rotations: u32,
    },
    /// Matrix times vector by diagonals in baby and giant steps.
    Linear {
        /// Plaintext products.
        diagonals: u32,
        /// Baby steps.
        baby: u32,
    },
    /// Encrypted matrix times vector by diagonals in baby and giant steps.
    Apply {
        /// Products of ciphertexts.
        diagonals: u32,
        /// Baby steps.
        baby: u32,
    },
    /// Appending to an encrypted matrix: rotations of one vector, each with every mask.
    Spread {
        /// Rotations, that by 0 included.
        turns: u32,
        /// Masks, encoded anew for every token.
        masks: u32,
    },
    /// A Chebyshev series.
    Poly(PolyPlan),
    /// A refresh.
    Bootstrap(BootstrapKind),
}

/// Why an operation has no price.
#[derive(Clone, Debug, PartialEq, Error, Diagnostic)]
pub enum WorkError {
    /// It names a table entry that does not exist or makes no sense; in words.
    #[error("{0}")]
    #[diagnostic(code(cost::table))]
    Table(String),
}

impl Work {
    /// The work of an operation; nothing for what is free and for a group call (its template is priced).
    pub fn of<S: Stage, V>(program: &Program<S>, op: &Op<V>) -> Result<Vec<Work>, WorkError> {
        let Program {
            plains,
            matrices,
            polys,
            states,
            ..
        } = program;
        Self::of_tables(plains, matrices, polys, states, op)
    }

    /// As [`Work::of`], from the tables that operations name.
    pub fn of_tables<V>(
        plains: &[sotto_ir::slot::Plain],
        matrices: &[sotto_ir::slot::Matrix],
        polys: &[sotto_ir::slot::Poly],
        states: &[StateDecl],
        op: &Op<V>,
    ) -> Result<Vec<Work>, WorkError> {
        let plain = |id: sotto_ir::slot::PlainId, then: Work| {
            let plain = plains
                .get(id.0 as usize)
                .ok_or_else(|| missing("plaintext", id.0))?;
            let moves = plain.factors.iter().any(depends_on_position);
            Ok(if moves {
                vec![Work::Encode, then]
            } else {
                vec![then]
            })
        };
        Ok(match op {
            Op::Rotate { .. } => vec![Work::Rotate],
            Op::Conjugate { .. } => vec![Work::Conjugate],
            Op::MulI { .. } | Op::SumGroups { .. } => vec![],
            Op::Add { .. } | Op::Sub { .. } => vec![Work::Add],
            Op::Append { state, .. } => match states.get(state.0 as usize) {
                Some(state) => match &state.ty.layout {
                    Layout::Matrix(matrix) => vec![Work::spread(matrix)],
                    _ => vec![Work::Add],
                },
                None => return Err(missing("state", state.0)),
            },
            Op::Neg { .. } | Op::AddConst { .. } => vec![Work::AddPlain],
            Op::AddPlain { plain: id, .. } => plain(*id, Work::AddPlain)?,
            Op::MulPlain { plain: id, .. } => plain(*id, Work::MulPlain)?,
            Op::MulConst { .. } => vec![Work::MulConst],
            Op::Mul { .. } => vec![Work::Mul],
            Op::Fold { count, .. } | Op::FoldCurrent { count, .. } => vec![Work::Fold {
                rotations: count.next_power_of_two().trailing_zeros(),
            }],
            Op::Linear { matrix, .. } => {
                let id = matrix.0;
                let matrix = matrices
                    .get(id as usize)
                    .ok_or_else(|| missing("matrix", id))?;
                vec![Work::Linear {
                    diagonals: matrix.diagonals(),
                    baby: matrix.baby,
                }]
            }
            Op::Apply { count, baby, .. } => vec![Work::Apply {
                diagonals: *count,
                baby: *baby,
            }],
            Op::Poly { poly, .. } => {
                let poly = polys
                    .get(poly.0 as usize)
                    .ok_or_else(|| missing("polynomial", poly.0))?;
                let parity = Parity::of(&poly.coefficients);
                let plan = PolyPlan::new(poly.degree() as usize, parity)
                    .map_err(|e| WorkError::Table(format!("polynomial `{}`: {e}", poly.name)))?;
                vec![Work::Poly(plan)]
            }
            Op::Rescale { .. } => vec![Work::Rescale],
            Op::Drop { .. } => vec![Work::Drop],
            Op::Bootstrap { kind, .. } => vec![Work::Bootstrap(*kind)],
        })
    }
}

impl Work {
    /// What appending to a matrix takes.
    pub fn spread(matrix: &TokenMatrix) -> Work {
        Work::Spread {
            turns: matrix.turns().len() as u32,
            masks: matrix.masks(),
        }
    }
}

fn missing(what: &str, id: u32) -> WorkError {
    WorkError::Table(format!("no {what} number {id}"))
}

/// Whether a plaintext with this factor has to be encoded anew for every token.
pub fn depends_on_position(factor: &PlainFactor) -> bool {
    match factor {
        PlainFactor::Const(_)
        | PlainFactor::Vector { .. }
        | PlainFactor::FirstOf { .. }
        | PlainFactor::LastOf { .. } => false,
        PlainFactor::PositionRow { .. }
        | PlainFactor::CurrentToken { .. }
        | PlainFactor::CachedTokens { .. }
        | PlainFactor::InverseCount { .. } => true,
    }
}
