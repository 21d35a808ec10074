//! The plan: everything the runtime needs, decided once by the compiler and executed as data.
//!
//! A plan is a directory: `plan.ron` ([`Plan`], readable), `server/` (packed weights and tables) and `client/` (tokenizer, and
//! the tables the plan leaves to the client). A client needs `plan.ron` and `client/`, a server `plan.ron` and `server/`.

mod arrays;
mod check;
mod client;
mod error;
mod estimate;
mod keys;
mod pack;
mod prices;
mod program;
mod read;
mod rotations;
mod sheet;
#[cfg(test)]
mod store_tests;
mod uses;
mod weights;
mod write;

pub use check::{MAX_LOG2_FAILURE, check};
pub use client::{ClientPart, Embedding, FileEntry, NoInput, OutputKind, Placement, Wire};
pub use error::PlanError;
pub use estimate::{Approximation, BootstrapCount, Cost, Estimate, SiteRange};
pub use keys::{KeyList, KeyUse};
pub use prices::{Charge, Prices, SUM_CLASS, Section, charges};
pub use program::{Buf, Instr, PlanProgram, PlanTemplate};
pub use read::PlanData;
pub use rotations::rotations;
pub use sheet::TableWriter;
pub use uses::MatrixUse;
pub use weights::Weights;
pub use write::PlanWriter;

use crate::slot::{BootstrapKind, DataId, Tables};
use serde::{Deserialize, Serialize};
use sotto_params::bootstrap::BootstrapSpec;
use sotto_params::{ParamSet, SecurityReport};

/// Version of the plan format; a reader refuses any other.
pub const PLAN_VERSION: u32 = 4;

/// A compiled model. Field order is the reading order of `plan.ron`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// Version of the compiler that wrote it.
    pub compiler: String,
    /// The model.
    pub model: ModelFacts,
    /// What `params` claims about each secret.
    pub security: Security,
    /// What running the plan reveals, and to whom; one sentence each.
    pub disclosures: Vec<String>,
    /// What the client does with the model's edges.
    pub client: ClientPart,
    /// Most tokens one session may hold.
    pub capacity: u32,
    /// What it will cost.
    pub estimate: Estimate,
    /// Evaluation keys to make.
    pub keys: KeyList,
    /// The structure of each bootstrap kind in use, executed as it stands.
    pub bootstraps: Vec<BootstrapSpec>,
    /// Polynomials and what they stand for.
    pub approximations: Vec<Approximation>,
    /// Calibrated ranges.
    pub sites: Vec<SiteRange>,
    /// Whether the search over equivalent programs was exhausted within its budget.
    pub search: SearchNote,
    /// What the search chose, and what it turned down.
    pub decisions: Vec<Decision>,
    /// The parameter set, whole.
    pub params: ParamSet,
    /// The program of one generated token.
    pub decode: PlanProgram,
    /// How a prompt's tokens are taken in blocks, if they can be.
    pub prefill: Option<Prefill>,
    /// Arrays of the server side: every declaration that a program reads, for every layer that has its own; those made of weights only
    /// where the plan has weights.
    pub arrays: Vec<ArrayEntry>,
}

/// How a prompt's tokens are taken in blocks.
///
/// Its program begins with the data declarations and KV states of `decode`, which both share, and leaves those states as `decode`
/// expects them. States of its own serve the later blocks of a prompt, and are gone once a token is decoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prefill {
    /// The vectors of a block's tokens as the client uploads them, side by side. A block that is not full repeats its last token.
    pub input: Wire,
    /// What the client downloads: of the last token, as [`ClientPart::output_kind`] says.
    pub outputs: Vec<Wire>,
    /// What the first block of a prompt costs, if it is full. Keys and peak memory are those of the whole plan.
    pub estimate: Estimate,
    /// Whether its search was exhausted within its budget.
    pub search: SearchNote,
    /// What its search chose, and what it turned down.
    pub decisions: Vec<Decision>,
    /// The program of one block.
    pub program: PlanProgram,
}

impl Plan {
    /// Slots S of one ciphertext.
    pub fn slots(&self) -> u32 {
        self.params.slots() as u32
    }

    /// The tables that the instructions of `decode` name.
    pub fn tables(&self) -> Tables<'_> {
        self.decode.tables(self.slots(), self.capacity)
    }

    /// All programs.
    pub fn programs(&self) -> impl Iterator<Item = &PlanProgram> {
        let prefill = self.prefill.iter().map(|prefill| &prefill.program);
        std::iter::once(&self.decode).chain(prefill)
    }

    /// The program that declares the most: all data and states there are.
    pub fn widest(&self) -> &PlanProgram {
        let prefill = self.prefill.as_ref();
        prefill.map_or(&self.decode, |prefill| &prefill.program)
    }

    /// Bytes of the KV states of one session, at the most: those of prefill come beside decode's until the first token is decoded.
    pub fn session_bytes(&self) -> u64 {
        let prefill = self.prefill.as_ref().map(|p| p.estimate.state_bytes);
        self.estimate.state_bytes.max(prefill.unwrap_or(0))
    }

    /// Most tokens that one run takes.
    pub fn block(&self) -> u32 {
        self.widest().block
    }

    /// The structure of a bootstrap kind, if the plan has it.
    pub fn bootstrap(&self, kind: BootstrapKind) -> Option<&BootstrapSpec> {
        let slots = kind.slots as usize;
        let same = |b: &&BootstrapSpec| (b.slots, b.complex) == (slots, kind.complex);
        self.bootstraps.iter().find(same)
    }
}

/// The model that was compiled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the configuration's own names
pub struct ModelFacts {
    /// Name for people.
    pub name: String,
    /// Digest of the checkpoint; where there is none, of what stands for it.
    pub digest: String,
    /// Where the arrays' numbers come from.
    pub weights: Weights,
    pub hidden: u32,
    pub intermediate: u32,
    pub layers: u32,
    pub heads: u32,
    pub kv_heads: u32,
    pub head_dim: u32,
    pub vocab: u32,
}

/// The security estimate, copied into the plan so that it can be read without tools; readers recompute it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Security {
    /// 128 if every secret stays within its bound, else 0.
    pub bits: u32,
    /// Whether the parameter set is for tests only.
    pub insecure: bool,
    /// Each secret: name, log2 of the modulus its keys live under, log2 of the bound, source of the bound.
    pub secrets: Vec<(String, f64, Option<f64>, String)>,
}

impl Security {
    /// The estimate of a parameter set.
    pub fn of(params: &ParamSet) -> Self {
        let SecurityReport { bits, secrets } = params.security();
        let secret = |s: sotto_params::SecretSecurity| {
            (
                s.secret.into(),
                s.modulus_bits,
                s.bound_bits,
                s.source.into(),
            )
        };
        Self {
            bits,
            insecure: params.insecure,
            secrets: secrets.into_iter().map(secret).collect(),
        }
    }
}

/// Whether equality saturation finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchNote {
    /// Whether no rule could add anything any more.
    pub saturated: bool,
    /// Rounds of rewriting.
    pub iterations: u32,
    /// Nodes of the e-graph at the end.
    pub nodes: u32,
}

/// A choice of the search at one site, with the closest alternatives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Site, `{i}` for the layer.
    pub site: String,
    /// What was chosen, in words.
    pub chosen: String,
    /// What else was weighed, cheapest first; empty where there is no alternative.
    pub rejected: Vec<Rejected>,
}

/// An alternative that was not chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// What it is, in words.
    pub what: String,
    /// Nanoseconds a layer that the best program with it costs more, by the search's prices.
    pub extra_nanos: u64,
}

/// One packed array on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrayEntry {
    /// The declaration it fills.
    pub data: DataId,
    /// The layer, or 0 if all layers share it.
    pub layer: u32,
    /// File, digest and size.
    pub file: FileEntry,
    /// Integer width.
    pub encoding: Encoding,
    /// Entry = integer × scale.
    pub scale: f64,
    /// Largest deviation of a stored entry from the compiler's value.
    pub error: f64,
}

/// Integer width of a packed array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Encoding {
    I8,
    I16,
    I32,
}

impl Encoding {
    /// Bytes of one entry.
    pub fn bytes(self) -> u64 {
        match self {
            Encoding::I8 => 1,
            Encoding::I16 => 2,
            Encoding::I32 => 4,
        }
    }

    /// Largest integer; the smallest is its negative.
    pub fn limit(self) -> f64 {
        match self {
            Encoding::I8 => f64::from(i8::MAX),
            Encoding::I16 => f64::from(i16::MAX),
            Encoding::I32 => f64::from(i32::MAX),
        }
    }
}
