//! What a card did, kernel by kernel, and what it can do at best.

use crate::args::{Chain, MOST_LIMBS};
use crate::device::{Device, Kernel, THREADS};
use crate::engine::Gpu;
use crate::work::Work;
use bytemuck::Zeroable;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Limbs that one launch copies where the rate of copying is measured.
const COPIED: usize = 64;
/// Blocks of one launch of chains: more than a card holds at a time.
const BLOCKS: u32 = 1 << 12;
/// Launches of chains that are timed.
const CHAINED: usize = 4;
/// Rounds of chains that keep a card busy while launches are lined up behind them: some milliseconds.
const BUSY: u32 = 1 << 12;

/// A launch, between two moments.
struct Launch<D: Device> {
    kernel: Kernel,
    work: Work,
    moments: [D::Mark; 2],
}

/// Launches that are being listened to, if any are.
pub(crate) struct Profile<D: Device>(Mutex<Option<Vec<Launch<D>>>>);

impl<D: Device> Default for Profile<D> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<D: Device> Profile<D> {
    /// Carries out a launch, and writes it down if somebody listens.
    pub(crate) fn around(
        &self,
        device: &D,
        what: impl FnOnce() -> (Kernel, Work),
        launch: impl FnOnce(),
    ) {
        let mut listening = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(launches) = &mut *listening else {
            drop(listening);
            return launch();
        };
        let (kernel, work) = what();
        let before = device.mark();
        launch();
        launches.push(Launch {
            kernel,
            work,
            moments: [before, device.mark()],
        });
    }

    fn exchange(&self, with: Option<Vec<Launch<D>>>) -> Option<Vec<Launch<D>>> {
        let mut listening = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut listening, with)
    }
}

/// All launches of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct KernelFigure {
    /// Which.
    pub kernel: Kernel,
    /// How many.
    pub launches: u64,
    /// Their seconds together.
    pub seconds: f64,
    /// What they did together.
    pub work: Work,
}

/// What a card reaches where nothing else is in the way.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Bytes read and written a second, by copying.
    pub bytes: f64,
    /// Multiplications of 32-bit words a second, in chains of Montgomery products.
    pub products: f64,
}

impl<D: Device> Gpu<D> {
    /// What a piece of work launches, by kernel, those first that take longest. Other threads' launches are counted in.
    ///
    /// What a moment itself takes is taken off. Where launches come more slowly than kernels run, their times have that in them: to be
    /// `lined_up`, they wait for a card that is busy for some milliseconds first, as many as its driver takes.
    pub fn profile<T>(&self, lined_up: bool, work: impl FnOnce() -> T) -> (T, Vec<KernelFigure>) {
        let line_up = || {
            if lined_up {
                self.launch_chains(BLOCKS, BUSY);
            }
        };
        line_up();
        let idle = self.idle_seconds();
        line_up();
        self.listener().exchange(Some(Vec::new()));
        let result = work();
        let launches = self.listener().exchange(None).unwrap_or_default();
        let mut by_kernel: BTreeMap<Kernel, KernelFigure> = BTreeMap::new();
        for launch in launches {
            let [from, to] = &launch.moments;
            let kernel = launch.kernel;
            let figure = by_kernel.entry(kernel).or_insert(KernelFigure {
                kernel,
                launches: 0,
                seconds: 0.0,
                work: Work::default(),
            });
            figure.launches += 1;
            let seconds = self.device().seconds(from, to).unwrap_or(0.0);
            figure.seconds += (seconds - idle).max(0.0);
            figure.work += launch.work;
        }
        let mut figures: Vec<KernelFigure> = by_kernel.into_values().collect();
        figures.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        (result, figures)
    }

    /// Seconds between two moments with nothing in between, behind what was launched so far: the least of some.
    fn idle_seconds(&self) -> f64 {
        let marks: Vec<D::Mark> = (0..9).map(|_| self.device().mark()).collect();
        let gaps = marks
            .windows(2)
            .filter_map(|pair| self.device().seconds(&pair[0], &pair[1]));
        let least = gaps.fold(f64::INFINITY, f64::min);
        if least.is_finite() { least } else { 0.0 }
    }

    /// What the card reaches: copying `words` words, and in `rounds` rounds of squarings on every thread that it holds. A card's caches
    /// and clocks want 2^27 and 2^11. Each is done once before it is timed, between two moments with nothing else in between.
    pub fn rates(&self, words: usize, rounds: u32) -> Rates {
        let [from, to] = self.halves(words);
        let bytes = self.rate(|| self.copy_over(words, &from, &to), |work| work.bytes);
        let chains = || {
            for _ in 0..CHAINED {
                self.launch_chains(BLOCKS, rounds);
            }
        };
        Rates {
            bytes,
            products: self.rate(chains, |work| work.products),
        }
    }

    /// Work a second of some launches.
    fn rate(&self, launches: impl Fn(), of: fn(&Work) -> u64) -> f64 {
        // once to warm up and to count, and once to time
        let ((), figures) = self.profile(false, &launches);
        let before = self.device().mark();
        launches();
        let seconds = self.device().seconds(&before, &self.device().mark());
        let done: u64 = figures.iter().map(|figure| of(&figure.work)).sum();
        done as f64 / seconds.unwrap_or(f64::INFINITY).max(f64::MIN_POSITIVE)
    }

    /// Limbs of one half of `words` words, in whole copies.
    fn copies(&self, words: usize) -> usize {
        (words / 2 / (COPIED << self.log_n())).max(1)
    }

    /// Two halves of `words` words.
    fn halves(&self, words: usize) -> [D::Memory; 2] {
        [(); 2].map(|()| self.alloc_limbs(self.copies(words) * COPIED))
    }

    /// Copies from one half to the other.
    fn copy_over(&self, words: usize, from: &D::Memory, to: &D::Memory) {
        let primes = [0; COPIED];
        for piece in 0..self.copies(words) {
            let mut args = self.map(self.limb_address(to, piece * COPIED), &primes);
            args.a = self.limb_address(from, piece * COPIED);
            self.launch(Kernel::Copy, self.each_word(COPIED), &args);
        }
    }

    /// Launches chains of multiplications; where their sums are.
    fn launch_chains(&self, blocks: u32, rounds: u32) -> D::Memory {
        let out = self.device().alloc((blocks * THREADS) as usize);
        let mut args = Chain::zeroed();
        args.out = self.address(&out);
        args.primes = self.address(&self.resident().primes);
        args.rounds = rounds;
        self.launch(Kernel::MultiplyChain, [blocks, 1, 1], &args);
        out
    }

    /// Runs chains of multiplications on so many blocks; their sums.
    pub fn multiply_chains(&self, blocks: u32, rounds: u32) -> Vec<u32> {
        let mut sums = vec![0; (blocks * THREADS) as usize];
        self.device()
            .read(&self.launch_chains(blocks, rounds), &mut sums);
        sums
    }

    /// Seconds of one forward transform: its share of a batch of limbs, averaged over so many batches.
    pub(crate) fn transform_seconds(&self, batches: u32) -> f64 {
        let count = MOST_LIMBS.min(self.resident().moduli.len());
        let primes: Vec<u16> = (0..count as u16).collect();
        let memory = self.alloc_limbs(count);
        self.device()
            .write(&memory, &vec![1; count << self.log_n()]);
        let from = self.device().mark();
        (0..batches).for_each(|_| self.forward(&memory, &primes));
        let seconds = self.device().seconds(&from, &self.device().mark());
        seconds.unwrap_or(0.0) / f64::from(batches.max(1)) / count as f64
    }
}
