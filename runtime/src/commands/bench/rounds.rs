//! Times beside the yardstick, and what both benches measure with.

use sotto_ckks::{Complex64, Result, Yardstick};
use std::cell::RefCell;
use std::hint::black_box;
use std::time::Instant;

/// Transforms that one look at the yardstick averages.
const LOOK: u32 = 16;

/// Seconds of an operation whose median no passing disturbance moves.
const ENOUGH: f64 = 0.05;
/// Runs for each that was asked for, at most.
const MOST_REPEATS: usize = 8;

/// Times operations, and looks at the yardstick before each.
pub(super) struct Timer {
    yardstick: RefCell<Yardstick>,
    /// Every look at the yardstick, in seconds.
    looks: RefCell<Vec<f64>>,
}

impl Timer {
    /// Times beside an engine's yardstick.
    pub(super) fn new(yardstick: Yardstick) -> Self {
        Self {
            yardstick: RefCell::new(yardstick),
            looks: RefCell::default(),
        }
    }

    /// Seconds of the yardstick now.
    pub(super) fn look(&self) -> f64 {
        let look = self.yardstick.borrow_mut().seconds(LOOK);
        self.looks.borrow_mut().push(look);
        look
    }

    /// Seconds of the yardstick, over all looks so far.
    pub(super) fn yardstick(&self) -> f64 {
        median(self.looks.borrow().clone())
    }

    /// Seconds of so many runs of `case`, after one to warm caches and buffers.
    pub(super) fn times<T>(&self, runs: usize, case: impl Fn() -> Result<T>) -> Result<Vec<f64>> {
        let pairs = self.beside(runs, case)?;
        Ok(pairs.into_iter().map(|(seconds, _)| seconds).collect())
    }

    /// Median time of `case` in yardsticks of the same moment.
    pub(super) fn sticks<T>(&self, runs: usize, case: impl Fn() -> Result<T>) -> Result<f64> {
        let pairs = self.beside(runs, case)?;
        Ok(median(
            pairs
                .into_iter()
                .map(|(seconds, look)| seconds / look)
                .collect(),
        ))
    }

    /// Each run's seconds with the yardstick's just before. What takes next to no time is run more often than asked.
    fn beside<T>(&self, runs: usize, case: impl Fn() -> Result<T>) -> Result<Vec<(f64, f64)>> {
        black_box(case()?);
        let mut times = Vec::with_capacity(runs);
        let mut spent = 0.0;
        while times.len() < runs || (spent < ENOUGH && times.len() < runs * MOST_REPEATS) {
            let look = self.look();
            let started = Instant::now();
            black_box(case()?);
            let seconds = started.elapsed().as_secs_f64();
            spent += seconds;
            times.push((seconds, look));
        }
        Ok(times)
    }
}

/// The middle one; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Slots of no particular pattern, always the same.
pub(super) fn values(n: usize) -> Vec<Complex64> {
    (0..n)
        .map(|i| Complex64::new((i as f64).sin(), (i as f64 * 0.7).cos()) * 0.5)
        .collect()
}
