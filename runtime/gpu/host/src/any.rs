//! The device that tests run on: the processor, or a card where the environment names one.

use crate::{Host, Memory};
use sotto_gpu::{Cuda, Device, Kernel, Moment, Piece, Pinned};
use std::time::Instant;

/// The processor in place of a GPU, or a GPU.
#[derive(Clone, Debug)]
pub enum Any {
    /// The processor.
    Host(Host),
    /// A card.
    Cuda(Cuda),
}

impl Any {
    /// The card whose number is in the environment as SOTTO_CARD; without that the processor.
    ///
    /// # Panics
    /// If there is no such card: whoever names one wants it tested.
    pub fn chosen() -> Self {
        match std::env::var("SOTTO_CARD") {
            Ok(number) => {
                let number = number.parse().expect("SOTTO_CARD is a number");
                Self::Cuda(Cuda::open(number).expect("the card that SOTTO_CARD names"))
            }
            Err(_) => Self::Host(Host),
        }
    }
}

/// Memory of either.
#[derive(Debug)]
pub enum AnyMemory {
    /// The processor's.
    Host(Memory),
    /// A card's.
    Cuda(Piece),
}

/// Words beside either.
#[derive(Debug)]
pub enum AnyBeside {
    /// Beside the processor.
    Host(Vec<u32>),
    /// Beside a card.
    Cuda(Pinned),
}

/// A moment of either.
#[derive(Debug)]
pub enum AnyMark {
    /// The processor's.
    Host(Instant),
    /// A card's.
    Cuda(Moment),
}

/// What memory, words or a moment of one device is to the other.
const FOREIGN: &str = "memory, words and moments of the device that gave them";

impl Device for Any {
    type Memory = AnyMemory;
    type Beside = AnyBeside;
    type Mark = AnyMark;

    fn name(&self) -> String {
        match self {
            Self::Host(host) => host.name(),
            Self::Cuda(cuda) => cuda.name(),
        }
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Host(host) => host.check(),
            Self::Cuda(cuda) => cuda.check(),
        }
    }

    fn alloc(&self, words: usize) -> AnyMemory {
        match self {
            Self::Host(host) => AnyMemory::Host(host.alloc(words)),
            Self::Cuda(cuda) => AnyMemory::Cuda(cuda.alloc(words)),
        }
    }

    fn address(&self, memory: &AnyMemory) -> u64 {
        match (self, memory) {
            (Self::Host(host), AnyMemory::Host(memory)) => host.address(memory),
            (Self::Cuda(cuda), AnyMemory::Cuda(memory)) => cuda.address(memory),
            _ => panic!("{FOREIGN}"),
        }
    }

    fn write(&self, memory: &AnyMemory, words: &[u32]) {
        match (self, memory) {
            (Self::Host(host), AnyMemory::Host(memory)) => host.write(memory, words),
            (Self::Cuda(cuda), AnyMemory::Cuda(memory)) => cuda.write(memory, words),
            _ => panic!("{FOREIGN}"),
        }
    }

    fn wait(&self) {
        match self {
            Self::Host(host) => host.wait(),
            Self::Cuda(cuda) => cuda.wait(),
        }
    }

    fn mark(&self) -> AnyMark {
        match self {
            Self::Host(host) => AnyMark::Host(host.mark()),
            Self::Cuda(cuda) => AnyMark::Cuda(cuda.mark()),
        }
    }

    fn seconds(&self, from: &AnyMark, to: &AnyMark) -> Option<f64> {
        match (self, from, to) {
            (Self::Host(host), AnyMark::Host(from), AnyMark::Host(to)) => host.seconds(from, to),
            (Self::Cuda(cuda), AnyMark::Cuda(from), AnyMark::Cuda(to)) => cuda.seconds(from, to),
            _ => panic!("{FOREIGN}"),
        }
    }

    fn read(&self, memory: &AnyMemory, words: &mut [u32]) {
        match (self, memory) {
            (Self::Host(host), AnyMemory::Host(memory)) => host.read(memory, words),
            (Self::Cuda(cuda), AnyMemory::Cuda(memory)) => cuda.read(memory, words),
            _ => panic!("{FOREIGN}"),
        }
    }

    fn set_beside(&self, words: &[u32]) -> AnyBeside {
        match self {
            Self::Host(host) => AnyBeside::Host(host.set_beside(words)),
            Self::Cuda(cuda) => AnyBeside::Cuda(cuda.set_beside(words)),
        }
    }

    fn put_beside(&self, memory: &AnyMemory, words: usize) -> AnyBeside {
        match (self, memory) {
            (Self::Host(host), AnyMemory::Host(memory)) => {
                AnyBeside::Host(host.put_beside(memory, words))
            }
            (Self::Cuda(cuda), AnyMemory::Cuda(memory)) => {
                AnyBeside::Cuda(cuda.put_beside(memory, words))
            }
            _ => panic!("{FOREIGN}"),
        }
    }

    fn fetch(&self, beside: &[&AnyBeside]) -> AnyMemory {
        match self {
            Self::Host(host) => {
                let own = |words: &&'_ AnyBeside| match words {
                    AnyBeside::Host(words) => words.clone(),
                    AnyBeside::Cuda(_) => panic!("{FOREIGN}"),
                };
                let words: Vec<Vec<u32>> = beside.iter().map(own).collect();
                AnyMemory::Host(host.fetch(&words.iter().collect::<Vec<_>>()))
            }
            Self::Cuda(cuda) => {
                let mut own = Vec::new();
                for words in beside {
                    match words {
                        AnyBeside::Cuda(words) => own.push(words),
                        AnyBeside::Host(_) => panic!("{FOREIGN}"),
                    }
                }
                AnyMemory::Cuda(cuda.fetch(&own))
            }
        }
    }

    unsafe fn launch(&self, kernel: Kernel, grid: [u32; 3], threads: u32, args: &[u8]) {
        // SAFETY: as the caller says.
        unsafe {
            match self {
                Self::Host(host) => host.launch(kernel, grid, threads, args),
                Self::Cuda(cuda) => cuda.launch(kernel, grid, threads, args),
            }
        }
    }
}
