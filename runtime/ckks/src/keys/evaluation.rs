//! The set of keys an evaluator works with.

use super::{KeyId, KeyKind, SwitchingKey};
use crate::context::Context;
use crate::engine::Engine;
use crate::error::{CkksError, Result};
use crate::ring::RnsPoly;
use sotto_params::bootstrap::BootstrapSpec;
use sotto_params::galois;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Which keys to generate, each up to the highest level of its use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRequest {
    /// Level of the relinearization key.
    pub relinearization: Option<usize>,
    /// Galois elements (see [`sotto_params::galois`]) and their levels.
    pub galois: BTreeMap<u32, usize>,
    /// The pair of keys to and from the ephemeral secret, and the level ModRaise goes to.
    pub bootstrap: Option<usize>,
}

impl KeyRequest {
    /// Asks for a Galois element at a level, keeping the higher level if it was asked for before.
    pub fn add_galois(&mut self, element: u32, level: usize) {
        let entry = self.galois.entry(element).or_insert(level);
        *entry = level.max(*entry);
    }

    /// Asks for relinearization at a level, keeping the higher level if it was asked for before.
    pub fn add_relinearization(&mut self, level: usize) {
        self.relinearization = Some(self.relinearization.map_or(level, |l| l.max(level)));
    }

    /// Asks for everything a bootstrap uses.
    pub fn add_bootstrap(&mut self, spec: &BootstrapSpec, log_n: u32) {
        let keys = spec.keys();
        for (step, level) in keys.rotations {
            self.add_galois(galois::rotation(step as i64, log_n), level);
        }
        self.add_galois(galois::conjugation(log_n), keys.conjugation);
        self.add_relinearization(keys.relinearisation);
        self.bootstrap = Some(
            self.bootstrap
                .map_or(keys.ephemeral, |l| l.max(keys.ephemeral)),
        );
    }

    /// The keys asked for, in a fixed order.
    pub fn kinds(&self) -> Vec<(KeyKind, usize)> {
        let mut kinds: Vec<(KeyKind, usize)> = self
            .relinearization
            .iter()
            .map(|&l| (KeyKind::Relinearization, l))
            .collect();
        kinds.extend(self.galois.iter().map(|(&g, &l)| (KeyKind::Galois(g), l)));
        if let Some(level) = self.bootstrap {
            kinds.push((KeyKind::ToEphemeral, 0));
            kinds.push((KeyKind::FromEphemeral, level));
        }
        kinds
    }
}

/// Evaluation keys of one secret key.
#[derive(Debug)]
pub struct EvaluationKeys<P = RnsPoly> {
    id: KeyId,
    keys: BTreeMap<KeyKind, Held<P>>,
}

impl<P> Clone for EvaluationKeys<P> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            keys: self.keys.clone(),
        }
    }
}

/// A key, and how high it has been used.
#[derive(Debug)]
struct Held<P> {
    key: Arc<SwitchingKey<P>>,
    /// One more than the highest level of a use so far; 0 where there was none.
    used: Arc<AtomicUsize>,
}

impl<P> Clone for Held<P> {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            used: self.used.clone(),
        }
    }
}

impl<P> EvaluationKeys<P> {
    /// An empty set for a secret key: enough for everything that switches no keys.
    pub fn empty(id: KeyId) -> Self {
        Self {
            id,
            keys: BTreeMap::new(),
        }
    }

    /// The secret key they belong to.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Adds a key.
    ///
    /// # Errors
    /// If it belongs to another secret key.
    pub fn insert(&mut self, key: SwitchingKey<P>) -> Result<()> {
        if key.id != self.id {
            return Err(CkksError::ForeignKey {
                op: "adding an evaluation key",
                what: "the key",
            });
        }
        let held = Held {
            key: Arc::new(key),
            used: Arc::default(),
        };
        self.keys.insert(held.key.kind, held);
        Ok(())
    }

    /// The key of a kind, if present.
    pub fn get(&self, kind: KeyKind) -> Option<&Arc<SwitchingKey<P>>> {
        self.keys.get(&kind).map(|held| &held.key)
    }

    /// All keys.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<SwitchingKey<P>>> {
        self.keys.values().map(|held| &held.key)
    }

    /// The keys that operations have used, each with the highest level of a use. A key that is listed and not here was idle.
    pub fn uses(&self) -> Vec<(KeyKind, usize)> {
        let used = |(&kind, held): (&KeyKind, &Held<P>)| {
            let level = held.used.load(Ordering::Relaxed).checked_sub(1)?;
            Some((kind, level))
        };
        self.keys.iter().filter_map(used).collect()
    }

    /// Checks that every key of a request is present at its level.
    ///
    /// # Errors
    /// Names the first key missing.
    pub fn check(&self, ctx: &Context, request: &KeyRequest) -> Result<()> {
        request
            .kinds()
            .into_iter()
            .try_for_each(|(kind, level)| self.held(ctx, "program", kind, level).map(drop))
    }

    /// The key of a kind for use at `level`, which is recorded.
    pub(crate) fn find(
        &self,
        ctx: &Context,
        op: &'static str,
        kind: KeyKind,
        level: usize,
    ) -> Result<&Arc<SwitchingKey<P>>> {
        let held = self.held(ctx, op, kind, level)?;
        held.used.fetch_max(level + 1, Ordering::Relaxed);
        Ok(&held.key)
    }

    fn held(
        &self,
        ctx: &Context,
        op: &'static str,
        kind: KeyKind,
        level: usize,
    ) -> Result<&Held<P>> {
        self.keys
            .get(&kind)
            .filter(|held| held.key.level >= level)
            .ok_or_else(|| {
                let mut key = kind.describe(ctx.params().log_n);
                if let Some(held) = self.keys.get(&kind) {
                    key += &format!(" above level {}", held.key.level);
                }
                CkksError::MissingKey { op, key, level }
            })
    }
}

impl EvaluationKeys {
    /// Bytes all keys take in memory.
    pub fn size_bytes(&self) -> usize {
        self.iter().map(|k| k.size_bytes()).sum()
    }

    /// The keys for another engine, one after the other; uses count for both.
    ///
    /// # Errors
    /// What the engine says after each.
    pub fn upload<E: Engine>(self, engine: &E) -> Result<EvaluationKeys<E::Poly>> {
        let mut keys = BTreeMap::new();
        for (kind, Held { key, used }) in self.keys {
            let key = Arc::unwrap_or_clone(key).map(|poly| engine.upload(poly));
            engine.check()?;
            let key = Arc::new(key);
            keys.insert(kind, Held { key, used });
        }
        Ok(EvaluationKeys { id: self.id, keys })
    }
}
