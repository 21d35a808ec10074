//! Evaluation keys on the server's disk, by fingerprint.
//!
//! An upload is assembled in a folder of its own and moved to its fingerprint once every byte has arrived and the whole has the
//! checksum its manifest states. A manifest that lacks a key of the plan is refused before any byte. A broken upload leaves nothing behind.

use crate::keys::{KEY_FILE, Manifest, NeededKey};
use crate::proto::wire::{KeyChunk, KeyManifest};
use crate::proto::{Fault, FaultCode};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Most keys that an upload may name; a plan needs a few hundred.
const MAX_KEYS: usize = 1 << 14;

/// Folder of key folders.
#[derive(Debug)]
pub struct KeyStore {
    root: PathBuf,
}

impl KeyStore {
    /// A store in `root`, which is created if absent.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self {
            root: root.to_path_buf(),
        })
    }

    /// The folder of a fingerprint, if the store has it.
    pub fn find(&self, fingerprint: &str) -> Option<PathBuf> {
        let hex = fingerprint.len() == 64 && fingerprint.bytes().all(|b| b.is_ascii_hexdigit());
        let dir = self.root.join(fingerprint);
        (hex && dir.is_dir()).then_some(dir)
    }

    /// Begins an upload that must cover `needed` under `parameters`.
    pub fn receive(
        &self,
        manifest: KeyManifest,
        parameters: &str,
        needed: &[NeededKey],
    ) -> Result<Upload, Fault> {
        let manifest = Manifest::from_wire(manifest);
        if manifest.parameters_digest != parameters {
            return Err(Fault::new(
                FaultCode::ParametersMismatch,
                format!(
                    "the evaluation keys belong to parameters {}, the plan to {parameters}",
                    manifest.parameters_digest
                ),
                "generate keys with the plan that the server runs",
            ));
        }
        if manifest.keys.len() > MAX_KEYS {
            return Err(Fault::new(
                FaultCode::KeyDamaged,
                format!("a manifest of {} keys", manifest.keys.len()),
                format!("send at most {MAX_KEYS}"),
            ));
        }
        manifest.check_covers(needed)?;
        let dir = tempfile::Builder::new()
            .prefix("incoming-")
            .tempdir_in(&self.root)
            .map_err(storage)?;
        let file = File::create_new(dir.path().join(KEY_FILE)).map_err(storage)?;
        Ok(Upload {
            manifest,
            dir,
            file,
            hash: blake3::Hasher::new(),
            written: 0,
        })
    }

    /// Moves a finished upload to its place; returns its fingerprint and bytes.
    pub fn admit(&self, upload: Upload) -> Result<(String, u64), Fault> {
        let Upload {
            manifest,
            dir,
            hash,
            written,
            ..
        } = upload;
        if written != manifest.bytes {
            return Err(damaged(format!(
                "the upload ended after {written} of {} bytes of evaluation keys",
                manifest.bytes
            )));
        }
        let fingerprint = hash.finalize().to_hex().to_string();
        if fingerprint != manifest.checksum {
            return Err(damaged(
                "the evaluation keys do not have the checksum their manifest states",
            ));
        }
        manifest.write(dir.path()).map_err(storage)?;
        if self.find(&fingerprint).is_none() {
            fs::rename(dir.path(), self.root.join(&fingerprint)).map_err(storage)?;
        }
        Ok((fingerprint, written))
    }
}

/// An upload in progress; dropping it removes what arrived.
pub struct Upload {
    manifest: Manifest,
    dir: TempDir,
    file: File,
    hash: blake3::Hasher,
    written: u64,
}

impl Upload {
    /// Takes the next chunk; chunks come in order.
    pub fn take(&mut self, chunk: &KeyChunk) -> Result<(), Fault> {
        let end = self.written + chunk.data.len() as u64;
        if chunk.offset != self.written || end > self.manifest.bytes || chunk.data.is_empty() {
            return Err(damaged(format!(
                "bytes {}..{} of the evaluation keys where {}..{} were expected",
                chunk.offset,
                chunk.offset.saturating_add(chunk.data.len() as u64),
                self.written,
                self.manifest.bytes
            )));
        }
        self.file.write_all(&chunk.data).map_err(storage)?;
        self.hash.update(&chunk.data);
        self.written = end;
        Ok(())
    }
}

fn damaged(thing: impl Into<String>) -> Fault {
    Fault::new(FaultCode::KeyDamaged, thing, "send the keys again")
}

fn storage(cause: std::io::Error) -> Fault {
    Fault::new(
        FaultCode::Storage,
        format!("storing evaluation keys: {cause}"),
        "free disk space on the server or choose another --key-store",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyEntry, MANIFEST_VERSION};

    const BODY: &[u8] = b"the bytes of a key file";

    fn manifest() -> Manifest {
        Manifest {
            version: MANIFEST_VERSION,
            parameters_digest: "p".into(),
            keys: vec![KeyEntry {
                name: "relinearise".into(),
                level: 16,
            }],
            bytes: BODY.len() as u64,
            checksum: blake3::hash(BODY).to_hex().to_string(),
        }
    }

    fn chunk(offset: usize, data: &[u8]) -> KeyChunk {
        KeyChunk {
            offset: offset as u64,
            data: data.to_vec(),
        }
    }

    fn store() -> (TempDir, KeyStore) {
        let root = tempfile::tempdir().unwrap();
        let store = KeyStore::open(root.path()).unwrap();
        (root, store)
    }

    #[test]
    fn an_upload_in_two_chunks_is_found_by_its_fingerprint() {
        let (_root, store) = store();
        let mut upload = store.receive(manifest().to_wire(), "p", &[]).unwrap();
        upload.take(&chunk(0, &BODY[..7])).unwrap();
        upload.take(&chunk(7, &BODY[7..])).unwrap();
        let (fingerprint, bytes) = store.admit(upload).unwrap();
        assert_eq!(bytes, BODY.len() as u64);
        let dir = store.find(&fingerprint).unwrap();
        assert_eq!(fs::read(dir.join(KEY_FILE)).unwrap(), BODY);
        assert_eq!(Manifest::read(&dir).unwrap(), manifest());
    }

    #[test]
    fn a_flipped_bit_is_refused_and_nothing_stays() {
        let (root, store) = store();
        let mut body = BODY.to_vec();
        body[3] ^= 1;
        let mut upload = store.receive(manifest().to_wire(), "p", &[]).unwrap();
        upload.take(&chunk(0, &body)).unwrap();
        let fault = store.admit(upload).unwrap_err();
        assert_eq!(fault.code, FaultCode::KeyDamaged);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_upload_that_ends_early_or_skips_is_refused() {
        let (root, store) = store();
        let mut upload = store.receive(manifest().to_wire(), "p", &[]).unwrap();
        upload.take(&chunk(0, &BODY[..7])).unwrap();
        assert!(upload.take(&chunk(8, &BODY[8..])).is_err());
        let fault = store.admit(upload).unwrap_err();
        assert!(fault.thing.contains("7 of"), "{fault}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn other_parameters_or_a_missing_key_are_refused_before_any_byte() {
        let (_root, store) = store();
        let refused = |parameters, needed: &[NeededKey]| {
            let upload = store.receive(manifest().to_wire(), parameters, needed);
            upload.err().expect("refused").code
        };
        assert_eq!(refused("q", &[]), FaultCode::ParametersMismatch);
        let needed = NeededKey {
            name: "rotate 3".into(),
            level: 1,
        };
        assert_eq!(refused("p", &[needed]), FaultCode::KeyMissing);
    }

    #[test]
    fn a_fingerprint_is_no_path() {
        let (_root, store) = store();
        assert_eq!(store.find(".."), None);
        assert_eq!(store.find(""), None);
    }
}
