//! A key folder in the making, for whoever must remove it when the process is told to end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often removal is tried: a file may be made in the folder while it is emptied.
const TRIES: usize = 100;

/// The place of a folder in the making, if there is one. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Unfinished(Arc<Mutex<Option<PathBuf>>>);

/// As long as it is held, nobody begins or finishes a folder.
#[must_use = "the folder may be finished as soon as this is dropped"]
pub struct Removed<'a>(
    #[expect(dead_code, reason = "held, not read")] MutexGuard<'a, Option<PathBuf>>,
);

impl Unfinished {
    /// Removes the folder in the making.
    pub fn remove(&self) -> Removed<'_> {
        let place = self.place();
        if let Some(dir) = place.as_deref() {
            remove(dir);
        }
        Removed(place)
    }

    /// The place, to set or clear.
    pub(super) fn place(&self) -> MutexGuard<'_, Option<PathBuf>> {
        // A path is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(dir: &Path) {
    for _ in 0..TRIES {
        match std::fs::remove_dir_all(dir) {
            Err(_) if dir.exists() => {}
            _ => return,
        }
    }
    eprintln!(
        "cannot remove {}: remove it by hand, it holds a secret key",
        dir.display()
    );
}
