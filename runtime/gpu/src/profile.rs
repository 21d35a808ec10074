//! What a card did, kernel by kernel, and what it can do at best.

use crate::args::Chain;
use crate::device::{Device, Kernel, THREADS};
use crate::engine::Gpu;
use crate::work::Work;
use bytemuck::Zeroable;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Limbs that one launch copies where the rate of copying is measured.
const COPIED: usize = 32;

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
    pub fn profile<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<KernelFigure>) {
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
            figure.seconds += self.device().seconds(from, to).unwrap_or(0.0);
            figure.work += launch.work;
        }
        let mut figures: Vec<KernelFigure> = by_kernel.into_values().collect();
        figures.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        (result, figures)
    }

    /// What the card reaches: copying `words` words, and in `rounds` rounds of squarings on every thread that it holds. A card's caches
    /// and clocks want 2^27 and 2^11.
    pub fn rates(&self, words: usize, rounds: u32) -> Rates {
        let rate = |figures: &[KernelFigure], of: fn(&Work) -> u64| {
            let (done, seconds) = figures
                .iter()
                .fold((0, 0.0), |(d, s), f| (d + of(&f.work), s + f.seconds));
            done as f64 / seconds.max(f64::MIN_POSITIVE)
        };
        let (_, copies) = self.profile(|| self.copy_over(words));
        let (_, chains) = self.profile(|| self.multiply_chains(1 << 12, rounds));
        Rates {
            bytes: rate(&copies, |work| work.bytes),
            products: rate(&chains, |work| work.products),
        }
    }

    /// Copies from one half of `words` words to the other.
    fn copy_over(&self, words: usize) {
        let pieces = (words / 2 / (COPIED << self.log_n())).max(1);
        let [from, to] = [(); 2].map(|()| self.alloc_limbs(pieces * COPIED));
        let primes = [0; COPIED];
        for piece in 0..pieces {
            let mut args = self.map(self.limb_address(&to, piece * COPIED), &primes);
            args.a = self.limb_address(&from, piece * COPIED);
            self.launch(Kernel::Copy, self.each_word(COPIED), &args);
        }
    }

    /// Runs the chains of `blocks` blocks; their sums.
    pub fn multiply_chains(&self, blocks: u32, rounds: u32) -> Vec<u32> {
        let mut sums = vec![0; (blocks * THREADS) as usize];
        let out = self.device().alloc(sums.len());
        let mut args = Chain::zeroed();
        args.out = self.address(&out);
        args.primes = self.address(&self.resident().primes);
        args.rounds = rounds;
        self.launch(Kernel::MultiplyChain, [blocks, 1, 1], &args);
        self.device().read(&out, &mut sums);
        sums
    }

    /// Seconds of one forward transform: its share of a batch of limbs, averaged over so many batches.
    pub(crate) fn transform_seconds(&self, batches: u32) -> f64 {
        let count = COPIED.min(self.resident().moduli.len());
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
