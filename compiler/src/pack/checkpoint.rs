//! Declared data made from a checkpoint by its recipes.

use crate::lower::centre;
use sotto_ir::decoder::{Positions, Tensor, WeightError, WeightSource, instantiate};
use sotto_ir::slot::{
    DataDecl, DataError, DataId, DataSource, FeatureMap, MatrixPart, Recipe, Shift,
};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

/// Entries of arrays that are kept once made, 1 GiB. A model run on slots reads every array once for each token: those of a small
/// one stay, of a large one what comes first does, and the rest is made again.
const KEPT: usize = 1 << 27;

/// Entries of a tensor that are read at once where it is gone through once.
const ROWS: usize = 1 << 22;

/// Arrays made so far, by declaration and layer, as long as there was room.
struct Made {
    arrays: HashMap<(DataId, u32), Arc<[f64]>>,
    /// Entries that more of them may have.
    room: usize,
}

/// A [`DataSource`] over a checkpoint: every array is made by its recipe when it is read.
pub struct CheckpointData<'a> {
    declared: &'a [DataDecl],
    weights: &'a dyn WeightSource,
    positions: &'a Positions,
    made: Mutex<Made>,
}

/// Receives an array piece by piece, until it breaks off.
type Each<'e> = dyn FnMut(&[f64]) -> ControlFlow<()> + 'e;

impl<'a> CheckpointData<'a> {
    /// Data of a program's declarations from the checkpoint they name.
    pub fn new(
        declared: &'a [DataDecl],
        weights: &'a dyn WeightSource,
        positions: &'a Positions,
    ) -> Self {
        let made = Made {
            arrays: HashMap::new(),
            room: KEPT,
        };
        Self {
            declared,
            weights,
            positions,
            made: Mutex::new(made),
        }
    }

    /// Makes the array of a declaration, a row at a time.
    fn make(&self, decl: &DataDecl, layer: u32, each: &mut Each<'_>) -> Result<(), DataError> {
        let read = |cause: WeightError| DataError::Read {
            name: decl.name.clone(),
            cause: cause.to_string(),
        };
        match &decl.recipe {
            Recipe::Matrix(parts) => {
                let [rows, columns] = decl.shape[..] else {
                    return Err(self.shape(decl, "a matrix has two extents"));
                };
                let rows = rows / parts.len().max(1) as u32;
                for part in parts {
                    let made = self.matrix(part, layer, (rows, columns), each);
                    if made.map_err(read)?.is_break() {
                        break;
                    }
                }
            }
            Recipe::Vector {
                tensor,
                rows,
                scale,
            } => {
                let tensor = self.tensor(tensor, layer).map_err(read)?;
                let entry = |f: u32| scale * f64::from(tensor.data[f as usize]);
                let places = 0..decl.shape.iter().product();
                let values: Vec<f64> = places
                    .map(|place| rows.feature(place).map_or(0.0, entry))
                    .collect();
                let _last = each(&values);
            }
            Recipe::Constant {
                own,
                shift,
                rows,
                centred,
                scale,
            } => {
                let (own, shift) = (own.as_deref(), shift.as_ref());
                let features = self.constant(own, shift, layer).map_err(read)?;
                let features = less_mean(features, *centred);
                let places = 0..decl.shape.iter().product();
                let values: Option<Vec<f64>> = places
                    .map(|place| match rows.feature(place) {
                        Some(feature) => Some(scale * features.get(feature as usize)?),
                        None => Some(0.0),
                    })
                    .collect();
                let values = values.ok_or_else(|| self.shape(decl, "its tensors are shorter"))?;
                let _last = each(&values);
            }
            Recipe::Rows {
                tensor,
                rows,
                centred,
                scale,
            } => {
                let [count, width] = decl.shape[..] else {
                    return Err(self.shape(decl, "rows for positions have two extents"));
                };
                for position in 0..count as usize {
                    let row = self.weights.rows(tensor, position..position + 1);
                    let row = row.map_err(read)?.data.into_iter().map(f64::from);
                    let row = less_mean(row.collect(), *centred);
                    let entry = |f: u32| scale * row[f as usize];
                    let values = (0..width).map(|place| rows.feature(place).map_or(0.0, entry));
                    if each(&values.collect::<Vec<_>>()).is_break() {
                        break;
                    }
                }
            }
            Recipe::RopeCos { map, scale } => {
                self.rotary(decl, map, |_, angle| scale * angle.cos(), each)?;
            }
            Recipe::RopeSin { map, scale } => {
                let sine =
                    |second, angle: f64| scale * if second { angle.sin() } else { -angle.sin() };
                self.rotary(decl, map, sine, each)?;
            }
            Recipe::Values(layers) => {
                let index = if decl.per_layer { layer as usize } else { 0 };
                let values = layers.get(index).ok_or_else(|| DataError::Missing {
                    name: decl.name.clone(),
                    layer,
                    remedy: "compile the model again".into(),
                })?;
                let _last = each(values);
            }
        }
        Ok(())
    }

    fn declaration(&self, id: DataId, layer: u32) -> Result<&DataDecl, DataError> {
        let decl = self.declared.get(id.0 as usize);
        decl.ok_or_else(|| DataError::Missing {
            name: format!("data #{}", id.0),
            layer,
            remedy: "the program declares no data with this number".into(),
        })
    }

    fn shape(&self, decl: &DataDecl, cause: &str) -> DataError {
        DataError::Read {
            name: decl.name.clone(),
            cause: format!("shape {:?}: {cause}", decl.shape),
        }
    }

    fn tensor(&self, name: &str, layer: u32) -> Result<Arc<Tensor>, WeightError> {
        self.weights.tensor(&instantiate(name, layer as usize))
    }

    /// The rows of a part's tensor that stand somewhere, and which the first of them is: a block of a large one may be all that a part
    /// needs.
    fn part(&self, part: &MatrixPart, layer: u32) -> Result<(Arc<Tensor>, usize), WeightError> {
        let name = instantiate(&part.tensor, layer as usize);
        let all = self.weights.shape(&name)?.first().copied().unwrap_or(0);
        match part.rows {
            FeatureMap::Plain { first, count }
                if !part.transposed && !part.centred && (count as usize) < all =>
            {
                let first = first as usize;
                let rows = self.weights.rows(&name, first..first + count as usize)?;
                Ok((rows.into(), first))
            }
            _ => Ok((self.weights.tensor(&name)?, 0)),
        }
    }

    fn matrix(
        &self,
        part: &MatrixPart,
        layer: u32,
        (rows, columns): (u32, u32),
        each: &mut Each<'_>,
    ) -> Result<ControlFlow<()>, WeightError> {
        let (tensor, first) = self.part(part, layer)?;
        let gain = part.gain.as_ref().map(|gain| self.tensor(gain, layer));
        let gain = gain.transpose()?;
        let features: Vec<_> = (0..columns)
            .map(|place| part.columns.feature(place))
            .collect();
        let means = part.centred.then(|| means(&tensor, part.transposed));
        let entry = |row: u32, column: u32| {
            let weight = match part.transposed {
                false => tensor.row(row as usize - first)[column as usize],
                true => tensor.row(column as usize)[row as usize],
            };
            let gain = gain
                .as_ref()
                .map_or(1.0, |gain| f64::from(gain.data[column as usize]));
            let mean = means.as_ref().map_or(0.0, |means| means[column as usize]);
            part.scale * gain * (f64::from(weight) - mean)
        };
        let mut values = Vec::with_capacity(features.len());
        for place in 0..rows {
            let row = part.rows.feature(place);
            values.clear();
            values.extend(features.iter().map(|column| match (row, column) {
                (Some(row), Some(column)) => entry(row, *column),
                _ => 0.0,
            }));
            if each(&values).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// A map's own bias, and what it makes of the vector before it; every feature of its output.
    fn constant(
        &self,
        own: Option<&str>,
        shift: Option<&Shift>,
        layer: u32,
    ) -> Result<Vec<f64>, WeightError> {
        let own = own.map(|own| self.tensor(own, layer)).transpose()?;
        let mut sum = match shift {
            Some(shift) => self.shifted(shift, layer)?,
            None => vec![0.0; own.as_ref().map_or(0, |own| own.data.len())],
        };
        for (sum, &bias) in sum.iter_mut().zip(own.iter().flat_map(|own| &own.data)) {
            *sum += f64::from(bias);
        }
        Ok(sum)
    }

    /// W·b, some rows of W at a time where they are outputs.
    fn shifted(&self, shift: &Shift, layer: u32) -> Result<Vec<f64>, WeightError> {
        let by = self.tensor(&shift.by, layer)?;
        let name = instantiate(&shift.weight, layer as usize);
        let shape = self.weights.shape(&name)?;
        let (rows, width) = (shape[0], shape[1..].iter().product::<usize>());
        let at_once = (ROWS / width.max(1)).max(1);
        let mut sum = vec![0.0; if shift.transposed { width } else { rows }];
        for first in (0..rows).step_by(at_once) {
            let block = self.weights.rows(&name, first..rows.min(first + at_once))?;
            for (row, entries) in block.data.chunks_exact(width.max(1)).enumerate() {
                let row = first + row;
                let products = entries.iter().enumerate().map(|(column, &entry)| {
                    let (to, from) = match shift.transposed {
                        false => (row, column),
                        true => (column, row),
                    };
                    (to, f64::from(entry) * f64::from(by.data[from]))
                });
                products.for_each(|(to, product)| sum[to] += product);
            }
        }
        Ok(sum)
    }

    /// A [capacity, width] table of `f(second half, angle)`.
    fn rotary(
        &self,
        decl: &DataDecl,
        map: &FeatureMap,
        f: impl Fn(bool, f64) -> f64,
        each: &mut Each<'_>,
    ) -> Result<(), DataError> {
        let ([capacity, width], &FeatureMap::Heads { head_dim, .. }) = (&decl.shape[..], map)
        else {
            return Err(self.shape(decl, "a rotary table is [capacity, width] over heads"));
        };
        let rope = self.positions.rope();
        let rope = rope.ok_or_else(|| self.shape(decl, "the model's positions are not rotary"))?;
        let frequencies = rope.frequencies(head_dim as usize);
        let half = head_dim / 2;
        for position in 0..*capacity {
            let entry = |place| {
                map.feature(place).map_or(0.0, |feature| {
                    let l = feature % head_dim;
                    let angle = f64::from(position) * frequencies[(l % half) as usize];
                    f(l >= half, angle)
                })
            };
            let values: Vec<f64> = (0..*width).map(entry).collect();
            if each(&values).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Features less their mean, if so wanted.
fn less_mean(mut features: Vec<f64>, wanted: bool) -> Vec<f64> {
    if wanted {
        centre(&mut features);
    }
    features
}

/// Of every input, the mean over all outputs of a map stored [out, in] or, transposed, [in, out].
fn means(tensor: &Tensor, transposed: bool) -> Vec<f64> {
    let rows = tensor.shape.first().copied().unwrap_or(0);
    let width = tensor.data.len() / rows.max(1);
    let entries = |row: usize| tensor.data[row * width..(row + 1) * width].iter();
    if transposed {
        let mean = |row| entries(row).map(|&x| f64::from(x)).sum::<f64>() / width as f64;
        return (0..rows).map(mean).collect();
    }
    let mut sums = vec![0.0; width];
    for row in 0..rows {
        for (sum, &x) in sums.iter_mut().zip(entries(row)) {
            *sum += f64::from(x);
        }
    }
    sums.into_iter().map(|sum| sum / rows as f64).collect()
}

impl DataSource for CheckpointData<'_> {
    fn load(&self, id: DataId, layer: u32) -> Result<Arc<[f64]>, DataError> {
        let decl = self.declaration(id, layer)?;
        let layer = if decl.per_layer { layer } else { 0 };
        // a poisoned lock only means that another thread stopped; the map holds whole entries
        let lock = || self.made.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(made) = lock().arrays.get(&(id, layer)) {
            return Ok(made.clone());
        }
        let mut values = Vec::with_capacity(decl.shape.iter().map(|&n| n as usize).product());
        self.make(decl, layer, &mut |piece| {
            values.extend_from_slice(piece);
            ControlFlow::Continue(())
        })?;
        let array: Arc<[f64]> = values.into();
        let mut made = lock();
        if array.len() <= made.room && made.arrays.insert((id, layer), array.clone()).is_none() {
            made.room -= array.len();
        }
        Ok(array)
    }

    fn pieces(&self, id: DataId, layer: u32, each: &mut Each<'_>) -> Result<(), DataError> {
        let decl = self.declaration(id, layer)?;
        let layer = if decl.per_layer { layer } else { 0 };
        self.make(decl, layer, each)
    }
}
