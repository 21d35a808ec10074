//! The plaintexts that rotated ciphertexts are multiplied with: ready, or by their coefficients.
//!
//! A model's matrices are gigabytes when they are ready to be multiplied with: every coefficient modulo every prime of QP. By their
//! coefficients they are about a tenth of that, and lie on the card, or beside it where even that is too much; what a sum needs is fetched
//! and expanded just before, some limbs at a time. A plan asks for matrices in an order that never changes and launches run ahead of the
//! card, so fetching is ahead of use as far as the device gives room for it.

use crate::args::{MOST_GIANTS, MOST_POLYS};
use crate::device::Device;
use crate::engine::Gpu;
use crate::poly::{Diagonal, GpuDiagonal};
use crate::tables::resident;
use bytemuck::cast_slice;
use sotto_ckks::engine::Giant;
use std::collections::{BTreeMap, BTreeSet};

/// Diagonals that are expanded at a time.
const EXPANDED: usize = 64;

/// A diagonal of a tile: which of its rotated ciphertexts and giant steps, and where it lies.
pub(crate) struct Entry {
    baby: usize,
    giant: usize,
    address: u64,
    form: Form,
}

/// What a diagonal's words are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Limbs, each word for a run of 2^this.
    Ready(u32),
    /// Coefficients in X^(2^this).
    Compact(u32),
}

/// The diagonals of one launch, for up to B rotated ciphertexts; what was expanded for it is held.
pub(crate) struct Operands<D: Device, const B: usize> {
    /// Which rotated ciphertexts it takes.
    pub babies: Vec<usize>,
    /// Per rotated ciphertext and giant step where the diagonal begins, 0 for none.
    pub diagonal: [[u64; MOST_GIANTS]; B],
    /// Each word stands for a run of 2^this.
    pub run: u32,
    /// The limb that the launch begins with.
    pub start: u32,
    _room: Option<D::Memory>,
}

/// The diagonals of a transform, all of them on the device.
pub(crate) struct Diagonals<D: Device> {
    /// Per giant step.
    pub giants: Vec<Vec<Entry>>,
    /// What was fetched for it.
    _fetched: Option<D::Memory>,
    /// Most that are expanded at a time.
    pub expanded: usize,
}

impl<D: Device> Gpu<D> {
    /// A plaintext by its coefficients.
    pub(crate) fn compact(&self, coefficients: &[i64]) -> GpuDiagonal<D> {
        let words: &[u32] = cast_slice(coefficients);
        GpuDiagonal(Diagonal::Compact {
            memory: resident(self.device(), words),
            words: words.len(),
            gap: self.gap(coefficients),
        })
    }

    /// The same beside the device.
    pub(crate) fn compact_beside(&self, coefficients: &[i64]) -> GpuDiagonal<D> {
        GpuDiagonal(Diagonal::Beside {
            words: self.device().set_beside(cast_slice(coefficients)),
            gap: self.gap(coefficients),
        })
    }

    /// log2 of how far apart in a polynomial these coefficients are.
    fn gap(&self, coefficients: &[i64]) -> u32 {
        self.log_n() - coefficients.len().trailing_zeros()
    }

    /// The diagonals of all giant steps, those from beside the device fetched.
    pub(crate) fn diagonals(&self, giants: &[Giant<Self>]) -> Diagonals<D> {
        let mut beside = Vec::new();
        for (_, diagonal) in giants.iter().flatten() {
            if let Diagonal::Beside { words, .. } = &diagonal.0 {
                beside.push(words);
            }
        }
        let fetched = (!beside.is_empty()).then(|| self.device().fetch(&beside));
        let mut next = fetched.as_ref().map_or(0, |memory| self.address(memory));
        let mut entry = |giant: usize, (baby, diagonal): &(usize, GpuDiagonal<D>)| {
            let (address, form) = match &diagonal.0 {
                Diagonal::Ready { memory, run, .. } => (self.address(memory), Form::Ready(*run)),
                Diagonal::Compact { memory, gap, .. } => {
                    (self.address(memory), Form::Compact(*gap))
                }
                Diagonal::Beside { gap, .. } => {
                    let address = next;
                    let coefficients = 1u64 << (self.log_n() - gap);
                    next += coefficients * size_of::<u64>() as u64;
                    (address, Form::Compact(*gap))
                }
            };
            Entry {
                baby: *baby,
                giant: giant % MOST_GIANTS,
                address,
                form,
            }
        };
        let of = |(number, giant): (usize, &Giant<Self>)| -> Vec<Entry> {
            giant.iter().map(|one| entry(number, one)).collect()
        };
        let giants: Vec<Vec<Entry>> = giants.iter().enumerate().map(of).collect();
        let small = |e: &&Entry| matches!(e.form, Form::Compact(_));
        let expanded = giants.iter().flatten().filter(small).count();
        Diagonals {
            giants,
            _fetched: fetched,
            expanded: expanded.min(EXPANDED),
        }
    }

    /// The diagonals of a tile, from some limb on, as a sum of products takes them.
    pub(crate) fn operands<const B: usize>(
        &self,
        primes: &[u16],
        first: usize,
        tile: &[&Entry],
    ) -> Operands<D, B> {
        let form = tile.first().map_or(Form::Ready(0), |entry| entry.form);
        let (room, addresses) = match form {
            Form::Ready(_) => (None, tile.iter().map(|entry| entry.address).collect()),
            Form::Compact(gap) => {
                let (room, addresses) = self.expanded(gap, primes, tile);
                (Some(room), addresses)
            }
        };
        let (run, start) = match form {
            Form::Ready(run) => (run, first as u32),
            Form::Compact(_) => (0, 0),
        };
        let babies: BTreeSet<usize> = tile.iter().map(|entry| entry.baby).collect();
        let place: BTreeMap<usize, usize> = babies.iter().copied().zip(0..).collect();
        let mut diagonal = [[0; MOST_GIANTS]; B];
        for (entry, address) in tile.iter().zip(addresses) {
            diagonal[place[&entry.baby]][entry.giant] = address;
        }
        Operands {
            babies: babies.into_iter().collect(),
            diagonal,
            run,
            start,
            _room: room,
        }
    }

    /// The limbs of some diagonals in memory that is held for them, and where each begins.
    fn expanded(&self, gap: u32, primes: &[u16], tile: &[&Entry]) -> (D::Memory, Vec<u64>) {
        let room = self.alloc_limbs(tile.len() * primes.len());
        let to = |at: usize| self.limb_address(&room, at * primes.len());
        let pairs: Vec<[u64; 2]> = tile
            .iter()
            .enumerate()
            .map(|(at, entry)| [entry.address, to(at)])
            .collect();
        for batch in pairs.chunks(MOST_POLYS) {
            self.expand(gap, batch, primes);
        }
        let addresses = pairs.into_iter().map(|[_, to]| to).collect();
        (room, addresses)
    }
}

/// Splits the diagonals of some giant steps into launches: of one form each, of up to `most` rotated ciphertexts, and of few enough diagonals
/// where they are expanded. At least one, if an empty one, since sums must begin.
pub(crate) fn tiles(giants: &[Vec<Entry>], most: usize) -> Vec<Vec<&Entry>> {
    let mut entries: Vec<&Entry> = giants.iter().flatten().collect();
    entries.sort_by_key(|entry| (entry.form, entry.baby, entry.giant));
    let mut tiles: Vec<Vec<&Entry>> = Vec::new();
    let mut babies = BTreeSet::new();
    for entry in entries {
        babies.insert(entry.baby);
        let fits = tiles.last().is_some_and(|tile| {
            let small = matches!(entry.form, Form::Compact(_));
            tile[0].form == entry.form && babies.len() <= most && (!small || tile.len() < EXPANDED)
        });
        match tiles.last_mut() {
            Some(tile) if fits => tile.push(entry),
            _ => {
                babies = BTreeSet::from([entry.baby]);
                tiles.push(vec![entry]);
            }
        }
    }
    if tiles.is_empty() {
        tiles.push(Vec::new());
    }
    tiles
}
