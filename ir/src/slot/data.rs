//! Data that programs name and never inline: recipes for packing checkpoint tensors, and position tables.

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Index into [`super::Program::data`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DataId(pub u32);

/// A named array that a [`DataSource`] resolves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataDecl {
    /// For dumps and error messages.
    pub name: String,
    /// Whether each layer has its own array.
    pub per_layer: bool,
    /// Extents of the array, row-major.
    pub shape: Vec<u32>,
    /// How the compiler makes it from the checkpoint. The plan keeps the recipe for provenance; the runtime reads the result.
    pub recipe: Recipe,
}

/// How an array is made from the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Recipe {
    /// A matrix [out_width, in_width]; with two parts the second is the imaginary one.
    Matrix(Vec<MatrixPart>),
    /// A vector [width] from a bias or gain tensor.
    Vector {
        /// Tensor name, `{i}` for the layer.
        tensor: String,
        /// Where each feature comes from.
        rows: FeatureMap,
        /// Multiplies every entry.
        scale: f64,
    },
    /// What a linear map adds, [width]: its own bias, and what the bias of a norm before it becomes.
    Constant {
        /// Its bias, by tensor name.
        own: Option<String>,
        /// What goes through the map with every input.
        shift: Option<Shift>,
        /// Where each feature comes from.
        rows: FeatureMap,
        /// Whether the mean over all features is taken off.
        centred: bool,
        /// Multiplies every entry.
        scale: f64,
    },
    /// The first rows of a table, [capacity, width]: one for each position.
    Rows {
        /// Tensor name; shape [positions, features].
        tensor: String,
        /// Where each feature comes from.
        rows: FeatureMap,
        /// Whether each row's mean over all features is taken off.
        centred: bool,
        /// Multiplies every entry.
        scale: f64,
    },
    /// Cosines of the rotary embedding, [capacity, width]: entry f of row p is cos(p·θ_lane(f)) × scale.
    RopeCos {
        /// Where features stand.
        map: FeatureMap,
        /// Multiplies every entry.
        scale: f64,
    },
    /// Signed sines: negative on the first half of the lanes, for x·cos + rot(x, width/2)·sin.
    RopeSin {
        /// Where features stand.
        map: FeatureMap,
        /// Multiplies every entry.
        scale: f64,
    },
    /// Numbers that calibration found, in place: one array per layer if declared so, else one. Small: one entry per head, say.
    Values(Vec<Vec<f64>>),
}

impl Recipe {
    /// Whether the array is made of the checkpoint's tensors.
    pub fn of_weights(&self) -> bool {
        match self {
            Recipe::Matrix(_)
            | Recipe::Vector { .. }
            | Recipe::Constant { .. }
            | Recipe::Rows { .. } => true,
            Recipe::RopeCos { .. } | Recipe::RopeSin { .. } | Recipe::Values(_) => false,
        }
    }

    /// Names of the tensors that it reads.
    pub fn tensors(&self) -> Vec<&str> {
        match self {
            Recipe::Matrix(parts) => {
                let names = parts
                    .iter()
                    .flat_map(|part| std::iter::once(&part.tensor).chain(&part.gain));
                names.map(String::as_str).collect()
            }
            Recipe::Vector { tensor, .. } | Recipe::Rows { tensor, .. } => vec![tensor],
            Recipe::Constant { own, shift, .. } => {
                let through = shift.iter().flat_map(|shift| [&shift.weight, &shift.by]);
                own.iter().chain(through).map(String::as_str).collect()
            }
            Recipe::RopeCos { .. } | Recipe::RopeSin { .. } | Recipe::Values(_) => vec![],
        }
    }

    /// Where its features come from.
    pub fn maps(&self) -> Vec<&FeatureMap> {
        match self {
            Recipe::Matrix(parts) => {
                let both = parts.iter().flat_map(|part| [&part.rows, &part.columns]);
                both.collect()
            }
            Recipe::Vector { rows, .. }
            | Recipe::Constant { rows, .. }
            | Recipe::Rows { rows, .. }
            | Recipe::RopeCos { map: rows, .. }
            | Recipe::RopeSin { map: rows, .. } => vec![rows],
            Recipe::Values(_) => vec![],
        }
    }
}

/// A constant b at the input of a linear map W: W·b at its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    /// W, by tensor name; shape [out_features, in_features].
    pub weight: String,
    /// Whether the tensor is stored the other way round.
    pub transposed: bool,
    /// b, by tensor name.
    pub by: String,
}

/// One real part of a packed matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatrixPart {
    /// Tensor name, `{i}` for the layer; shape [out_features, in_features].
    pub tensor: String,
    /// Whether the tensor is stored the other way round, [in_features, out_features] (an embedding table, say).
    pub transposed: bool,
    /// Where output features come from.
    pub rows: FeatureMap,
    /// Where input features come from.
    pub columns: FeatureMap,
    /// A gain vector multiplied into the columns (a norm's weight), by tensor name.
    pub gain: Option<String>,
    /// Whether every column's mean over all output features is taken off, so that outputs sum to 0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub centred: bool,
    /// Multiplies every entry.
    pub scale: f64,
}

/// Which checkpoint feature stands at which place of a periodic vector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeatureMap {
    /// Feature first + f at place f.
    Plain {
        /// The feature at place 0; not 0 for the later blocks of a vector that fills several ciphertexts.
        first: u32,
        /// Features.
        count: u32,
    },
    /// Head-interleaved: place lane·heads_padded + head holds feature `kv(head)·head_dim + l`, where kv(head) = head / (heads /
    /// kv_heads), lanes 0..head_dim/2 hold the first half of a head, and lanes lanes/2.. the second half. With kv_heads ==
    /// heads this is the query's map; fewer kv_heads duplicates key and value heads to their query heads.
    Heads {
        /// Query heads.
        heads: u32,
        /// Key/value heads that the tensor has (or `heads` for the query).
        kv_heads: u32,
        /// Features of one head.
        head_dim: u32,
        /// Heads padded to a power of two.
        heads_padded: u32,
        /// Lanes padded to a power of two.
        lanes: u32,
    },
}

impl FeatureMap {
    /// Feature f at place f.
    pub fn plain(count: u32) -> Self {
        FeatureMap::Plain { first: 0, count }
    }

    /// Whether the map's numbers make sense, as [`FeatureMap::feature`] takes for granted.
    pub fn holds(&self) -> bool {
        match *self {
            FeatureMap::Plain { first, count } => first.checked_add(count).is_some(),
            FeatureMap::Heads {
                heads,
                kv_heads,
                heads_padded,
                lanes,
                head_dim,
            } => {
                let sizes = kv_heads > 0 && heads_padded > 0 && lanes >= 2;
                sizes
                    && heads > 0
                    && heads.is_multiple_of(kv_heads)
                    && kv_heads.checked_mul(head_dim).is_some()
            }
        }
    }

    /// The checkpoint feature at a place, or None where the place is padding.
    pub fn feature(&self, place: u32) -> Option<u32> {
        match *self {
            FeatureMap::Plain { first, count } => (place < count).then(|| first + place),
            FeatureMap::Heads {
                heads,
                kv_heads,
                head_dim,
                heads_padded,
                lanes,
            } => {
                let (lane, head) = (place / heads_padded, place % heads_padded);
                let (half, l) = (lane / (lanes / 2), lane % (lanes / 2));
                let half_dim = head_dim / 2;
                (head < heads && half < 2 && l < half_dim)
                    .then(|| head / (heads / kv_heads) * head_dim + half * half_dim + l)
            }
        }
    }
}

/// Resolves declared data: the checkpoint for the stages, packed files for the plan.
pub trait DataSource: Sync {
    /// The array `id` of `layer` (ignored unless declared per layer), row-major, as declared.
    fn load(&self, id: DataId, layer: u32) -> Result<Arc<[f64]>, DataError>;

    /// Hands out the same array in order and in pieces, until `each` breaks off. A source that makes its numbers need not hold them
    /// all at once.
    fn pieces(
        &self,
        id: DataId,
        layer: u32,
        each: &mut dyn FnMut(&[f64]) -> ControlFlow<()>,
    ) -> Result<(), DataError> {
        let _broken_off = each(&self.load(id, layer)?);
        Ok(())
    }
}

/// Why data could not be resolved.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum DataError {
    /// The source has no such array.
    #[error("no data named `{name}` for layer {layer}: {remedy}")]
    #[diagnostic(code(slots::missing))]
    Missing {
        /// Declared name.
        name: String,
        /// Layer asked for.
        layer: u32,
        /// What to do.
        remedy: String,
    },
    /// The array has another size than declared.
    #[error("data `{name}` has {found} entries, its declaration says {expected}")]
    #[diagnostic(code(slots::size))]
    Size {
        /// Declared name.
        name: String,
        /// Entries declared.
        expected: usize,
        /// Entries found.
        found: usize,
    },
    /// Reading failed.
    #[error("reading data `{name}`: {cause}")]
    #[diagnostic(code(slots::read))]
    Read {
        /// Declared name.
        name: String,
        /// The cause, in words.
        cause: String,
    },
}
