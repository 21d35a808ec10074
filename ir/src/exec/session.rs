//! The KV cache of one conversation, and changes to it that take effect together.
//!
//! A group of a state is one ciphertext, or as many as its layout says; they are kept in one list, group by group.
//!
//! Prefill keeps states of its own beside those of decode. They serve the later blocks of the same prompt; the first decoded token is
//! not among them, so they are dropped then.
//!
//! `S` is a ciphertext as the backend stores it.

use crate::slot::StateId;
use std::collections::BTreeMap;
use std::ops::Range;

type Key = (StateId, u32);

/// The KV cache of one conversation. Only a successful run changes it.
#[derive(Clone, Debug)]
pub struct Session<S> {
    position: u32,
    groups: BTreeMap<Key, Vec<S>>,
}

impl<S> Default for Session<S> {
    fn default() -> Self {
        Self {
            position: 0,
            groups: BTreeMap::new(),
        }
    }
}

impl<S> Session<S> {
    /// Tokens cached so far, and so the index of the next token.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// The ciphertexts of a state in a layer, group by group.
    pub fn groups(&self, state: StateId, layer: u32) -> &[S] {
        self.groups
            .get(&(state, layer))
            .map_or(&[], |groups| &groups[..])
    }

    /// Every state with its layer and ciphertexts, in order: for saving a session.
    pub fn states(&self) -> impl Iterator<Item = (StateId, u32, &[S])> {
        self.groups
            .iter()
            .map(|(&(state, layer), groups)| (state, layer, &groups[..]))
    }

    /// A session as [`Session::position`] and [`Session::states`] told it. The executor refuses one that does not fit its plan.
    pub fn restore(
        position: u32,
        states: impl IntoIterator<Item = (StateId, u32, Vec<S>)>,
    ) -> Self {
        let groups = states.into_iter().map(|(s, l, groups)| ((s, l), groups));
        Self {
            position,
            groups: groups.collect(),
        }
    }
}

/// A step's changes to a session, beside it until the step has succeeded.
pub(super) struct Pending<'s, S> {
    base: &'s Session<S>,
    /// Changed group: where it begins, and its new ciphertexts.
    changed: BTreeMap<Key, (usize, Vec<S>)>,
}

impl<'s, S> Pending<'s, S> {
    pub(super) fn new(base: &'s Session<S>) -> Self {
        Self {
            base,
            changed: BTreeMap::new(),
        }
    }

    /// Ciphertexts of a state in a layer, this step's included.
    pub(super) fn count(&self, state: StateId, layer: u32) -> usize {
        let stored = self.base.groups(state, layer).len();
        let changed = self.changed.get(&(state, layer));
        changed.map_or(stored, |(first, group)| stored.max(first + group.len()))
    }

    /// One group as this step sees it; None if it is not all there.
    pub(super) fn group(&self, state: StateId, layer: u32, places: Range<usize>) -> Option<&[S]> {
        match self.changed.get(&(state, layer)) {
            Some((first, group)) if *first == places.start => Some(group),
            _ => self.base.groups(state, layer).get(places),
        }
    }

    /// Replace or open the group that begins at `first`.
    pub(super) fn set(&mut self, state: StateId, layer: u32, first: usize, group: Vec<S>) {
        self.changed.insert((state, layer), (first, group));
    }

    pub(super) fn into_changes(self) -> Changes<S> {
        Changes(self.changed)
    }
}

/// The changes of a step that succeeded.
pub(super) struct Changes<S>(BTreeMap<Key, (usize, Vec<S>)>);

impl<S> Changes<S> {
    /// Make them, advance the position by `count` tokens, and drop the states from `states` on, which the program does not have.
    pub(super) fn commit(self, session: &mut Session<S>, count: u32, states: usize) {
        for (key, (first, group)) in self.0 {
            let groups = session.groups.entry(key).or_default();
            groups.truncate(first);
            groups.extend(group);
        }
        session
            .groups
            .retain(|(state, _), _| (state.0 as usize) < states);
        session.position += count;
    }
}
