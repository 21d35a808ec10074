//! Which arrays a program reads.

use super::{PlanProgram, PlanTemplate, Weights};
use crate::slot::{DataId, Op, PlainFactor, Recipe, Step};
use std::collections::BTreeSet;

impl PlanProgram {
    /// Layers whose states the program appends to.
    pub fn layers(&self) -> BTreeSet<u32> {
        let appends = |template: &PlanTemplate| {
            let mut instrs = template.instrs.iter();
            instrs.any(|instr| matches!(instr.op, Op::Append { .. }))
        };
        let steps = self.steps.iter().filter(|step| {
            let template = self.templates.get(step.template);
            template.is_some_and(appends)
        });
        let layers = |step: &Step| step.first..step.first.saturating_add(step.count);
        steps.flat_map(layers).collect()
    }

    /// Every array that running the program reads from the plan's files: declaration and layer (0 where all layers share it), in
    /// order. Calibrated values stand in the declarations themselves and are not among them; neither is what is made of weights where
    /// there are none.
    pub fn arrays(&self, weights: Weights) -> BTreeSet<(DataId, u32)> {
        let mut needed = BTreeSet::new();
        for step in &self.steps {
            let mut ids = BTreeSet::new();
            if let Some(template) = self.templates.get(step.template) {
                self.template_data(template, 0, &mut ids);
            }
            for id in ids {
                match self.data.get(id.0 as usize) {
                    Some(decl) if matches!(decl.recipe, Recipe::Values(_)) => {}
                    Some(decl) if weights == Weights::None && decl.recipe.of_weights() => {}
                    Some(decl) if decl.per_layer => {
                        let end = step.first.saturating_add(step.count);
                        needed.extend((step.first..end).map(|layer| (id, layer)));
                    }
                    _ => {
                        needed.insert((id, 0));
                    }
                }
            }
        }
        needed
    }

    fn template_data(&self, template: &PlanTemplate, depth: u32, ids: &mut BTreeSet<DataId>) {
        for instr in &template.instrs {
            match &instr.op {
                Op::AddPlain { plain, .. } | Op::MulPlain { plain, .. } => {
                    let plain = self.plains.get(plain.0 as usize);
                    for factor in plain.iter().flat_map(|p| &p.factors) {
                        if let PlainFactor::Vector { data, .. }
                        | PlainFactor::PositionRow { data, .. } = factor
                        {
                            ids.insert(*data);
                        }
                    }
                }
                Op::Linear { matrix, .. } => {
                    let matrix = self.matrices.get(matrix.0 as usize);
                    ids.extend(matrix.map(|m| m.data));
                }
                // A group template loops no further; anything deeper is an error that others report.
                Op::SumGroups { template, .. } if depth == 0 => {
                    if let Some(group) = self.templates.get(*template) {
                        self.template_data(group, 1, ids);
                    }
                }
                _ => {}
            }
        }
    }
}
