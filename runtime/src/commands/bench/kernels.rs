//! What an engine's card does, kernel by kernel, held against what the card can do at best.

use serde::Serialize;
use sotto_ckks::engine::{Cpu, Engine};
use sotto_gpu::{Device, Gpu, KernelFigure, Rates};

/// Words that are copied to measure how fast a card copies, and rounds of multiplications to measure how fast it multiplies: more than its
/// caches hold, 512 MiB, and some milliseconds.
const EFFORT: (usize, u32) = (1 << 27, 1 << 11);
/// The same for tests, whose card is a processor.
const LITTLE_EFFORT: (usize, u32) = (1 << 20, 1 << 4);
/// Share of what the card can do from which on that is what limits a kernel.
const LIMIT: f64 = 0.6;
/// Kernels that people are shown of a row.
const SHOWN: usize = 4;

/// An engine that may launch kernels.
pub(super) trait Launches: Engine {
    /// What a piece of work launches, by kernel, those first that take longest; nothing where there are no kernels. Launches that are to
    /// be `lined_up` wait for a busy card first.
    fn launches<T>(&self, lined_up: bool, work: impl FnOnce() -> T) -> (T, Vec<KernelFigure>);
    /// What its card can do at best, if it has one: of so many words, and in so many rounds.
    fn rates(&self, effort: (usize, u32)) -> Option<Rates>;
}

impl Launches for Cpu {
    fn launches<T>(&self, _lined_up: bool, work: impl FnOnce() -> T) -> (T, Vec<KernelFigure>) {
        (work(), Vec::new())
    }

    fn rates(&self, _effort: (usize, u32)) -> Option<Rates> {
        None
    }
}

impl<D: Device> Launches for Gpu<D> {
    fn launches<T>(&self, lined_up: bool, work: impl FnOnce() -> T) -> (T, Vec<KernelFigure>) {
        self.profile(lined_up, work)
    }

    fn rates(&self, (words, rounds): (usize, u32)) -> Option<Rates> {
        Some(Gpu::rates(self, words, rounds))
    }
}

/// What a card can do at best.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Card {
    /// By copying.
    bytes_per_second: f64,
    /// Of 32-bit words, in chains of Montgomery products.
    products_per_second: f64,
}

impl Card {
    /// The card of an engine, looked at briefly where it serves a test.
    pub(super) fn of(engine: &impl Launches, briefly: bool) -> Option<Self> {
        let effort = if briefly { LITTLE_EFFORT } else { EFFORT };
        engine.rates(effort).map(|rates| Self {
            bytes_per_second: rates.bytes,
            products_per_second: rates.products,
        })
    }
}

/// What keeps a kernel from being faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Limit {
    Memory,
    Multiplication,
    /// Launches, latency, other instructions.
    Neither,
}

/// All launches of a kernel in one run of what a row measures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct KernelRow {
    kernel: &'static str,
    launches: u64,
    seconds: f64,
    bytes: u64,
    products: u64,
    /// Bytes a second, as a share of what copying reaches.
    of_bandwidth: f64,
    /// Products a second, as a share of what chains of them reach.
    of_products: f64,
    limit: Limit,
}

impl KernelRow {
    fn new(figure: &KernelFigure, card: &Card) -> Self {
        let seconds = figure.seconds.max(f64::MIN_POSITIVE);
        let share = |done: u64, best: f64| done as f64 / seconds / best;
        let of_bandwidth = share(figure.work.bytes, card.bytes_per_second);
        let of_products = share(figure.work.products, card.products_per_second);
        Self {
            kernel: figure.kernel.name(),
            launches: figure.launches,
            seconds: figure.seconds,
            bytes: figure.work.bytes,
            products: figure.work.products,
            of_bandwidth,
            of_products,
            limit: match of_bandwidth.max(of_products) {
                most if most < LIMIT => Limit::Neither,
                most if most == of_bandwidth => Limit::Memory,
                _ => Limit::Multiplication,
            },
        }
    }
}

/// The rows of one piece of work.
pub(super) fn rows(figures: &[KernelFigure], card: &Card) -> Vec<KernelRow> {
    figures.iter().map(|f| KernelRow::new(f, card)).collect()
}

/// The kernels that take most of a row's time, for people.
pub(super) fn page(rows: &[KernelRow]) -> String {
    let total: f64 = rows.iter().map(|row| row.seconds).sum();
    let line = |row: &KernelRow| {
        format!(
            "  {:<22} {:>6} launches {:>9.3} ms {:>5.1} %  {:>5.1} % of bandwidth {:>5.1} % of products\n",
            row.kernel,
            row.launches,
            row.seconds * 1e3,
            100.0 * row.seconds / total.max(f64::MIN_POSITIVE),
            100.0 * row.of_bandwidth,
            100.0 * row.of_products,
        )
    };
    rows.iter().take(SHOWN).map(line).collect()
}

/// What the card can do, for people.
pub(super) fn card_line(card: &Card) -> String {
    format!(
        "the card copies {:.0} GB/s and multiplies {:.2} T words/s; kernels of one run of each row, those that take longest:\n",
        card.bytes_per_second / 1e9,
        card.products_per_second / 1e12
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use sotto_gpu::{Kernel, Work};

    #[test]
    fn a_kernel_is_limited_by_what_it_uses_most_of() {
        let card = Card {
            bytes_per_second: 1e9,
            products_per_second: 1e12,
        };
        let limit = |bytes, products| {
            let figure = KernelFigure {
                kernel: Kernel::Add,
                launches: 1,
                seconds: 1e-3,
                work: Work { bytes, products },
            };
            KernelRow::new(&figure, &card).limit
        };
        assert_eq!(limit(900_000, 100_000_000), Limit::Memory);
        assert_eq!(limit(300_000, 800_000_000), Limit::Multiplication);
        assert_eq!(limit(300_000, 300_000_000), Limit::Neither);
        assert_eq!(limit(0, 0), Limit::Neither);
    }
}
