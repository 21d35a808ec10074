//! The server: plan, evaluation keys and KV state; never a secret key.
//!
//! The service knows nothing of ciphertexts: an [`Engine`] computes. The server's sources are this folder, the backend on ciphertexts, and the
//! modules that these use. None of them names what holds or makes a secret, nor the client; a test below reads them all.

mod engine;
mod held;
mod listen;
mod notice;
mod service;
mod sessions;
mod store;

pub use engine::{Engine, StepOutput, Watch};
pub use listen::{ListenError, Server, bind};
pub use notice::Notice;
pub use service::Service;
pub use store::KeyStore;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock on what is whole between any two statements, so that a panic elsewhere leaves nothing half-done behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// What makes up `sotto serve`, in `src`.
    const SERVER: [&str; 11] = [
        "../gpu/src",
        "commands/engines.rs",
        "server",
        "cipher",
        "proto",
        "commands/serve.rs",
        "keys.rs",
        "plan.rs",
        "process.rs",
        "trace.rs",
        "follow.rs",
    ];
    /// What holds or makes a secret, and the modules that do so.
    const FORBIDDEN: [&str; 5] = [
        concat!("Secret", "Key"),
        concat!("Key", "Generator"),
        concat!("crate::", "client"),
        concat!("crate::", "trial"),
        concat!("Key", "ring"),
    ];

    /// The Rust files at or below a path.
    fn sources(path: &Path) -> Vec<PathBuf> {
        if path.is_file() {
            return vec![path.into()];
        }
        let entries = fs::read_dir(path).unwrap();
        let found = entries.flat_map(|entry| sources(&entry.unwrap().path()));
        found
            .filter(|p| p.extension().is_some_and(|e| e == "rs"))
            .collect()
    }

    #[test]
    fn no_secret_is_named_in_server_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for part in SERVER {
            let files = sources(&root.join(part));
            assert!(!files.is_empty(), "no source at {part}");
            for path in files {
                let text = fs::read_to_string(&path).unwrap();
                for forbidden in FORBIDDEN {
                    assert!(!text.contains(forbidden), "{path:?} names {forbidden}");
                }
            }
        }
    }

    #[test]
    fn the_service_does_not_know_the_scheme() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server");
        for path in sources(&root) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains(concat!("sotto_", "ckks")), "{path:?}");
        }
    }
}
