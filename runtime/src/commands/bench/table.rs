//! The engine's table: its rows, and how they are printed.

use super::kernels::{self, Card, KernelRow};
use crate::process::peak_memory;
use serde::Serialize;
use sotto_ir::params::ParamSet;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Row {
    /// A bootstrap of all slots, complex.
    DenseBootstrap,
    /// A bootstrap of 4,096 complex slots.
    #[value(name = "sparse-bootstrap-4096")]
    #[serde(rename = "sparse-bootstrap-4096")]
    Sparse4096,
    /// A bootstrap of 512 complex slots.
    #[value(name = "sparse-bootstrap-512")]
    #[serde(rename = "sparse-bootstrap-512")]
    Sparse512,
    /// All keys of a dense bootstrap, and its plaintexts.
    Keygen,
    /// One rotation.
    Rotate,
    /// Eight rotations of one ciphertext.
    #[value(name = "rotate-hoisted-8")]
    #[serde(rename = "rotate-hoisted-8")]
    RotateHoisted,
    /// A product of ciphertexts, relinearised.
    Multiply,
    /// A product with a plaintext, operands not in the cache.
    MultiplyPlain,
    /// A diagonal's share of a matrix, the matrix kept as small as the engine has it.
    DiagonalCompact,
    /// Down one level.
    Rescale,
    /// Slots to a plaintext.
    Encode,
}

impl Row {
    /// Slots of a bootstrap, or of the keys' bootstrap, on a ring of `most`.
    pub(super) fn slots(self, most: usize) -> Option<usize> {
        match self {
            Row::DenseBootstrap | Row::Keygen => Some(most),
            Row::Sparse4096 => Some(most.min(4096)),
            Row::Sparse512 => Some(most.min(512)),
            _ => None,
        }
    }

    pub(super) fn name(self) -> String {
        let value = clap::ValueEnum::to_possible_value(&self);
        value.map_or(String::new(), |value| value.get_name().into())
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figure {
    pub(super) row: Row,
    pub(super) log_q: f64,
    pub(super) slots: usize,
    pub(super) seconds_median: f64,
    pub(super) seconds_min: f64,
    pub(super) seconds_max: f64,
    pub(super) precision_bits_mean: Option<f64>,
    pub(super) precision_bits_worst: Option<f64>,
    pub(super) bits_left: Option<f64>,
    pub(super) bytes: u64,
    /// Of a card: what one run launches, of products with plaintexts all 24 (`COLD`), of a diagonal's share the whole matrix of 64.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) kernels: Vec<KernelRow>,
}

/// The table.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    /// What computed.
    pub(super) engine: String,
    /// Whether bootstraps have few keys.
    pub(super) low_memory: bool,
    pub(super) yardstick_ntt_ms: f64,
    pub(super) threads: usize,
    pub(super) set: String,
    /// What the card can do at best, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) card: Option<Card>,
    pub(super) rows: Vec<Figure>,
}

/// The table for people.
pub(super) fn page(table: &Table, params: &ParamSet) -> String {
    let mut page = format!(
        "{} on {}: N = 2^{}, log QP = {:.0}, {} levels for programs, {} threads, yardstick {:.4} ms\n{:<24} {:>6} {:>6} {:>10} {:>10} {:>10}  {:>9} {:>6} {:>9} {:>9}\n",
        table.set,
        match table.low_memory {
            true => format!("{}, few keys", table.engine),
            false => table.engine.clone(),
        },
        params.log_n,
        params.log_qp(),
        params.top_app_level(),
        table.threads,
        table.yardstick_ntt_ms,
        "",
        "log Q",
        "slots",
        "median ms",
        "min",
        "max",
        "mean bits",
        "worst",
        "bits left",
        "MiB"
    );
    for f in &table.rows {
        let ms = |seconds: f64| format!("{:.3}", seconds * 1e3);
        let bits = |bits: Option<f64>| bits.map_or(String::new(), |bits| format!("{bits:.1}"));
        page += &format!(
            "{:<24} {:>6.0} {:>6} {:>10} {:>10} {:>10}  {:>9} {:>6} {:>9} {:>9.1}\n",
            f.row.name(),
            f.log_q,
            f.slots,
            ms(f.seconds_median),
            ms(f.seconds_min),
            ms(f.seconds_max),
            bits(f.precision_bits_mean),
            bits(f.precision_bits_worst),
            bits(f.bits_left),
            f.bytes as f64 / f64::from(1 << 20)
        );
    }
    if let Some(card) = &table.card {
        page += &kernels::card_line(card);
        for f in &table.rows {
            page += &format!(
                "{} at log Q = {:.0}\n{}",
                f.row.name(),
                f.log_q,
                kernels::page(&f.kernels)
            );
        }
    }
    if let Some(bytes) = peak_memory(std::process::id()) {
        page += &format!(
            "peak memory {:.2} GiB\n",
            bytes as f64 / f64::from(1u32 << 30)
        );
    }
    page
}
