//! Encoded plaintexts under a memory budget.

use super::{Backend, Diagonals, ExecError};
use crate::slot::{
    At, Binding, DataSource, Matrix, MatrixId, Plain, PlainId, StateId, Tables, TokenMatrix,
};
use num_complex::Complex64;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Plain(u32, PlainId, u32, At),
    Matrix(u32, MatrixId, u32, u32),
}

enum Kept<B: Backend> {
    Plain(Arc<B::Plain>),
    Matrix(Arc<B::Linear>),
}

/// What stays encoded from token to token.
///
/// Layers are visited in the same order for every token, so replacing old entries by new ones would evict each entry just before
/// its next use. Instead whatever comes first stays, until the budget is spent; the rest is encoded at each use.
pub(super) struct Cache<B: Backend> {
    budget: usize,
    state: Mutex<State<B>>,
}

struct State<B: Backend> {
    kept: HashMap<Key, Kept<B>>,
    bytes: usize,
    /// Whether something did not fit.
    full: bool,
}

/// What stays encoded for one token: plaintexts that depend on its position.
pub(super) struct TokenCache<B: Backend> {
    plains: HashMap<(PlainId, Binding, At), Arc<B::Plain>>,
    /// Masks of appends, by state, index and level.
    masks: HashMap<(StateId, u32, At), Arc<B::Plain>>,
}

impl<B: Backend> Default for TokenCache<B> {
    fn default() -> Self {
        Self {
            plains: HashMap::new(),
            masks: HashMap::new(),
        }
    }
}

impl<B: Backend> TokenCache<B> {
    /// A mask that appending to a matrix at `position` takes.
    pub(super) fn mask(
        &mut self,
        source: &Source<'_, B>,
        (state, matrix): (StateId, &TokenMatrix),
        index: u32,
        position: u32,
        at: At,
    ) -> Result<Arc<B::Plain>, ExecError<B::Error>> {
        if let Some(kept) = self.masks.get(&(state, index, at)) {
            return Ok(kept.clone());
        }
        let encoded = source.backend.encode(&matrix.mask(position, index), at);
        let encoded =
            Arc::new(encoded.map_err(|cause| source.encoding("an append's mask", cause))?);
        self.masks.insert((state, index, at), encoded.clone());
        Ok(encoded)
    }
}

impl<B: Backend> Cache<B> {
    pub(super) fn new(budget: usize) -> Self {
        let state = State {
            kept: HashMap::new(),
            bytes: 0,
            full: false,
        };
        Self {
            budget,
            state: Mutex::new(state),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.locked().bytes
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State<B>> {
        // A panic elsewhere leaves the map whole: entries are inserted in one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, key: Key, value: Kept<B>, bytes: usize) {
        let mut state = self.locked();
        if state.kept.contains_key(&key) {
            return;
        }
        if state.bytes + bytes > self.budget {
            state.full = true;
            return;
        }
        state.kept.insert(key, value);
        state.bytes += bytes;
    }

    /// Whether something was encoded and not kept.
    pub(super) fn is_full(&self) -> bool {
        self.locked().full
    }

    pub(super) fn plain(
        &self,
        source: &Source<'_, B>,
        id: PlainId,
        at: At,
        binding: Binding,
        token: &mut TokenCache<B>,
    ) -> Result<Arc<B::Plain>, ExecError<B::Error>> {
        let plain = source.tables.plains.get(id.0 as usize);
        let plain = plain.ok_or_else(|| ExecError::Plan(format!("no plaintext {}", id.0)))?;
        let dependence = source.tables.dependence(plain);
        let layer = if dependence.layer { binding.layer } else { 0 };
        if dependence.position {
            let group = binding.group.filter(|_| dependence.group);
            let binding = Binding {
                layer,
                group,
                ..binding
            };
            let key = (id, binding, at);
            if let Some(kept) = token.plains.get(&key) {
                return Ok(kept.clone());
            }
            let encoded = Arc::new(source.encode(plain, at, binding)?);
            token.plains.insert(key, encoded.clone());
            return Ok(encoded);
        }
        let key = Key::Plain(source.program, id, layer, at);
        if let Some(Kept::Plain(kept)) = self.locked().kept.get(&key) {
            return Ok(kept.clone());
        }
        let encoded = Arc::new(source.encode(plain, at, binding)?);
        let bytes = source.backend.plain_bytes(&encoded);
        self.keep(key, Kept::Plain(encoded.clone()), bytes);
        Ok(encoded)
    }

    pub(super) fn matrix(
        &self,
        source: &Source<'_, B>,
        id: MatrixId,
        level: u32,
        layer: u32,
    ) -> Result<Arc<B::Linear>, ExecError<B::Error>> {
        let matrix = source.tables.matrices.get(id.0 as usize);
        let matrix = matrix.ok_or_else(|| ExecError::Plan(format!("no matrix {}", id.0)))?;
        let declared = source.tables.data.get(matrix.data.0 as usize);
        let layer = if declared.is_some_and(|d| d.per_layer) {
            layer
        } else {
            0
        };
        let key = Key::Matrix(source.program, id, layer, level);
        if let Some(Kept::Matrix(kept)) = self.locked().kept.get(&key) {
            return Ok(kept.clone());
        }
        let diagonals = source.diagonals(matrix, layer)?;
        let encoded = source.backend.encode_linear(&diagonals, level);
        let encoded = Arc::new(encoded.map_err(|cause| source.encoding(&matrix.name, cause))?);
        let bytes = source.backend.linear_bytes(&encoded);
        self.keep(key, Kept::Matrix(encoded.clone()), bytes);
        Ok(encoded)
    }
}

/// Where plaintexts come from.
pub(super) struct Source<'a, B: Backend> {
    pub(super) backend: &'a B,
    pub(super) tables: Tables<'a>,
    pub(super) data: &'a dyn DataSource,
    /// Tells the programs of a plan apart, whose tables are numbered alike.
    pub(super) program: u32,
}

impl<B: Backend> Source<'_, B> {
    fn encode(
        &self,
        plain: &Plain,
        at: At,
        binding: Binding,
    ) -> Result<B::Plain, ExecError<B::Error>> {
        let values = self.tables.plain(self.data, plain, binding)?;
        let values: Vec<Complex64> = values.into_iter().map(Complex64::from).collect();
        let encoded = self.backend.encode(&values, at);
        encoded.map_err(|cause| self.encoding(&plain.name, cause))
    }

    fn diagonals(&self, matrix: &Matrix, layer: u32) -> Result<Diagonals, ExecError<B::Error>> {
        let entries = self.tables.entries(self.data, matrix, layer)?;
        let diagonal = |k: u32| (k, entries.diagonal(k));
        let nonzero = |(_, d): &(u32, Vec<Complex64>)| d.iter().any(|x| *x != Complex64::ZERO);
        Ok(Diagonals {
            period: matrix.period(),
            baby: matrix.baby,
            stride: matrix.step(),
            entries: (0..matrix.diagonals())
                .map(diagonal)
                .filter(nonzero)
                .collect(),
        })
    }

    fn encoding(&self, what: &str, cause: B::Error) -> ExecError<B::Error> {
        ExecError::Encode {
            what: what.into(),
            cause,
        }
    }
}
