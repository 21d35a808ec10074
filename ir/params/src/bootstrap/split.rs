//! Baby-step/giant-step splits of a set of diagonals, as data.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One giant step: the babies whose diagonals are summed before the rotation by `step`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Giant {
    /// Rotation applied to the inner sum.
    pub step: usize,
    /// Baby rotations; the diagonal of baby b is `(step + b) mod n`.
    pub babies: Vec<usize>,
}

/// A split of the diagonals of an n × n matrix: `M·v = Σ_g rot(Σ_b rot(d_{g+b}, −g) ⊙ rot(v, b), g)`, where diagonal s has the
/// entry of row j, column j + s at place j. All steps are in `0..n`; every diagonal stands in exactly one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bsgs {
    /// Period n of the vectors.
    pub slots: usize,
    /// The giants.
    pub giants: Vec<Giant>,
    /// Whether giants are rotated one unit at a time, outermost first: `rot(inner_1 + rot(inner_2 + …, u), u)`, and so for negative
    /// steps. As many key switches as without, but one key for each direction serves all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub chained: bool,
}

/// What one giant rotation costs in baby rotations, roughly: a baby shares its decomposition and its ModDown.
const GIANT_WEIGHT: usize = 3;

impl Bsgs {
    /// Whether all steps are in `0..slots`, as those of every split made here are.
    pub(super) fn steps_in_range(&self) -> bool {
        let mut giants = self.giants.iter();
        giants.all(|g| g.step < self.slots && g.babies.iter().all(|&b| b < self.slots))
    }

    /// Splits the diagonals `k·unit` for k in `first ..= last` with `babies` babies a giant.
    pub fn regular(slots: usize, unit: usize, first: i64, last: i64, babies: usize) -> Self {
        let n = slots as i64;
        let width = babies as i64;
        let wrap = |k: i64| (k * unit as i64).rem_euclid(n) as usize;
        let giant = |g: i64| {
            let inside = (0..width).filter(|b| (first..=last).contains(&(g * width + b)));
            Giant {
                step: wrap(g * width),
                babies: inside.map(wrap).collect(),
            }
        };
        let range = first.div_euclid(width)..=last.div_euclid(width);
        Self {
            slots,
            giants: range.map(giant).collect(),
            chained: false,
        }
    }

    /// As [`Bsgs::regular`] with the cheapest power of two of babies.
    pub fn cheapest(slots: usize, unit: usize, first: i64, last: i64) -> Self {
        let span = (last - first + 1) as usize;
        let widths = (0..=span.next_power_of_two().trailing_zeros()).map(|e| 1usize << e);
        let splits = widths.map(|w| Self::regular(slots, unit, first, last, w));
        splits.min_by_key(Self::weight).unwrap_or(Self {
            slots,
            giants: Vec::new(),
            chained: false,
        })
    }

    fn weight(&self) -> usize {
        self.baby_steps().len() + GIANT_WEIGHT * self.giant_steps().len()
    }

    /// Baby rotations other than 0, ascending.
    pub fn baby_steps(&self) -> BTreeSet<usize> {
        self.giants
            .iter()
            .flat_map(|g| g.babies.iter().copied())
            .filter(|&s| s != 0)
            .collect()
    }

    /// Giant rotations other than 0, ascending.
    pub fn giant_steps(&self) -> BTreeSet<usize> {
        self.giants
            .iter()
            .map(|g| g.step)
            .filter(|&s| s != 0)
            .collect()
    }

    /// All rotations that are made, other than 0, ascending.
    pub fn rotations(&self) -> BTreeSet<usize> {
        let giants = match self.chained {
            true => self.chains().into_iter().map(|(unit, _)| unit).collect(),
            false => self.giant_steps(),
        };
        self.baby_steps().union(&giants).copied().collect()
    }

    /// The chains: for each direction in which there are giants, the rotation by one unit, and the giants' positions by how many units
    /// they are away, from one on. A place without a giant is none.
    pub fn chains(&self) -> Vec<(usize, Vec<Option<usize>>)> {
        let n = self.slots;
        // a step as a distance in a direction: backwards where that is shorter
        let distance = |step: usize, back: bool| if back { n - step } else { step };
        // steps out of range, which a plan may hold that nobody has checked yet, are in no chain
        let is_along =
            |g: &Giant, back: bool| (1..n).contains(&g.step) && (g.step > n - g.step) == back;
        let mut chains = Vec::new();
        for back in [false, true] {
            let mine = self.giants.iter().filter(|g| is_along(g, back));
            let Some(unit) = mine.map(|g| distance(g.step, back)).min() else {
                continue;
            };
            let mut places: Vec<Option<usize>> = Vec::new();
            for (i, giant) in self.giants.iter().enumerate() {
                if is_along(giant, back) {
                    let place = distance(giant.step, back) / unit;
                    places.resize(places.len().max(place), None);
                    places[place - 1] = Some(i);
                }
            }
            chains.push((distance(unit, back), places));
        }
        chains
    }

    /// Whether a chain can make every giant step: all are whole numbers of units, each once.
    pub(super) fn chains_reach(&self) -> bool {
        let made: usize = self
            .chains()
            .iter()
            .map(|(_, c)| c.iter().flatten().count())
            .sum();
        let others = self.giants.iter().filter(|g| g.step != 0).count();
        let exact = self.chains().iter().all(|(unit, places)| {
            let reached = |(k, i): (usize, &Option<usize>)| {
                i.is_none_or(|i| self.giants[i].step == (k + 1) * unit % self.slots)
            };
            places.iter().enumerate().all(reached)
        });
        !self.chained || (made == others && exact)
    }

    /// The same split with giants rotated one unit at a time.
    #[must_use]
    pub fn with_chains(self) -> Self {
        Self {
            chained: true,
            ..self
        }
    }

    /// Every diagonal, ascending.
    pub fn diagonals(&self) -> Vec<usize> {
        let sum = |g: &Giant| -> Vec<usize> {
            g.babies.iter().map(|b| (g.step + b) % self.slots).collect()
        };
        let mut all: Vec<usize> = self.giants.iter().flat_map(sum).collect();
        all.sort_unstable();
        all
    }
}
