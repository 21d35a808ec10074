//! The one set of evaluation keys in memory, and whose turn it is.
//!
//! A set takes gigabytes, and so does what a token computes. Whoever loads a set or computes holds the turn, so there is never
//! a second set in memory, nor a second token under way; turns are given in the order they were asked for.

use super::engine::Engine;
use super::lock;
use crate::keys::Manifest;
use crate::proto::Fault;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::sync::OwnedMutexGuard;

/// A set in memory.
struct Loaded<E: Engine> {
    fingerprint: String,
    keys: E::Keys,
}

type Slot<E> = tokio::sync::Mutex<Option<Loaded<E>>>;

/// The place for one set.
pub(super) struct Held<E: Engine> {
    slot: Arc<Slot<E>>,
    /// Fingerprint of what the slot holds, for those who cannot wait for a turn.
    fingerprint: Arc<Mutex<Option<String>>>,
}

impl<E: Engine> Held<E> {
    /// Nothing in memory.
    pub fn nothing() -> Self {
        Self {
            slot: Arc::new(Slot::new(None)),
            fingerprint: Arc::new(Mutex::new(None)),
        }
    }

    /// Fingerprint of the set that is ready; None while there is none or one is being loaded.
    pub fn fingerprint(&self) -> Option<String> {
        lock(&self.fingerprint).clone()
    }

    /// Waits in line.
    pub async fn turn(&self) -> Turn<E> {
        Turn {
            slot: self.slot.clone().lock_owned().await,
            fingerprint: self.fingerprint.clone(),
        }
    }
}

/// The right to compute with the set in memory, or to replace it.
pub(super) struct Turn<E: Engine> {
    slot: OwnedMutexGuard<Option<Loaded<E>>>,
    fingerprint: Arc<Mutex<Option<String>>>,
}

impl<E: Engine> Turn<E> {
    /// The keys of a fingerprint, if they are the ones in memory.
    pub fn keys(&self, fingerprint: &str) -> Option<&E::Keys> {
        let loaded = self.slot.as_ref()?;
        (loaded.fingerprint == fingerprint).then_some(&loaded.keys)
    }

    /// Reads the set of a fingerprint from `dir` in place of the one in memory, which is dropped first. Returns the fingerprint
    /// of the one that went.
    pub fn load(
        &mut self,
        engine: &E,
        fingerprint: &str,
        dir: &Path,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Option<String>, Fault> {
        Manifest::read(dir)?.check_covers(engine.needed_keys())?;
        *lock(&self.fingerprint) = None;
        let replaced = self.slot.take().map(|loaded| loaded.fingerprint);
        let keys = engine.load_keys(dir, progress)?;
        *self.slot = Some(Loaded {
            fingerprint: fingerprint.into(),
            keys,
        });
        *lock(&self.fingerprint) = Some(fingerprint.into());
        Ok(replaced)
    }
}
