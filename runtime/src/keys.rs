//! A folder of evaluation keys: the key file, and a manifest, `keys.json`, that names what is in it.
//!
//! Nothing here is secret, and nothing here knows how a key is laid out inside the file. The file's checksum is the
//! *fingerprint* that names a set of keys on the server's disk.

use crate::proto::{Fault, FaultCode, wire};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Version of the manifest; a reader refuses any other.
pub const MANIFEST_VERSION: u32 = 1;
/// File name of the manifest.
pub const MANIFEST_FILE: &str = "keys.json";
/// File name of the keys.
pub const KEY_FILE: &str = "evaluation.keys";

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// `relinearise`, `rotate 16`, `conjugate`, …
    pub name: String,
    /// Highest level it serves.
    pub level: u32,
}

/// A key that a plan needs: a name and the highest level of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededKey {
    /// As in [`KeyEntry::name`].
    pub name: String,
    /// Highest level of use.
    pub level: u32,
}

/// What a folder of evaluation keys holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// Digest of the parameter set that the keys belong to.
    pub parameters_digest: String,
    /// The keys in the file.
    pub keys: Vec<KeyEntry>,
    /// Size of the file.
    pub bytes: u64,
    /// blake3 of the file, hexadecimal: the fingerprint of the set.
    pub checksum: String,
}

impl Manifest {
    /// Refuses a set that lacks a key, naming it, or has it only for lower levels. Keys beyond those needed are welcome.
    pub fn check_covers(&self, needed: &[NeededKey]) -> Result<(), Fault> {
        const REMEDY: &str = "generate keys for this plan with `sotto keygen --plan PLAN -o KEYS`";
        for need in needed {
            let best = self
                .keys
                .iter()
                .filter(|key| key.name == need.name)
                .map(|key| key.level)
                .max();
            let thing = match best {
                None => format!(
                    "the evaluation keys lack `{}` at level {}",
                    need.name, need.level
                ),
                Some(level) if level < need.level => format!(
                    "the evaluation key `{}` serves levels up to {level}, the plan uses it at level {}",
                    need.name, need.level
                ),
                Some(_) => continue,
            };
            return Err(Fault::new(FaultCode::KeyMissing, thing, REMEDY));
        }
        Ok(())
    }

    /// Reads the manifest of a folder.
    pub fn read(dir: &Path) -> Result<Self, KeyDirError> {
        let path = dir.join(MANIFEST_FILE);
        let text = fs::read_to_string(&path).map_err(|cause| KeyDirError::Read {
            path: path.clone(),
            cause,
        })?;
        let manifest: Self = serde_json::from_str(&text).map_err(|cause| KeyDirError::Damaged {
            path: path.clone(),
            cause: cause.to_string(),
        })?;
        if manifest.version != MANIFEST_VERSION {
            return Err(KeyDirError::Damaged {
                path,
                cause: format!(
                    "its version is {}, this program reads {MANIFEST_VERSION}",
                    manifest.version
                ),
            });
        }
        Ok(manifest)
    }

    /// Writes the manifest into a folder; written last, it marks the folder as complete.
    pub fn write(&self, dir: &Path) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        fs::write(dir.join(MANIFEST_FILE), text)
    }

    /// The manifest as a message.
    pub fn to_wire(&self) -> wire::KeyManifest {
        let entry = |key: &KeyEntry| wire::KeyEntry {
            name: key.name.clone(),
            level: key.level,
        };
        wire::KeyManifest {
            parameters_digest: self.parameters_digest.clone(),
            keys: self.keys.iter().map(entry).collect(),
            bytes: self.bytes,
            checksum: self.checksum.clone(),
        }
    }

    /// The manifest in a message.
    pub fn from_wire(message: wire::KeyManifest) -> Self {
        let entry = |key: wire::KeyEntry| KeyEntry {
            name: key.name,
            level: key.level,
        };
        Self {
            version: MANIFEST_VERSION,
            parameters_digest: message.parameters_digest,
            keys: message.keys.into_iter().map(entry).collect(),
            bytes: message.bytes,
            checksum: message.checksum,
        }
    }
}

/// Why a folder of evaluation keys cannot be used.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum KeyDirError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}; generate keys with `sotto keygen --plan PLAN -o KEYS`")]
    #[diagnostic(code(keys::read))]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} is damaged: {cause}; generate keys again with `sotto keygen`")]
    #[diagnostic(code(keys::damaged))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause, in words.
        cause: String,
    },
}

impl From<KeyDirError> for Fault {
    fn from(error: KeyDirError) -> Self {
        Fault::new(
            FaultCode::KeyDamaged,
            error.to_string(),
            "send the keys again",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let entry = |(name, level): (&str, u32)| KeyEntry {
            name: name.into(),
            level,
        };
        Manifest {
            version: MANIFEST_VERSION,
            parameters_digest: "p".into(),
            keys: [("relinearise", 16), ("rotate 4", 9)].map(entry).into(),
            bytes: 10,
            checksum: "c".into(),
        }
    }

    fn need(name: &str, level: u32) -> NeededKey {
        NeededKey {
            name: name.into(),
            level,
        }
    }

    #[test]
    fn a_missing_key_is_named() {
        let fault = manifest().check_covers(&[need("rotate 8", 3)]).unwrap_err();
        assert_eq!(fault.code, FaultCode::KeyMissing);
        assert!(fault.thing.contains("`rotate 8`"), "{fault}");
    }

    #[test]
    fn a_key_for_lower_levels_does_not_do() {
        let fault = manifest()
            .check_covers(&[need("rotate 4", 10)])
            .unwrap_err();
        assert!(fault.thing.contains("up to 9"), "{fault}");
    }

    #[test]
    fn a_subset_is_covered() {
        manifest().check_covers(&[need("rotate 4", 2)]).unwrap();
    }

    #[test]
    fn a_manifest_reads_back_from_disk_and_wire() {
        let dir = tempfile::tempdir().unwrap();
        manifest().write(dir.path()).unwrap();
        assert_eq!(Manifest::read(dir.path()).unwrap(), manifest());
        assert_eq!(Manifest::from_wire(manifest().to_wire()), manifest());
    }

    #[test]
    fn a_newer_manifest_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut newer = manifest();
        newer.version += 1;
        newer.write(dir.path()).unwrap();
        let error = Manifest::read(dir.path()).unwrap_err();
        assert!(error.to_string().contains("version"), "{error}");
    }
}
