//! Encoding ahead of time: matrices, which take longest, before the first token asks for them.

use super::Backend;
use super::cache::Source;
use super::executor::{ExecError, Executor};
use crate::plan::PlanProgram;
use crate::slot::{MatrixId, Op};

/// A matrix at the level and for the layer that an instruction applies it.
struct Use<'p> {
    program: &'p PlanProgram,
    matrix: MatrixId,
    level: u32,
    layer: u32,
}

impl<B: Backend> Executor<B> {
    /// Encodes the matrices of all programs in the order of their first use, as long as the cache has room; `progress` hears how many
    /// are done, and of how many.
    ///
    /// # Errors
    /// Data that cannot be read or encoded, as the first run would find.
    pub fn warm(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<(), ExecError<B::Error>> {
        let uses: Vec<Use<'_>> = self.plan().programs().flat_map(uses).collect();
        for (done, one) in uses.iter().enumerate() {
            progress(done, uses.len());
            let source: Source<'_, B> = self.source(one.program);
            let cache = self.cache();
            cache.matrix(&source, one.matrix, one.level, one.layer)?;
            if cache.is_full() {
                break;
            }
        }
        progress(uses.len(), uses.len());
        Ok(())
    }
}

/// Every application of a matrix in the templates of a program's steps.
fn uses(program: &PlanProgram) -> Vec<Use<'_>> {
    let mut found = Vec::new();
    for step in &program.steps {
        let Some(template) = program.templates.get(step.template) else {
            continue;
        };
        for layer in step.first..step.first.saturating_add(step.count) {
            let linear = template.instrs.iter().filter_map(|instr| match instr.op {
                Op::Linear { matrix, .. } => Some((matrix, instr.at.first()?.level)),
                _ => None,
            });
            found.extend(linear.map(|(matrix, level)| Use {
                program,
                matrix,
                level,
                layer,
            }));
        }
    }
    found
}
