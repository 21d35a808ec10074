//! Packed to leveled: at which level everything runs, where values are refreshed, at which level K and V are stored.
//!
//! Placement works backwards. Ask for a template's results at some level and every operation runs at the lowest level its
//! consumers need: there is no slack to distribute, the only decisions left are which uses read a value and which read its
//! refreshed copy. [`search`] makes them for one template, by dynamic programming over the needs of the values in flight
//! (several: residual, queries, keys, numerator and denominator of a softmax; group loops are part of it, [`region`] inlines
//! them with their trip count in the price; [`alike`] makes one of branches that compute the same). [`strategy`] makes them as published
//! placers do, for comparison. [`chain`] joins the steps: a template that repeats must hand on its results at the level it takes its
//! parameters, and the first and last layer may be placed on their own. [`build`] writes the decisions down.
//!
//! Invariants of the result, which the leveled verifier checks independently: operands of every node agree as [`Op`] demands;
//! a bootstrap's input is at its kind's input level, repeats with the kind's period and has range at most 1; every state is
//! appended and read at its storage level; consecutive runs agree at their boundary.
//!
//! [`Op`]: sotto_ir::slot::Op

mod alike;
mod build;
mod chain;
mod error;
mod placement;
mod region;
mod search;
mod strategy;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use error::PlaceError;
pub use strategy::Strategy;

use crate::cost::{Prices, Work};
use chain::Chain;
use sotto_ir::slot::{BootstrapKind, Leveled, Packed, Program, StateId, ValueType};
use std::collections::{BTreeMap, BTreeSet};

/// What placement knows of the parameter set.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Top application level; bootstraps end there.
    pub top: u32,
    /// Bootstraps to choose from.
    pub refreshes: Vec<RefreshKind>,
}

/// A bootstrap on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshKind {
    /// What it refreshes.
    pub kind: BootstrapKind,
    /// Level its input must have: its StC factors.
    pub input_level: u32,
}

impl Target {
    /// The cheapest bootstrap that serves values of type `ty`, with its price in nanoseconds; `None` if there is none.
    fn refresh_for(&self, ty: &ValueType, prices: &dyn Prices) -> Option<(usize, u64)> {
        if ty.range.is_nan() || ty.range > 1.0 {
            return None;
        }
        let serves =
            |r: &RefreshKind| r.kind.slots >= ty.layout.period() && (r.kind.complex || !ty.complex);
        let candidates = self.refreshes.iter().enumerate().filter(|(_, r)| serves(r));
        candidates
            .map(|(i, r)| (i, prices.nanos(&Work::Bootstrap(r.kind), r.input_level)))
            .min_by_key(|&(i, nanos)| (nanos, i))
    }
}

/// Settings of the search; counts only, so that the same input gives the same result.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Who decides where values are refreshed.
    pub strategy: Strategy,
    /// States of the dynamic program kept after each node, cheapest first. Exact as long as nothing is cut and no loop has branches.
    pub beam: usize,
    /// Groups that the search expects a loop to visit; `None`: the mean over all positions up to the capacity.
    pub groups: Option<u64>,
    /// Lowest storage level by state.
    floors: BTreeMap<StateId, u32>,
    /// Highest storage level by state.
    ceilings: BTreeMap<StateId, u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            beam: 4096,
            groups: None,
            floors: BTreeMap::new(),
            ceilings: BTreeMap::new(),
        }
    }
}

impl Options {
    /// The defaults, with refreshes decided by `strategy`.
    pub fn by(strategy: Strategy) -> Self {
        Self {
            strategy,
            ..Self::default()
        }
    }

    /// The same with states stored at these levels.
    pub fn stored_at(mut self, levels: impl IntoIterator<Item = (StateId, u32)>) -> Self {
        self.floors.extend(levels);
        self.ceilings = self.floors.clone();
        self
    }

    fn state_floor(&self, state: StateId) -> u32 {
        self.floors.get(&state).copied().unwrap_or(0)
    }

    fn state_ceiling(&self, state: StateId) -> Option<u32> {
        self.ceilings.get(&state).copied()
    }

    /// Whether a state may be stored at a level.
    fn allows(&self, state: StateId, level: u32) -> bool {
        let most = self.state_ceiling(state).unwrap_or(u32::MAX);
        (self.state_floor(state)..=most).contains(&level)
    }

    /// The same with every state at the level given.
    fn storing(&self, levels: &Wanted) -> Self {
        let levels = levels.iter();
        let levels: BTreeMap<_, _> = levels
            .filter_map(|(state, levels)| Some((*state, *levels.last()?)))
            .collect();
        Self {
            floors: levels.clone(),
            ceilings: levels,
            ..self.clone()
        }
    }

    /// Trips a loop over `states` is priced with.
    fn trips(&self, program: &Program<Packed>, states: &[StateId]) -> u64 {
        if let Some(groups) = self.groups {
            return groups.max(1);
        }
        let full = states
            .iter()
            .filter_map(|s| program.states.get(s.0 as usize))
            .map(|s| groups_at_capacity(program.capacity, &s.ty))
            .max();
        // Groups 1..=full are visited equally often over a full context.
        full.unwrap_or(1).div_ceil(2).max(1)
    }
}

/// Groups of a state that `capacity` tokens fill.
pub fn groups_at_capacity(capacity: u32, group: &ValueType) -> u64 {
    let tokens = group.layout.tokens().unwrap_or(1).max(1);
    u64::from(capacity.div_ceil(tokens).max(1))
}

/// What the search found out, besides the program.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Predicted nanoseconds per token with the trip counts of [`Options`], drops not counted.
    pub nanos: u64,
    /// Whether states were cut, or branches placed alike, so that a better placement may exist.
    pub cut: bool,
    /// Most states held after one node.
    pub widest: usize,
}

/// Places `program`. Same input, same result.
pub fn place(
    program: &Program<Packed>,
    target: &Target,
    prices: &dyn Prices,
    options: &Options,
) -> Result<(Program<Leveled>, Report), PlaceError> {
    let solve = |options: &Options| chain::solve(program, target, prices, options);
    let free = solve(options)?;
    let wanted = free.state_levels();
    let chain = match agreed(&wanted) {
        true => free,
        false => lowered(settled(free, options, &solve)?, &wanted, options, &solve),
    };
    Ok((build::build(program, target, &chain), chain.report()))
}

/// Storage levels that templates want, by state.
type Wanted = BTreeMap<StateId, BTreeSet<u32>>;

fn agreed(wanted: &Wanted) -> bool {
    wanted.values().all(|levels| levels.len() == 1)
}

/// A state has one storage level. Where templates disagree the highest wins; the others are placed anew on it.
fn settled(
    mut chain: Chain,
    options: &Options,
    solve: &dyn Fn(&Options) -> Result<Chain, PlaceError>,
) -> Result<Chain, PlaceError> {
    let mut options = options.clone();
    loop {
        let wanted = chain.state_levels();
        if agreed(&wanted) {
            return Ok(chain);
        }
        for (state, levels) in wanted {
            let highest = levels.last().copied().unwrap_or(0);
            let floor = options.floors.entry(state).or_insert(0);
            *floor = highest.max(*floor);
        }
        chain = solve(&options)?;
    }
}

/// Most combinations of storage levels that are tried.
const COMBINATIONS: usize = 64;

/// One level for every state, of those that templates want: all combinations, or the first of them.
fn combinations(wanted: &Wanted) -> Vec<Wanted> {
    let mut all = vec![Wanted::new()];
    for (state, levels) in wanted {
        let with = |known: &Wanted| -> Vec<Wanted> {
            let one = |level: &u32| {
                let mut next = known.clone();
                next.insert(*state, BTreeSet::from([*level]));
                next
            };
            levels.iter().map(one).collect()
        };
        all = all.iter().flat_map(with).take(COMBINATIONS).collect();
    }
    all
}

/// The cheapest chain found by storing states at levels that some templates wanted, then moving one state at a time to another of them,
/// or to the next level, as long as that helps: what all have to store at the highest level may not even be read there once all are placed on it.
fn lowered(
    mut best: Chain,
    wanted: &Wanted,
    options: &Options,
    solve: &dyn Fn(&Options) -> Result<Chain, PlaceError>,
) -> Chain {
    let mut stored = best.state_levels();
    let mut seen = BTreeSet::from([stored.clone()]);
    let mut offer = |tried: Wanted, best: &mut Chain, stored: &mut Wanted| {
        if !seen.insert(tried.clone()) {
            return;
        }
        match solve(&options.storing(&tried)) {
            Ok(chain)
                if agreed(&chain.state_levels()) && chain.report().nanos < best.report().nanos =>
            {
                (*best, *stored) = (chain, tried);
            }
            _ => {}
        }
    };
    for tried in combinations(wanted) {
        offer(tried, &mut best, &mut stored);
    }
    loop {
        let before = best.report().nanos;
        for (state, levels) in wanted {
            let now = stored.get(state).and_then(BTreeSet::first).copied();
            let next = now.into_iter().flat_map(|l| [l.saturating_sub(1), l + 1]);
            // but not where the caller has decided
            let next = next.filter(|level| options.allows(*state, *level));
            let levels: BTreeSet<u32> = levels.iter().copied().chain(next).collect();
            for level in levels {
                let mut tried = stored.clone();
                tried.insert(*state, BTreeSet::from([level]));
                offer(tried, &mut best, &mut stored);
            }
        }
        if best.report().nanos == before {
            return best;
        }
    }
}
