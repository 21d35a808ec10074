//! Golden files: what the model computes in float64, written by `sottoc reference`, read by whatever needs the truth.
//!
//! A golden is a safetensors file, float64 and int64 throughout. With T input tokens, L layers and G generated ones:
//!
//! | tensor | shape | holds |
//! |---|---|---|
//! | `input_ids` | [1, T] | the input |
//! | `logits` | [T, vocab] | computed in one pass over all tokens |
//! | `logits.stepwise` | [T, vocab] | computed token by token with the KV cache |
//! | `hidden.i`, i = 0..=L | [T, hidden] | the input of layer i; the last one is the head's, after the final norm |
//! | `keys.i`, `values.i`, i = 0..L | [kv_heads, T, head_dim] | layer i's keys (after RoPE) and values |
//! | `greedy_ids` | [1, P + G] | the first P input ids, then G tokens, each the most likely after those before it |
//! | `logits.greedy` | [G, vocab] | what each of those G tokens was chosen by; files of other makers may lack it |

use crate::write_whole;
use miette::Diagnostic;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What each greedy token was chosen by.
const GREEDY_LOGITS: &str = "logits.greedy";
/// Key of the metadata that names the checkpoint.
const CHECKPOINT: &str = "checkpoint";

/// Float64 entries in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extents.
    pub shape: Vec<usize>,
    /// As many entries as the product of the extents.
    pub data: Vec<f64>,
}

impl Array {
    /// The innermost vector `i`, counting through the outer extents.
    pub fn row(&self, i: usize) -> &[f64] {
        let width = self.shape.last().copied().unwrap_or(1);
        &self.data[i * width..(i + 1) * width]
    }
}

/// The content of a golden file; see the module's table.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Digest of the checkpoint that it was computed from, if the file says.
    pub checkpoint: Option<String>,
    /// `input_ids`.
    pub input_ids: Vec<u32>,
    /// `logits`.
    pub logits: Array,
    /// `logits.stepwise`.
    pub logits_stepwise: Array,
    /// `hidden.0` to `hidden.L`.
    pub hidden: Vec<Array>,
    /// `keys.i`.
    pub keys: Vec<Array>,
    /// `values.i`.
    pub values: Vec<Array>,
    /// `greedy_ids`.
    pub greedy_ids: Vec<u32>,
    /// `logits.greedy`, if the file has it.
    pub greedy_logits: Option<Array>,
}

/// Why a golden or a file of token ids was not read or written.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum GoldenError {
    /// The file system refused.
    #[error("{path}: {source}")]
    #[diagnostic(code(golden::io))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a (whole) safetensors file.
    #[error("{path}: not a whole safetensors file ({source}): was it truncated?")]
    #[diagnostic(code(golden::format))]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// A tensor is not there.
    #[error("{path}: no tensor `{name}`; {remedy}")]
    #[diagnostic(code(golden::missing))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What makes such a file.
        remedy: &'static str,
    },
    /// A tensor is not what it should be.
    #[error("{path}: tensor `{name}` is {found}, expected {expected}")]
    #[diagnostic(code(golden::tensor))]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
}

/// The sequences in a safetensors file's `input_ids` [B, T] (int64).
pub fn read_ids(path: &Path) -> Result<Vec<Vec<u32>>, GoldenError> {
    let bytes = read(path)?;
    Reader::new(path, &bytes)?.ids("input_ids")
}

impl Golden {
    /// Reads a golden file and checks that its tensors fit together.
    pub fn read(path: &Path) -> Result<Self, GoldenError> {
        let bytes = read(path)?;
        let reader = Reader::new(path, &bytes)?;
        let input_ids = reader.one_row("input_ids")?;
        let greedy_ids = reader.one_row("greedy_ids")?;
        let logits = reader.array("logits", &[Some(input_ids.len()), None])?;
        let logits_stepwise = reader.array(
            "logits.stepwise",
            &[Some(input_ids.len()), Some(logits.shape[1])],
        )?;
        let layers = (0..)
            .take_while(|i| reader.has(&format!("keys.{i}")))
            .count();
        let heads = [None, Some(input_ids.len()), None];
        let series = |name: &str,
                      count: usize,
                      shape: &[Option<usize>]|
         -> Result<Vec<Array>, GoldenError> {
            (0..count)
                .map(|i| reader.array(&format!("{name}.{i}"), shape))
                .collect()
        };
        let hidden = series("hidden", layers + 1, &[Some(input_ids.len()), None])?;
        let (keys, values) = (
            series("keys", layers, &heads)?,
            series("values", layers, &heads)?,
        );
        let chosen_by = [None, Some(logits.shape[1])];
        let greedy_logits = reader
            .has(GREEDY_LOGITS)
            .then(|| reader.array(GREEDY_LOGITS, &chosen_by))
            .transpose()?;
        if let Some(rows) = &greedy_logits
            && rows.shape[0] > greedy_ids.len()
        {
            let found = format!("of {} rows", rows.shape[0]);
            let expected = format!("at most the {} of `greedy_ids`", greedy_ids.len());
            return Err(reader.mismatch(GREEDY_LOGITS, found, expected));
        }
        Ok(Self {
            checkpoint: reader.checkpoint.clone(),
            greedy_logits,
            input_ids,
            logits,
            logits_stepwise,
            hidden,
            keys,
            values,
            greedy_ids,
        })
    }

    /// How many of `greedy_ids` are input: all but those that `logits.greedy` has a row for; without it, as many as both have in common.
    pub fn prompt(&self) -> usize {
        let common = self.greedy_ids.iter().zip(&self.input_ids);
        let common = || common.take_while(|(a, b)| a == b).count();
        let generated = self.greedy_logits.as_ref().map(|rows| rows.shape[0]);
        generated.map_or_else(common, |generated| self.greedy_ids.len() - generated)
    }

    /// Writes the file in one piece: a failure leaves what was there before.
    pub fn write(&self, path: &Path) -> Result<(), GoldenError> {
        let mut tensors = vec![
            ("input_ids".to_string(), ids_bytes(&self.input_ids)),
            ("greedy_ids".to_string(), ids_bytes(&self.greedy_ids)),
            ("logits".to_string(), array_bytes(&self.logits)),
            (
                "logits.stepwise".to_string(),
                array_bytes(&self.logits_stepwise),
            ),
        ];
        let chosen_by = self.greedy_logits.as_ref();
        tensors.extend(chosen_by.map(|rows| (GREEDY_LOGITS.to_string(), array_bytes(rows))));
        for (name, series) in [
            ("hidden", &self.hidden),
            ("keys", &self.keys),
            ("values", &self.values),
        ] {
            let named = series
                .iter()
                .enumerate()
                .map(|(i, array)| (format!("{name}.{i}"), array_bytes(array)));
            tensors.extend(named);
        }
        let format = |source| GoldenError::Format {
            path: path.into(),
            source,
        };
        let views: Result<Vec<_>, _> = tensors
            .iter()
            .map(|(name, (dtype, shape, bytes))| {
                Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?))
            })
            .collect();
        let checkpoint = self.checkpoint.iter();
        let about: HashMap<String, String> = checkpoint
            .map(|digest| (CHECKPOINT.to_string(), digest.clone()))
            .collect();
        let about = Some(about).filter(|about| !about.is_empty());
        let bytes = safetensors::serialize(views.map_err(format)?, about).map_err(format)?;
        write_whole(path, &bytes).map_err(|source| GoldenError::Io {
            path: path.into(),
            source,
        })
    }
}

type Encoded = (Dtype, Vec<usize>, Vec<u8>);

fn ids_bytes(ids: &[u32]) -> Encoded {
    let bytes = ids
        .iter()
        .flat_map(|&id| i64::from(id).to_le_bytes())
        .collect();
    (Dtype::I64, vec![1, ids.len()], bytes)
}

fn array_bytes(array: &Array) -> Encoded {
    let bytes = array.data.iter().flat_map(|x| x.to_le_bytes()).collect();
    (Dtype::F64, array.shape.clone(), bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, GoldenError> {
    std::fs::read(path).map_err(|source| GoldenError::Io {
        path: path.into(),
        source,
    })
}

struct Reader<'b> {
    path: &'b Path,
    checkpoint: Option<String>,
    tensors: SafeTensors<'b>,
}

impl<'b> Reader<'b> {
    fn new(path: &'b Path, bytes: &'b [u8]) -> Result<Self, GoldenError> {
        let tensors = SafeTensors::deserialize(bytes);
        let tensors = tensors.map_err(|source| GoldenError::Format {
            path: path.into(),
            source,
        })?;
        let about = SafeTensors::read_metadata(bytes).map_err(|source| GoldenError::Format {
            path: path.into(),
            source,
        })?;
        let about = about.1.metadata().as_ref();
        let checkpoint = about.and_then(|about| about.get(CHECKPOINT)).cloned();
        Ok(Self {
            path,
            checkpoint,
            tensors,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    fn mismatch(&self, name: &str, found: String, expected: impl Into<String>) -> GoldenError {
        GoldenError::Tensor {
            path: self.path.into(),
            name: name.into(),
            found,
            expected: expected.into(),
        }
    }

    fn tensor(
        &self,
        name: &str,
        remedy: &'static str,
        dtype: Dtype,
    ) -> Result<TensorView<'b>, GoldenError> {
        let Ok(view) = self.tensors.tensor(name) else {
            return Err(GoldenError::Missing {
                path: self.path.into(),
                name: name.into(),
                remedy,
            });
        };
        if view.dtype() != dtype {
            return Err(self.mismatch(name, format!("{:?}", view.dtype()), format!("{dtype:?}")));
        }
        Ok(view)
    }

    fn ids(&self, name: &str) -> Result<Vec<Vec<u32>>, GoldenError> {
        let remedy = "token ids are stored as int64 [sequences, tokens]";
        let view = self.tensor(name, remedy, Dtype::I64)?;
        let tokens = match *view.shape() {
            [_, tokens] if tokens > 0 => tokens,
            ref shape => {
                return Err(self.mismatch(
                    name,
                    format!("of shape {shape:?}"),
                    "[sequences, tokens]",
                ));
            }
        };
        let id = |bytes: &[u8]| {
            let id = i64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
            u32::try_from(id).map_err(|_| self.mismatch(name, format!("holding {id}"), "token ids"))
        };
        let ids: Result<Vec<u32>, _> = view.data().chunks_exact(8).map(id).collect();
        Ok(ids?.chunks_exact(tokens).map(<[u32]>::to_vec).collect())
    }

    fn one_row(&self, name: &str) -> Result<Vec<u32>, GoldenError> {
        let mut rows = self.ids(name)?;
        if rows.len() != 1 {
            return Err(self.mismatch(name, format!("{} sequences", rows.len()), "one sequence"));
        }
        Ok(rows.remove(0))
    }

    /// A float64 tensor with the given extents, `None` standing for any.
    fn array(&self, name: &str, expected: &[Option<usize>]) -> Result<Array, GoldenError> {
        let view = self.tensor(name, "`sottoc reference` writes it", Dtype::F64)?;
        let shape = view.shape();
        let fits = shape.len() == expected.len()
            && shape
                .iter()
                .zip(expected)
                .all(|(found, expected)| expected.is_none_or(|e| e == *found));
        if !fits {
            let extents: Vec<_> = expected
                .iter()
                .map(|e| e.map_or("any".into(), |e| e.to_string()))
                .collect();
            return Err(self.mismatch(
                name,
                format!("of shape {shape:?}"),
                format!("[{}]", extents.join(", ")),
            ));
        }
        let entry = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("chunks of eight"));
        Ok(Array {
            shape: shape.into(),
            data: view.data().chunks_exact(8).map(entry).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Golden {
        let array = |shape: &[usize], from: f64| {
            let count = shape.iter().product::<usize>();
            Array {
                shape: shape.into(),
                data: (0..count).map(|i| from + i as f64 / 3.0).collect(),
            }
        };
        Golden {
            checkpoint: Some("abc".into()),
            input_ids: vec![0, 7],
            logits: array(&[2, 5], 0.0),
            logits_stepwise: array(&[2, 5], 1.0),
            hidden: vec![array(&[2, 3], 2.0), array(&[2, 3], 3.0)],
            keys: vec![array(&[1, 2, 4], 4.0)],
            values: vec![array(&[1, 2, 4], 5.0)],
            greedy_ids: vec![0, 7, 3],
            greedy_logits: Some(array(&[1, 5], 6.0)),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("golden.safetensors");
        sample().write(&path).unwrap();
        assert_eq!(Golden::read(&path).unwrap(), sample());
        assert_eq!(read_ids(&path).unwrap(), [[0, 7]]);
        assert_eq!(sample().prompt(), 2);
        let elsewhere = Golden {
            greedy_logits: None,
            ..sample()
        };
        elsewhere.write(&path).unwrap();
        assert_eq!(Golden::read(&path).unwrap(), elsewhere);
        assert_eq!(elsewhere.prompt(), 2);
    }

    #[test]
    fn damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("golden.safetensors");
        let mut golden = sample();
        golden.hidden.pop();
        golden.write(&path).unwrap();
        assert!(
            matches!(Golden::read(&path), Err(GoldenError::Missing { name, .. }) if name == "hidden.1")
        );
        golden = sample();
        golden.logits_stepwise.shape = vec![5, 2];
        golden.write(&path).unwrap();
        let error = Golden::read(&path).unwrap_err().to_string();
        assert!(
            error.ends_with("`logits.stepwise` is of shape [5, 2], expected [2, 5]"),
            "{error}"
        );
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 7, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                matches!(Golden::read(&path), Err(GoldenError::Format { .. })),
                "{length} bytes"
            );
        }
        let nowhere = dir.path().join("missing").join("golden");
        assert!(matches!(
            sample().write(&nowhere),
            Err(GoldenError::Io { .. })
        ));
    }
}
