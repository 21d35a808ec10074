//! What a program's tables mean once layer, position and group are known: plaintext operands and matrix entries as numbers.

use super::{
    DataDecl, DataError, DataId, DataSource, Entries, Group, Matrix, Pairing, Plain, PlainFactor,
    Poly, StateDecl, StateId,
};
use std::sync::Arc;

/// The tables that operations name, borrowed from a stage's program or from a plan.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// Slots S of one ciphertext.
    pub slots: u32,
    /// Most tokens the KV state may hold.
    pub capacity: u32,
    /// Data declarations.
    pub data: &'a [DataDecl],
    /// Plaintext operands.
    pub plains: &'a [Plain],
    /// Matrices.
    pub matrices: &'a [Matrix],
    /// Polynomials.
    pub polys: &'a [Poly],
    /// KV states.
    pub states: &'a [StateDecl],
}

/// The run-time parameters of one run of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// The layer, `{i}`.
    pub layer: u32,
    /// Index of the first current token, which counts the tokens cached before it.
    pub position: u32,
    /// Current tokens: 1, or up to the program's block.
    pub count: u32,
    /// The KV group being visited, inside a group template.
    pub group: Option<u32>,
}

impl Binding {
    /// Of a block's token `r` the index among the current tokens: itself, or the last for those beyond.
    fn current(&self, r: u32) -> u32 {
        r.min(self.count.saturating_sub(1))
    }
}

/// Which run-time parameters change a plaintext operand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dependence {
    /// Each layer has its own.
    pub layer: bool,
    /// Each position has its own.
    pub position: bool,
    /// Each KV group has its own.
    pub group: bool,
}

impl Tables<'_> {
    /// Tokens that one group of a state holds; None unless the state's layout holds at least one.
    pub fn tokens(&self, state: StateId) -> Option<u32> {
        let layout = &self.states.get(state.0 as usize)?.ty.layout;
        layout.tokens().filter(|tokens| *tokens > 0)
    }

    /// Ciphertexts of one group of a state.
    pub fn ciphertexts(&self, state: StateId) -> usize {
        let declared = self.states.get(state.0 as usize);
        declared.map_or(1, |state| state.ciphertexts().max(1)) as usize
    }

    /// Load an array and hold it against its declaration.
    pub fn load(
        &self,
        source: &dyn DataSource,
        id: DataId,
        layer: u32,
    ) -> Result<Arc<[f64]>, DataError> {
        let declared = self.data.get(id.0 as usize);
        let declared = declared.ok_or_else(|| DataError::Missing {
            name: format!("data #{}", id.0),
            layer,
            remedy: "the program declares no data with this number".into(),
        })?;
        let values = source.load(id, layer)?;
        let expected = declared.shape.iter().map(|&n| n as usize).product();
        if values.len() != expected {
            return Err(DataError::Size {
                name: declared.name.clone(),
                expected,
                found: values.len(),
            });
        }
        Ok(values)
    }

    /// One period of a plaintext operand: the product of its factors.
    pub fn plain(
        &self,
        source: &dyn DataSource,
        plain: &Plain,
        at: Binding,
    ) -> Result<Vec<f64>, DataError> {
        let mut product = vec![1.0];
        for factor in &plain.factors {
            let factor = self.factor(source, factor, at)?;
            if factor.is_empty() {
                return Err(DataError::Size {
                    name: plain.name.clone(),
                    expected: 1,
                    found: 0,
                });
            }
            let period = product.len().max(factor.len());
            product = (0..period)
                .map(|p| product[p % product.len()] * factor[p % factor.len()])
                .collect();
        }
        Ok(product)
    }

    fn factor(
        &self,
        source: &dyn DataSource,
        factor: &PlainFactor,
        at: Binding,
    ) -> Result<Vec<f64>, DataError> {
        let position = at.position;
        Ok(match *factor {
            PlainFactor::Const(c) => vec![c],
            PlainFactor::Vector { data, stride } => {
                spaced(&self.load(source, data, at.layer)?, stride)
            }
            PlainFactor::PositionRow {
                data,
                stride,
                block,
            } => {
                let rows = self.rows(source, data, at)?;
                rows.slots(stride, |p| at.current(p % block.max(1)))
            }
            PlainFactor::CurrentToken { group, block } => {
                let first = position.checked_rem(group.tokens).unwrap_or(0);
                let current = first..first + at.count;
                token_mask(group, block, |token, _| current.contains(&token))
            }
            PlainFactor::CachedTokens { group, block } => {
                let tokens = group.tokens;
                let first = at.group.unwrap_or(position / tokens.max(1)) * tokens;
                token_mask(group, block, |token, r| {
                    first + token <= position + at.current(r)
                })
            }
            PlainFactor::FirstOf { width, first } => {
                (0..width).map(|p| f64::from(p < first)).collect()
            }
            PlainFactor::LastOf { width } => (1..=width).map(|p| f64::from(p == width)).collect(),
            PlainFactor::InverseCount { block } => {
                let cached = |p| f64::from(position + at.current(p)) + 1.0;
                (0..block).map(|p| 1.0 / cached(p)).collect()
            }
        })
    }

    /// The rows of a table that belong to the current tokens.
    fn rows(
        &self,
        source: &dyn DataSource,
        id: DataId,
        at: Binding,
    ) -> Result<CurrentRows, DataError> {
        let table = self.load(source, id, at.layer)?;
        // `load` has found the declaration.
        let shape = &self.data[id.0 as usize].shape;
        let width = shape.last().copied().unwrap_or(1) as usize;
        let first = at.position as usize * width;
        let end = first + at.count as usize * width;
        let rows = table.get(first..end).ok_or_else(|| DataError::Size {
            name: self.data[id.0 as usize].name.clone(),
            expected: end,
            found: table.len(),
        })?;
        Ok(CurrentRows {
            width,
            values: rows.to_vec(),
        })
    }

    /// Which run-time parameters change `plain`.
    pub fn dependence(&self, plain: &Plain) -> Dependence {
        let per_layer = |id: &DataId| self.data.get(id.0 as usize).is_some_and(|d| d.per_layer);
        let mut found = Dependence::default();
        for factor in &plain.factors {
            match factor {
                PlainFactor::Const(_)
                | PlainFactor::FirstOf { .. }
                | PlainFactor::LastOf { .. } => {}
                PlainFactor::Vector { data, .. } => found.layer |= per_layer(data),
                PlainFactor::PositionRow { data, .. } => {
                    found.layer |= per_layer(data);
                    found.position = true;
                }
                PlainFactor::CurrentToken { .. } | PlainFactor::InverseCount { .. } => {
                    found.position = true;
                }
                PlainFactor::CachedTokens { .. } => {
                    found.position = true;
                    found.group = true;
                }
            }
        }
        found
    }

    /// The diagonals of a matrix, for a layer.
    pub fn entries<'m>(
        &self,
        source: &dyn DataSource,
        matrix: &'m Matrix,
        layer: u32,
    ) -> Result<Entries<'m>, DataError> {
        let values = self.load(source, matrix.data, layer)?;
        let count = matrix.in_width as usize * matrix.out_width as usize;
        let expected = match matrix.pairing {
            Pairing::Outputs => 2 * count,
            _ => count,
        };
        if values.len() != expected {
            return Err(DataError::Size {
                name: matrix.name.clone(),
                expected,
                found: values.len(),
            });
        }
        Ok(Entries { values, matrix })
    }
}

/// Every value `stride` times.
fn spaced(values: &[f64], stride: u32) -> Vec<f64> {
    let repeat = |x| std::iter::repeat_n(x, stride as usize);
    values.iter().copied().flat_map(repeat).collect()
}

/// 1 in the slots of the tokens to keep; `keep` is asked with a token of the group and one of the block.
fn token_mask(group: Group, block: u32, keep: impl Fn(u32, u32) -> bool) -> Vec<f64> {
    let block = block.max(1);
    let slots = 0..group.period() * block;
    slots
        .map(|p| f64::from(keep(group.token(p / block), p % block)))
        .collect()
}

/// The rows of a position table that belong to the current tokens.
struct CurrentRows {
    width: usize,
    values: Vec<f64>,
}

impl CurrentRows {
    /// Every entry in `stride` slots, of the row that `row` gives for a slot.
    fn slots(&self, stride: u32, row: impl Fn(u32) -> u32) -> Vec<f64> {
        let slots = self.width as u32 * stride;
        let entry = |p: u32| self.values[row(p) as usize * self.width + (p / stride) as usize];
        (0..slots).map(entry).collect()
    }
}
