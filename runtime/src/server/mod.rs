//! The server: plan, evaluation keys and KV state; never a secret key.
//!
//! Nothing in this module or below names a secret key or the [`crate::client`] module; a test below holds it to that.

mod engine;
mod listen;
mod service;
mod sessions;
mod store;

pub use engine::{Engine, StepOutput, StepProgress, Watch};
pub use listen::{ListenError, Server, bind};
pub use service::Service;
pub use store::KeyStore;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// The server's sources and the CPU backend's reach the scheme through [`crate::cpu::public`] only, which re-exports
    /// nothing that holds or makes a secret.
    #[test]
    fn no_secret_is_reachable_from_server_code() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut seen = 0;
        for entry in fs::read_dir(root.join("server")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            for forbidden in [
                concat!("Secret", "Key"),
                concat!("sotto_", "ckks"),
                concat!("use crate::", "client"),
            ] {
                assert!(!text.contains(forbidden), "{path:?} names {forbidden}");
            }
            seen += 1;
        }
        assert!(seen >= 5, "only {seen} server files found");
    }
}
