//! `sotto keys`: the evaluation keys of a folder, and those that a server keeps.

use super::{Failure, human_bytes, print};
use crate::keys::Manifest;
use crate::server::KeyStore;
use serde_json::json;
use std::path::{Path, PathBuf};

/// List, name and remove evaluation keys.
///
/// A server names a set of keys by its fingerprint, the checksum of the key file.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sotto keys fingerprint keys/evaluation
  sotto keys list --key-store /var/lib/sotto
  sotto keys delete FINGERPRINT --key-store /var/lib/sotto")]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

/// What to do.
#[derive(clap::Subcommand, Debug)]
enum What {
    /// Print the fingerprint of a folder of evaluation keys.
    Fingerprint {
        /// The folder: KEYS/evaluation of `sotto keygen`.
        #[arg(value_name = "EVALKEYS_DIR")]
        keys: PathBuf,
    },
    /// List the sets of a server's key store.
    List {
        /// The folder of `sotto serve --key-store`.
        #[arg(long, value_name = "DIR")]
        key_store: PathBuf,
        /// One line of JSON a set.
        #[arg(long)]
        json: bool,
    },
    /// Remove a set from a server's key store. A server that has it in memory goes on with it.
    Delete {
        /// Which.
        fingerprint: String,
        /// The folder of `sotto serve --key-store`.
        #[arg(long, value_name = "DIR")]
        key_store: PathBuf,
    },
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    match &args.what {
        What::Fingerprint { keys } => {
            let manifest = Manifest::read(keys).map_err(Failure::input)?;
            print(format_args!("{}\n", manifest.checksum))
        }
        What::List { key_store, json } => list(key_store, *json),
        What::Delete {
            fingerprint,
            key_store,
        } => delete(key_store, fingerprint),
    }
}

/// The store in a folder that is there.
fn store(dir: &Path) -> Result<KeyStore, Failure> {
    match dir.is_dir() {
        true => KeyStore::open(dir).map_err(Failure::foreign),
        false => Err(Failure::Input(format!(
            "--key-store {}: there is no such folder; name the one that `sotto serve --key-store` was given",
            dir.display()
        ))),
    }
}

fn list(dir: &Path, json: bool) -> Result<(), Failure> {
    let store = store(dir)?;
    let mut fingerprints = store.fingerprints().map_err(Failure::foreign)?;
    fingerprints.sort();
    for fingerprint in fingerprints {
        let Some(set) = store.find(&fingerprint) else {
            continue; // removed meanwhile
        };
        let manifest = Manifest::read(&set).map_err(Failure::input)?;
        if json {
            let line = json!({
                "fingerprint": fingerprint,
                "parameters_digest": manifest.parameters_digest,
                "keys": manifest.keys.len(),
                "bytes": manifest.bytes,
            });
            print(format_args!("{line}\n"))?;
            continue;
        }
        let (count, bytes) = (manifest.keys.len(), human_bytes(manifest.bytes));
        print(format_args!(
            "{fingerprint}  {count} keys, {bytes}, parameters {}\n",
            manifest.parameters_digest
        ))?;
    }
    Ok(())
}

fn delete(dir: &Path, fingerprint: &str) -> Result<(), Failure> {
    let store = store(dir)?;
    if store.find(fingerprint).is_none() {
        return Err(Failure::Input(format!(
            "{}: no keys with the fingerprint {fingerprint}; `sotto keys list` names those there are",
            dir.display()
        )));
    }
    store.remove(fingerprint).map_err(Failure::input)
}
