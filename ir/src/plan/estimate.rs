//! What the compiler predicts and what it measured on calibration data.

use super::Prices;
use crate::slot::BootstrapKind;
use serde::{Deserialize, Serialize};

/// Predicted cost of one token at the position where the KV state is half full.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Seconds per token, the sum of the sites.
    pub seconds: f64,
    /// Name of the cost table that predicted it.
    pub cost_table: String,
    /// Its digest.
    pub cost_table_digest: String,
    /// Seconds of one transform of 2^16 points when the table was measured: what a measured time is normalized by.
    pub yardstick_seconds: f64,
    /// Threads that the table holds for.
    pub threads: u32,
    /// Per op class (`bootstrap`, `linear`, `poly`, `rotate`, …), all layers together, dearest first.
    pub op_classes: Vec<Cost>,
    /// Per site (`layers.{i}.mlp.up_proj`), all layers together, in program order.
    pub sites: Vec<Cost>,
    /// Bootstraps per token.
    pub bootstraps: Vec<BootstrapCount>,
    /// Most ciphertexts alive at once, KV state not counted.
    pub peak_ciphertexts: u32,
    /// Bytes of all evaluation keys in memory.
    pub key_bytes: u64,
    /// Bytes of all plaintexts that depend on no position, encoded; of a plan with two programs, of both.
    pub plaintext_bytes: u64,
    /// Bytes of the KV state at capacity.
    pub state_bytes: u64,
    /// Peak memory of the server: keys, live ciphertexts, KV state, and the least plaintext cache.
    pub peak_memory_bytes: u64,
    /// What every instruction costs, by template of the program; everything above that is counted in seconds is their sum. Empty
    /// where nothing was priced.
    pub prices: Vec<Prices>,
}

/// Seconds of one op class or site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Which.
    pub name: String,
    /// How many instructions per token.
    pub count: u32,
    /// Seconds per token.
    pub seconds: f64,
}

/// How often one kind of bootstrap runs per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapCount {
    /// The kind.
    pub kind: BootstrapKind,
    /// Times per token.
    pub count: u32,
}

/// The range of a site over the calibration data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SiteRange {
    /// Site, `{i}` for the layer.
    pub site: String,
    /// Layers the range was taken over, first and count.
    pub layers: (u32, u32),
    /// Smallest and largest real-world value seen.
    pub seen: (f64, f64),
    /// Bound the plan relies on: what was seen, widened by the stated margin.
    pub bound: (f64, f64),
}

/// A polynomial that stands for a function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Approximation {
    /// Site.
    pub site: String,
    /// Function in words: `exp`, `silu`, `1/sqrt`.
    pub function: String,
    /// Real-world interval it was fitted on.
    pub interval: (f64, f64),
    /// Degree.
    pub degree: u32,
    /// Largest absolute error on the interval, in real-world units.
    pub error: f64,
}
