//! Declared data made from a checkpoint by its recipes.

use sotto_ir::decoder::{Rope, Tensor, WeightError, WeightSource, instantiate};
use sotto_ir::slot::{DataDecl, DataError, DataId, DataSource, FeatureMap, MatrixPart, Recipe};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Arrays made so far, by declaration and layer.
type Made = HashMap<(DataId, u32), Arc<[f64]>>;

/// A [`DataSource`] over a checkpoint: every array is made by its recipe on first use and kept.
pub struct CheckpointData<'a> {
    declared: &'a [DataDecl],
    weights: &'a dyn WeightSource,
    rope: &'a Rope,
    made: Mutex<Made>,
}

impl<'a> CheckpointData<'a> {
    /// Data of a program's declarations from the checkpoint they name.
    pub fn new(declared: &'a [DataDecl], weights: &'a dyn WeightSource, rope: &'a Rope) -> Self {
        Self {
            declared,
            weights,
            rope,
            made: Mutex::default(),
        }
    }

    /// The array of a declaration, not kept.
    pub fn make(&self, decl: &DataDecl, layer: u32) -> Result<Vec<f64>, DataError> {
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
                let mut values = Vec::with_capacity(decl.shape.iter().product::<u32>() as usize);
                for part in parts {
                    self.matrix(part, layer, (rows, columns), &mut values)
                        .map_err(read)?;
                }
                Ok(values)
            }
            Recipe::Vector {
                tensor,
                rows,
                scale,
            } => {
                let tensor = self.tensor(tensor, layer).map_err(read)?;
                let entry = |f: u32| scale * f64::from(tensor.data[f as usize]);
                let places = 0..decl.shape.iter().product();
                Ok(places
                    .map(|place| rows.feature(place).map_or(0.0, entry))
                    .collect())
            }
            Recipe::RopeCos { map, scale } => {
                self.rotary(decl, map, |_, angle| scale * angle.cos())
            }
            Recipe::RopeSin { map, scale } => self.rotary(decl, map, |second, angle| {
                scale * if second { angle.sin() } else { -angle.sin() }
            }),
            Recipe::Values(layers) => {
                let index = if decl.per_layer { layer as usize } else { 0 };
                layers
                    .get(index)
                    .cloned()
                    .ok_or_else(|| DataError::Missing {
                        name: decl.name.clone(),
                        layer,
                        remedy: "compile the model again".into(),
                    })
            }
        }
    }

    fn shape(&self, decl: &DataDecl, cause: &str) -> DataError {
        DataError::Read {
            name: decl.name.clone(),
            cause: format!("shape {:?}: {cause}", decl.shape),
        }
    }

    fn tensor(&self, name: &str, layer: u32) -> Result<&Tensor, WeightError> {
        self.weights.tensor(&instantiate(name, layer as usize))
    }

    fn matrix(
        &self,
        part: &MatrixPart,
        layer: u32,
        (rows, columns): (u32, u32),
        values: &mut Vec<f64>,
    ) -> Result<(), WeightError> {
        let tensor = self.tensor(&part.tensor, layer)?;
        let gain = part.gain.as_ref().map(|gain| self.tensor(gain, layer));
        let gain = gain.transpose()?;
        let features: Vec<_> = (0..columns)
            .map(|place| part.columns.feature(place))
            .collect();
        let entry = |row: u32, column: u32| {
            let weight = match part.transposed {
                false => tensor.row(row as usize)[column as usize],
                true => tensor.row(column as usize)[row as usize],
            };
            let gain = gain.map_or(1.0, |gain| f64::from(gain.data[column as usize]));
            part.scale * gain * f64::from(weight)
        };
        for place in 0..rows {
            let row = part.rows.feature(place);
            values.extend(features.iter().map(|column| match (row, column) {
                (Some(row), Some(column)) => entry(row, *column),
                _ => 0.0,
            }));
        }
        Ok(())
    }

    /// A [capacity, width] table of `f(second half, angle)`.
    fn rotary(
        &self,
        decl: &DataDecl,
        map: &FeatureMap,
        f: impl Fn(bool, f64) -> f64,
    ) -> Result<Vec<f64>, DataError> {
        let ([capacity, width], &FeatureMap::Heads { head_dim, .. }) = (&decl.shape[..], map)
        else {
            return Err(self.shape(decl, "a rotary table is [capacity, width] over heads"));
        };
        let frequencies = self.rope.frequencies(head_dim as usize);
        let half = head_dim / 2;
        let mut values = Vec::with_capacity((capacity * width) as usize);
        for position in 0..*capacity {
            values.extend((0..*width).map(|place| {
                map.feature(place).map_or(0.0, |feature| {
                    let l = feature % head_dim;
                    let angle = f64::from(position) * frequencies[(l % half) as usize];
                    f(l >= half, angle)
                })
            }));
        }
        Ok(values)
    }
}

impl DataSource for CheckpointData<'_> {
    fn load(&self, id: DataId, layer: u32) -> Result<Arc<[f64]>, DataError> {
        let decl = self.declared.get(id.0 as usize);
        let decl = decl.ok_or_else(|| DataError::Missing {
            name: format!("data #{}", id.0),
            layer,
            remedy: "the program declares no data with this number".into(),
        })?;
        let layer = if decl.per_layer { layer } else { 0 };
        // a poisoned lock only means that another thread stopped; the map holds whole entries
        let lock = || self.made.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(made) = lock().get(&(id, layer)) {
            return Ok(made.clone());
        }
        let made: Arc<[f64]> = self.make(decl, layer)?.into();
        lock().insert((id, layer), made.clone());
        Ok(made)
    }
}
