//! Encoding ahead of time: matrices, which take longest, before the first token asks for them.

use super::Backend;
use super::cache::Source;
use super::executor::{ExecError, Executor};

impl<B: Backend> Executor<B> {
    /// Encodes the matrices of all programs in the order of their first use, as long as the cache has room; `progress` hears how many
    /// are done, and of how many.
    ///
    /// # Errors
    /// Data that cannot be read or encoded, as the first run would find.
    pub fn warm(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<(), ExecError<B::Error>> {
        let plan = self.plan().clone();
        let programs = plan.programs();
        let uses = programs.flat_map(|program| {
            let uses = program.matrix_uses().into_iter();
            uses.map(move |one| (program, one))
        });
        let uses: Vec<_> = uses.collect();
        for (done, (program, one)) in uses.iter().enumerate() {
            progress(done, uses.len());
            let source: Source<'_, B> = self.source(program);
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
