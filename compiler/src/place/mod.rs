//! Packed to leveled: at which level everything runs, where values are refreshed, at which level K and V are stored.
//!
//! Placement works backwards. Ask for a template's results at some level and every operation runs at the lowest level its
//! consumers need: there is no slack to distribute, the only decisions left are which uses read a value and which read its
//! refreshed copy. [`search`] makes them for one template, by dynamic programming over the needs of the values in flight
//! (several: residual, queries, keys, numerator and denominator of a softmax; group loops are part of it, [`region`] inlines
//! them with their trip count in the price). [`strategy`] makes them as published placers do, for comparison. [`chain`] joins the steps: a template that repeats must hand on its results at the
//! level it takes its parameters, and the first and last layer may be placed on their own. [`build`] writes the decisions down.
//!
//! Invariants of the result, which the leveled verifier checks independently: operands of every node agree as [`Op`] demands;
//! a bootstrap's input is at its kind's input level, repeats with the kind's period and has range at most 1; every state is
//! appended and read at its storage level; consecutive runs agree at their boundary.
//!
//! [`Op`]: sotto_ir::slot::Op

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
use sotto_ir::slot::{BootstrapKind, Leveled, Packed, Program, StateId, ValueType};
use std::collections::BTreeMap;

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
    /// States of the dynamic program kept after each node, cheapest first. Exact as long as nothing is cut.
    pub beam: usize,
    /// Groups that the search expects a loop to visit; `None`: the mean over all positions up to the capacity.
    pub groups: Option<u64>,
    /// Lowest storage level by state.
    floors: BTreeMap<StateId, u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            beam: 4096,
            groups: None,
            floors: BTreeMap::new(),
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

    fn state_floor(&self, state: StateId) -> u32 {
        self.floors.get(&state).copied().unwrap_or(0)
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
    /// Whether the beam cut states, so that a better placement may exist.
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
    let mut options = options.clone();
    loop {
        let chain = chain::solve(program, target, prices, &options)?;
        // A state has one storage level. Where templates disagree the highest wins; the others are placed anew on it.
        let settled = chain.state_levels();
        if settled
            .iter()
            .all(|(state, levels)| levels.iter().all(|l| *l == options.state_floor(*state)))
            || settled.values().all(|levels| levels.len() == 1)
        {
            return Ok((build::build(program, target, &chain), chain.report()));
        }
        for (state, levels) in settled {
            let highest = levels.last().copied().unwrap_or(0);
            let floor = options.floors.entry(state).or_insert(0);
            *floor = highest.max(*floor);
        }
    }
}
