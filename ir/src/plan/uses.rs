//! Which matrices and vectors a plan multiplies with and adds, and what they take where matrices are kept by their coefficients.

use super::{Instr, Plan, PlanProgram, PlanTemplate};
use crate::slot::{MatrixId, Op, Tables};
use sotto_params::ParamSet;
use std::collections::BTreeSet;

/// A matrix at the level and for the layer that an instruction applies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixUse {
    /// Which.
    pub matrix: MatrixId,
    /// Level of the vector.
    pub level: u32,
    /// Layer.
    pub layer: u32,
}

impl PlanProgram {
    /// Every application of a matrix in one run of a checked plan; of a loop's body once.
    pub fn matrix_uses(&self) -> Vec<MatrixUse> {
        let linear = |(instr, layer): (&Instr, u32)| match instr.op {
            Op::Linear { matrix, .. } => Some(MatrixUse {
                matrix,
                level: instr.at.first()?.level,
                layer,
            }),
            _ => None,
        };
        self.runs().filter_map(linear).collect()
    }

    /// Bytes of all matrices by the coefficients of their diagonals, 64 bits each and two for every slot of the period; each as often as it
    /// is kept: for every level, and for every layer that has its own.
    pub fn coefficient_bytes(&self) -> u64 {
        let mut seen = BTreeSet::new();
        let mut all = 0u64;
        for MatrixUse {
            matrix: id,
            level,
            layer,
        } in self.matrix_uses()
        {
            let Some(matrix) = self.matrices.get(id.0 as usize) else {
                continue;
            };
            let declared = self.data.get(matrix.data.0 as usize);
            let own = declared.is_some_and(|data| data.per_layer);
            if seen.insert((id, level, own.then_some(layer))) {
                let diagonal = 2 * u64::from(matrix.period()) * size_of::<u64>() as u64;
                all = all.saturating_add(diagonal.saturating_mul(matrix.diagonals().into()));
            }
        }
        all
    }

    /// Bytes of all vectors that are multiplied with or added and depend on no position: all their residues.
    fn vector_bytes(&self, tables: &Tables<'_>, params: &ParamSet) -> u64 {
        let mut seen = BTreeSet::new();
        let mut all = 0u64;
        for (instr, layer) in self.runs() {
            let (Op::MulPlain { plain: id, .. } | Op::AddPlain { plain: id, .. }) = instr.op else {
                continue;
            };
            let (Some(plain), Some(at)) = (self.plains.get(id.0 as usize), instr.at.first()) else {
                continue;
            };
            let dependence = tables.dependence(plain);
            let adds = matches!(instr.op, Op::AddPlain { .. });
            let own = dependence.layer.then_some(layer);
            if !dependence.position && seen.insert((id, at.level, adds, own)) {
                let level = params.levels.get(at.level as usize);
                let limbs = level.map_or(0, |level| level.primes.len());
                all = all.saturating_add((limbs * params.n() * size_of::<u32>()) as u64);
            }
        }
        all
    }

    /// Every instruction that runs, with its layer; of a loop's body once.
    fn runs(&self) -> impl Iterator<Item = (&Instr, u32)> {
        let bodies = |template: &PlanTemplate| -> Vec<usize> {
            let body = |instr: &Instr| match instr.op {
                Op::SumGroups { template, .. } => Some(template),
                _ => None,
            };
            template.instrs.iter().filter_map(body).collect()
        };
        self.steps.iter().flat_map(move |step| {
            let own = self.templates.get(step.template);
            let bodies = own.map_or(Vec::new(), bodies);
            let templates = bodies.into_iter().chain([step.template]);
            let instrs: Vec<&Instr> = templates
                .filter_map(|index| self.templates.get(index))
                .flat_map(|template| &template.instrs)
                .collect();
            (step.first..step.first.saturating_add(step.count))
                .flat_map(move |layer| instrs.clone().into_iter().map(move |i| (i, layer)))
        })
    }
}

impl Plan {
    /// Bytes of all matrices of a checked plan by their coefficients: at the most, since diagonals of zeros are left out.
    pub fn coefficient_bytes(&self) -> u64 {
        let bytes = self.programs().map(PlanProgram::coefficient_bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// Bytes of all vectors of a checked plan that can stay encoded.
    pub fn vector_bytes(&self) -> u64 {
        let bytes = |program: &PlanProgram| {
            let tables = program.tables(self.slots(), self.capacity);
            program.vector_bytes(&tables, &self.params)
        };
        self.programs().map(bytes).fold(0, u64::saturating_add)
    }
}
