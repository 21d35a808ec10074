//! Where one template's values are refreshed: dynamic programming backwards over the flattened template.
//!
//! Going from the last node to the first, a state of the program holds, for every value whose definition lies ahead and that some
//! visited node reads, its *need* (the highest level at which it is read) and whether a refreshed copy of it has been paid for.
//! At a node the result's need fixes the level of the operands; for each operand that does not yet have that level there is one
//! decision: raise its need, or read its refreshed copy. A copy needs its original at the bootstrap's input level only.
//!
//! A state that needs no more than another and costs no more, even once it has paid for the copies that only the other has, is as good
//! or better whatever follows, so the other is dropped: where the other reads such a copy, it can make its own then, whose original the
//! other already needs at the bootstrap's level. Exact unless the beam cuts; the outcome says so. Drops are not priced here (a drop
//! costs less than a hundredth of a rotation): the estimate counts them.

use super::placement::Placement;
use super::region::{Kind, Region, Val};

/// The frontier of placements for one level of the results.
#[derive(Clone, Debug)]
pub struct Frontier {
    /// Best placements by cost; none dominates another.
    pub outcomes: Vec<Outcome>,
    /// Whether the beam cut.
    pub cut: bool,
    /// Most states after a node.
    pub widest: usize,
    result_level: u32,
    trail: Vec<Link>,
}

/// One way to place the template.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Highest level at which each parameter is read (0 if unused).
    pub needs: Vec<u32>,
    /// Nanoseconds, drops excluded.
    pub cost: u64,
    trail: u32,
}

/// Why the search got stuck: the node that no state could serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Index into [`Region::nodes`].
    pub node: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    parent: u32,
    choice: u8,
}

const ROOT: u32 = u32::MAX;
/// A value's state in one byte: the need, and this bit if its copy is paid for.
const COPIED: u8 = 0x80;

/// States after a node: one byte per live value, cost, trail.
#[derive(Clone, Debug)]
struct States {
    live: Vec<Val>,
    bytes: Vec<u8>,
    cost: Vec<u64>,
    trail: Vec<u32>,
}

impl States {
    fn row(&self, i: usize) -> &[u8] {
        &self.bytes[i * self.live.len()..(i + 1) * self.live.len()]
    }

    fn slot(&self, v: Val) -> Option<usize> {
        self.live.binary_search(&v).ok()
    }
}

/// Searches the placements of `region` whose results are at `result_level`.
pub fn search(
    region: &Region,
    top: u32,
    result_level: u32,
    beam: usize,
) -> Result<Frontier, Stuck> {
    let mut frontier = Frontier {
        outcomes: Vec::new(),
        cut: false,
        widest: 1,
        result_level,
        trail: Vec::new(),
    };
    let mut states = initial(region, result_level);
    for n in (0..region.nodes.len()).rev() {
        let Some(step) = Step::new(region, n, &states.live, top) else {
            continue;
        };
        let mut next = Candidates {
            width: step.after.len(),
            ..Candidates::default()
        };
        let mut row = Vec::with_capacity(next.width);
        for i in 0..states.cost.len() {
            for choice in 0..step.choices() {
                if let Some(cost) = step.apply(states.row(i), choice, &mut row) {
                    next.push(
                        &row,
                        states.cost[i] + cost,
                        Link {
                            parent: states.trail[i],
                            choice,
                        },
                    );
                }
            }
        }
        let (kept, cut) = next.prune(beam, &step.copy_prices());
        if kept.is_empty() {
            return Err(Stuck { node: n });
        }
        frontier.cut |= cut;
        frontier.widest = frontier.widest.max(kept.len());
        states = States {
            live: step.after,
            bytes: Vec::with_capacity(kept.len() * next.width),
            cost: Vec::with_capacity(kept.len()),
            trail: Vec::with_capacity(kept.len()),
        };
        for c in kept {
            states.bytes.extend_from_slice(next.row(c));
            states.cost.push(next.cost[c]);
            states.trail.push(frontier.trail.len() as u32);
            frontier.trail.push(next.link[c]);
        }
    }
    for i in 0..states.cost.len() {
        let need = |v: &Val| {
            let byte = states.slot(*v).map(|s| states.row(i)[s] & !COPIED);
            byte.map_or(0, |b| u32::from(b).max(region.values[*v].floor))
        };
        let needs: Vec<u32> = region.params.iter().map(need).collect();
        if needs.iter().all(|n| *n <= top) {
            frontier.outcomes.push(Outcome {
                needs,
                cost: states.cost[i],
                trail: states.trail[i],
            });
        }
    }
    if frontier.outcomes.is_empty() {
        return Err(Stuck { node: 0 });
    }
    Ok(frontier)
}

fn initial(region: &Region, result_level: u32) -> States {
    let mut live = region.results.clone();
    live.sort_unstable();
    live.dedup();
    States {
        bytes: vec![result_level as u8; live.len()],
        live,
        cost: vec![0],
        trail: vec![ROOT],
    }
}

/// How states change at one node.
struct Step<'a> {
    region: &'a Region,
    node: usize,
    top: u32,
    /// Where the need that fixes the operand level stands in a row (`None`: an append to a cell nothing reads).
    result: Option<usize>,
    /// Level below which the operand level does not fall.
    floor: u32,
    after: Vec<Val>,
    /// For each value live afterwards, its place before (`None`: first read here).
    from: Vec<Option<usize>>,
    /// Places of the operands afterwards.
    operands: Vec<usize>,
}

impl<'a> Step<'a> {
    /// `None` if nothing reads the node's result.
    fn new(region: &'a Region, node: usize, live: &[Val], top: u32) -> Option<Self> {
        let n = &region.nodes[node];
        let (result, floor, keep) = match (&n.kind, n.result) {
            (Kind::Append(cell), _) => (
                live.binary_search(cell).ok(),
                region.values[*cell].floor,
                Some(*cell),
            ),
            (_, Some(v)) => (
                Some(live.binary_search(&v).ok()?),
                region.values[v].floor,
                None,
            ),
            (_, None) => return None,
        };
        let mut after: Vec<Val> = live
            .iter()
            .copied()
            .filter(|v| Some(*v) != n.result)
            .chain(n.operands.iter().copied())
            .chain(keep)
            .collect();
        after.sort_unstable();
        after.dedup();
        let place = |v: &Val| after.binary_search(v).unwrap_or(0);
        let operands = n.operands.iter().map(place).collect();
        let from = after.iter().map(|v| live.binary_search(v).ok()).collect();
        Some(Self {
            region,
            node,
            top,
            result,
            floor,
            after,
            from,
            operands,
        })
    }

    /// What a copy of each value live afterwards costs.
    fn copy_prices(&self) -> Vec<u64> {
        let values = self.after.iter().map(|v| &self.region.values[*v]);
        let price = values.map(|value| value.refresh.map_or(u64::MAX, |refresh| refresh.cost));
        price.collect()
    }

    fn choices(&self) -> u8 {
        1 << self.operands.len()
    }

    /// Makes `next` the row after the node if the operands in the bit set `choice` read their copies, and gives the price; `None` if
    /// that is illegal or never better than another choice.
    fn apply(&self, row: &[u8], choice: u8, next: &mut Vec<u8>) -> Option<u64> {
        let node = &self.region.nodes[self.node];
        let defined = self
            .result
            .map_or(0, |s| u32::from(row[s] & !COPIED))
            .max(self.floor);
        let need = defined + node.depth;
        if need > self.top {
            return None;
        }
        next.clear();
        next.extend(self.from.iter().map(|f| f.map_or(0, |f| row[f])));
        if let Kind::Append(cell) = &node.kind {
            let slot = self.after.binary_search(cell).ok()?;
            next[slot] = next[slot].max(defined as u8);
        }
        let mut cost = node.cost[need as usize];
        for (k, &slot) in self.operands.iter().enumerate() {
            let fresh = self.from[slot].is_none();
            let byte = next[slot];
            let (level, copied) = (byte & !COPIED, byte & COPIED != 0);
            let copy = choice & (1 << k) != 0;
            // Reading the original is free if it has the level already, reading the copy if it exists.
            let original_free = !fresh && u32::from(level) >= need;
            next[slot] = match (copy, original_free, copied) {
                (true, true, _) | (false, false, true) => return None,
                (true, false, true) => byte,
                (true, false, false) => {
                    let refresh = self.region.values[self.after[slot]].refresh?;
                    cost += refresh.cost;
                    level.max(refresh.input_level as u8) | COPIED
                }
                (false, true, _) => byte,
                (false, false, false) => {
                    let ceiling = self.region.values[self.after[slot]].ceiling;
                    (need <= ceiling).then_some(need as u8)?
                }
            };
        }
        Some(cost)
    }
}

/// States before pruning.
#[derive(Default)]
struct Candidates {
    width: usize,
    bytes: Vec<u8>,
    cost: Vec<u64>,
    link: Vec<Link>,
}

impl Candidates {
    fn push(&mut self, row: &[u8], cost: u64, link: Link) {
        self.bytes.extend_from_slice(row);
        self.cost.push(cost);
        self.link.push(link);
    }

    fn row(&self, i: usize) -> &[u8] {
        &self.bytes[i * self.width..(i + 1) * self.width]
    }

    /// Undominated candidates by cost, at most `beam`, and whether any were cut for that; `prices` are those of each value's copy.
    fn prune(&self, beam: usize, prices: &[u64]) -> (Vec<usize>, bool) {
        let mut order: Vec<usize> = (0..self.cost.len()).collect();
        order.sort_by(|&a, &b| (self.cost[a], self.row(a), a).cmp(&(self.cost[b], self.row(b), b)));
        let mut kept: Vec<usize> = Vec::new();
        let words = self.width.div_ceil(8);
        let mut known: Vec<u64> = Vec::new();
        for c in order {
            let row: Vec<u64> = self.row(c).chunks(8).map(word).collect();
            // a row of no values is dominated by any
            let mut best = kept.iter().zip(known.chunks_exact(words.max(1)));
            let beaten = best.any(|(&k, known)| {
                let spare = self.cost[c] - self.cost[k];
                missing(known, &row, prices).is_some_and(|price| price <= spare)
            });
            if beaten || (words == 0 && !kept.is_empty()) {
                continue;
            }
            if kept.len() == beam {
                return (kept, true);
            }
            kept.push(c);
            known.extend(row);
        }
        (kept, false)
    }
}

/// Eight values' bytes in a word, missing ones zero.
fn word(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}

/// What a state with row `a` would have to pay for the copies that only row `b` has, if it needs no value at a higher level; None if it
/// does. Eight values at a time, since placement spends most of its time here.
fn missing(a: &[u64], b: &[u64], prices: &[u64]) -> Option<u64> {
    const COPIES: u64 = u64::from_le_bytes([COPIED; 8]);
    // needs have seven bits: no byte borrows from the next, and its top bit survives where b's need is as high
    let lower = |(a, b): (&u64, &u64)| ((b | COPIES) - (a & !COPIES)) & COPIES == COPIES;
    if !a.iter().zip(b).all(lower) {
        return None;
    }
    let mut price = 0u64;
    for (word, (a, b)) in a.iter().zip(b).enumerate() {
        let mut copies = b & !a & COPIES;
        while copies != 0 {
            let slot = 8 * word + copies.trailing_zeros() as usize / 8;
            price = price.saturating_add(prices[slot]);
            copies &= copies - 1;
        }
    }
    Some(price)
}

impl Frontier {
    /// Everything that `outcome` decides.
    pub fn placement(&self, region: &Region, outcome: &Outcome) -> Placement {
        let mut choices = Vec::new();
        let mut link = outcome.trail;
        while link != ROOT {
            let Link { parent, choice } = self.trail[link as usize];
            choices.push(choice);
            link = parent;
        }
        // `choices` now runs from the first node to the last, dead nodes left out.
        let mut choices = choices.into_iter().rev();
        Placement::of(region, self.result_level, |_| choices.next().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_compare_as_their_bytes_do(
            rows in prop::collection::vec(any::<(u8, u8, u32)>(), 0..20)
        ) {
            let pairs = rows.iter().map(|(a, b, _)| (*a, *b));
            let (a, b): (Vec<u8>, Vec<u8>) = pairs.unzip();
            let prices: Vec<u64> = rows.iter().map(|(.., price)| u64::from(*price)).collect();
            let lower = rows.iter().all(|(a, b, _)| a & !COPIED <= b & !COPIED);
            let only = rows.iter().filter(|(a, b, _)| b & !a & COPIED != 0);
            let price: u64 = only.map(|(.., price)| u64::from(*price)).sum();
            let words = |row: &[u8]| row.chunks(8).map(word).collect::<Vec<u64>>();
            let found = missing(&words(&a), &words(&b), &prices);
            prop_assert_eq!(found, lower.then_some(price));
            prop_assert_eq!(missing(&words(&a), &words(&a), &prices), Some(0));
        }
    }
}
