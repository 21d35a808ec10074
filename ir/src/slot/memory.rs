//! Declared data held in memory.

use super::{DataError, DataId, DataSource};
use std::collections::HashMap;
use std::sync::Arc;

/// A [`DataSource`] of arrays put there beforehand: for tests, and for data that some pass has already resolved.
#[derive(Clone, Debug, Default)]
pub struct MemoryData {
    arrays: HashMap<(DataId, u32), Arc<[f64]>>,
}

impl MemoryData {
    /// Put the array of `layer` there; layer 0 also answers for layers that have none.
    pub fn insert(&mut self, id: DataId, layer: u32, values: impl Into<Arc<[f64]>>) {
        self.arrays.insert((id, layer), values.into());
    }
}

impl DataSource for MemoryData {
    fn load(&self, id: DataId, layer: u32) -> Result<Arc<[f64]>, DataError> {
        let found = self.arrays.get(&(id, layer));
        let found = found.or_else(|| self.arrays.get(&(id, 0)));
        found.cloned().ok_or_else(|| DataError::Missing {
            name: format!("data #{}", id.0),
            layer,
            remedy: "insert it first".into(),
        })
    }
}
