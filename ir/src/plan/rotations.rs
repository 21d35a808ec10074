//! Which rotations an operation performs: one definition for the key list and the checker.

use crate::slot::{Layout, Matrix, Op, StateDecl};

/// Rotation steps (left, in 1..slots; None is conjugation) that an operation asks of the backend at its operand's level.
///
/// Bootstraps are not included: their rotations, with levels, belong to the bootstrap's own structure. A rotation by a multiple
/// of `slots` is the identity and needs no key.
pub fn rotations<V>(
    op: &Op<V>,
    matrices: &[Matrix],
    states: &[StateDecl],
    slots: u32,
) -> Vec<Option<u32>> {
    let steps: Vec<i64> = match op {
        Op::Rotate { by, .. } => vec![i64::from(*by)],
        Op::Conjugate { .. } => return vec![None],
        Op::Fold { step, count, .. } => doublings(*count)
            .map(|done| i64::from(*step) * i64::from(done))
            .collect(),
        Op::FoldCurrent { count, .. } => doublings(*count)
            .flat_map(|step| [i64::from(step), -i64::from(step)])
            .collect(),
        Op::Linear { matrix, .. } => match matrices.get(matrix.0 as usize) {
            Some(matrix) => linear(matrix),
            None => vec![],
        },
        Op::Apply {
            step, count, baby, ..
        } => split((*count).min(slots), *baby, *step),
        Op::Append { state, .. } => match states.get(state.0 as usize).map(|s| &s.ty.layout) {
            Some(Layout::Matrix(matrix)) if matrix.fits(slots) => {
                let turns = matrix.turns().into_iter();
                let step = i64::from(matrix.step());
                turns.map(|turn| i64::from(turn) * step).collect()
            }
            _ => vec![],
        },
        _ => vec![],
    };
    let step = |s: i64| s.rem_euclid(i64::from(slots)) as u32;
    let mut steps: Vec<_> = steps.into_iter().map(step).filter(|&s| s != 0).collect();
    steps.sort_unstable();
    steps.dedup();
    steps.into_iter().map(Some).collect()
}

/// 1, 2, 4, … below `count`.
fn doublings(count: u32) -> impl Iterator<Item = u32> {
    (0..32)
        .map(|i| 1u32 << i)
        .take_while(move |&done| done < count)
}

fn linear(matrix: &Matrix) -> Vec<i64> {
    split(matrix.diagonals(), matrix.baby, matrix.step())
}

/// Babies 1..B and giants B, 2B, … in units of the step.
fn split(count: u32, baby: u32, step: u32) -> Vec<i64> {
    let baby = baby.max(1);
    let babies = 1..baby.min(count);
    let giants = (1..count.div_ceil(baby)).map(|g| g * baby);
    let step = i64::from(step);
    let steps = babies.chain(giants).map(i64::from);
    steps.map(|k| k * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::{DataId, Form, MatrixId, Pairing};

    #[test]
    fn steps_are_left_unique_and_nonzero() {
        let matrix = |form, pairing| Matrix {
            name: "w".into(),
            in_width: 16,
            out_width: 16,
            form,
            block: 1,
            pairing,
            baby: 4,
            data: DataId(0),
        };
        let (spread, gather) = (
            matrix(Form::Spread { stride: 2 }, Pairing::None),
            matrix(Form::Gather { stride: 1 }, Pairing::Inputs),
        );
        let linear = Op::Linear {
            v: (),
            matrix: MatrixId(0),
        };
        let some = |steps: &[u32]| steps.iter().map(|&s| Some(s)).collect::<Vec<_>>();
        // eight diagonals, two slots apart
        assert_eq!(rotations(&linear, &[spread], &[], 64), some(&[2, 4, 6, 8]));
        // half of sixteen
        assert_eq!(rotations(&linear, &[gather], &[], 64), some(&[1, 2, 3, 4]));
        let fold = |step, count| {
            let op = Op::Fold { v: (), step, count };
            rotations(&op, &[], &[], 64)
        };
        assert_eq!(fold(8, 8), some(&[8, 16, 32]));
        assert_eq!(fold(-8, 4), some(&[48, 56]));
        assert_eq!(fold(64, 2), some(&[]));
        let current = Op::FoldCurrent { v: (), count: 4 };
        assert_eq!(rotations(&current, &[], &[], 64), some(&[1, 2, 62, 63]));
        let back = Op::Rotate { v: (), by: -3 };
        assert_eq!(rotations(&back, &[], &[], 64), some(&[61]));
        assert_eq!(
            rotations(&Op::Conjugate { v: () }, &[], &[], 64),
            vec![None]
        );
    }
}
