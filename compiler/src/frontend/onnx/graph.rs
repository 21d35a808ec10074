//! A graph of our own, without anything of the file format: what the rest of the importer works on.

use super::error::OnnxError;
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model's main graph.
#[derive(Debug)]
pub(super) struct Graph {
    /// Version of ONNX's own operations.
    pub(super) opset: i64,
    /// Who wrote the file, as it says.
    pub(super) producer: String,
    /// In an order in which every value is defined before it is read.
    pub(super) nodes: Vec<Node>,
    /// What a caller gives; initializers are not among them.
    pub(super) inputs: Vec<Port>,
    /// What a caller gets.
    pub(super) outputs: Vec<String>,
    pub(super) initializers: BTreeMap<String, Arc<Stored>>,
}

/// An operation.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// With the domain before it if that is not ONNX's own.
    pub(super) op: String,
    /// Names of values; empty where an optional one is left out.
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: BTreeMap<String, Attribute>,
}

#[derive(Clone, Debug)]
pub(super) enum Attribute {
    Int(i64),
    Float(f32),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Tensor(Arc<Stored>),
    /// A kind that nothing here reads: a graph, a list of tensors.
    Other,
}

/// An input of the graph.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) format: Format,
    /// Extents, none where they are decided at run time; none at all if the file does not say.
    pub(super) shape: Option<Vec<Option<usize>>>,
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    F32,
    F16,
    Bf16,
    F64,
    I64,
    I32,
    Bool,
    /// By its number in the ONNX standard.
    Other(i32),
}

impl Format {
    /// By the number the ONNX standard gives it.
    pub(super) fn numbered(number: i32) -> Self {
        match number {
            1 => Self::F32,
            6 => Self::I32,
            7 => Self::I64,
            9 => Self::Bool,
            10 => Self::F16,
            11 => Self::F64,
            16 => Self::Bf16,
            other => Self::Other(other),
        }
    }

    /// Bytes of one number, if the format is read.
    pub(super) fn bytes(self) -> Option<usize> {
        match self {
            Self::Bool => Some(1),
            Self::F16 | Self::Bf16 => Some(2),
            Self::F32 | Self::I32 => Some(4),
            Self::F64 | Self::I64 => Some(8),
            Self::Other(_) => None,
        }
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16 | Self::F64)
    }
}

/// A constant as stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) format: Format,
    pub(super) shape: Vec<usize>,
    pub(super) content: Content,
}

/// Where the numbers are, little-endian and row-major.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    /// In a file beside the model; that the place is inside the file has been checked.
    File {
        path: PathBuf,
        offset: u64,
        length: usize,
    },
}

impl Stored {
    /// The bytes; `model` is for errors.
    pub(super) fn bytes(&self, model: &Path) -> Result<std::borrow::Cow<'_, [u8]>, OnnxError> {
        match &self.content {
            Content::Bytes(bytes) => Ok(bytes.into()),
            Content::File {
                path,
                offset,
                length,
            } => {
                let mut bytes = vec![0; *length];
                let read = File::open(path).and_then(|mut file| {
                    file.seek(SeekFrom::Start(*offset))?;
                    file.read_exact(&mut bytes)
                });
                match read {
                    Ok(()) => Ok(bytes.into()),
                    Err(source) => Err(OnnxError::Initializer {
                        path: model.into(),
                        name: self.name.clone(),
                        cause: format!("is in {}, which does not read: {source}", path.display()),
                        remedy: "keep the data file beside the model, as exported",
                    }),
                }
            }
        }
    }
}

/// Numbers as floats; none for formats that hold none. Half precision and single are held exactly.
pub(super) fn floats(format: Format, bytes: &[u8]) -> Option<Vec<f64>> {
    let halves = || bytes.chunks_exact(2).map(|b| [b[0], b[1]]);
    Some(match format {
        Format::F32 => words(bytes)
            .map(|b| f64::from(f32::from_le_bytes(b)))
            .collect(),
        Format::F64 => words(bytes).map(f64::from_le_bytes).collect(),
        Format::F16 => halves().map(|b| f16::from_le_bytes(b).to_f64()).collect(),
        Format::Bf16 => halves().map(|b| bf16::from_le_bytes(b).to_f64()).collect(),
        _ => return None,
    })
}

/// Numbers as whole ones; none for formats that hold none.
pub(super) fn ints(format: Format, bytes: &[u8]) -> Option<Vec<i64>> {
    Some(match format {
        Format::I64 => words(bytes).map(i64::from_le_bytes).collect(),
        Format::I32 => words(bytes)
            .map(|b| i64::from(i32::from_le_bytes(b)))
            .collect(),
        _ => return None,
    })
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.chunks_exact(N).map(|chunk| {
        let mut word = [0; N];
        word.copy_from_slice(chunk);
        word
    })
}
