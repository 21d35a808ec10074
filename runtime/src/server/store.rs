//! Evaluation keys on the server's disk, by fingerprint.
//!
//! An upload is assembled in a folder of its own and moved to its fingerprint once every byte has arrived and the whole has the
//! checksum its manifest states. A manifest that lacks a key of the plan, or announces more bytes than the plan's keys take, is refused
//! before any byte. A broken upload leaves nothing behind. A set takes gigabytes, so the store keeps the set in use and the one that
//! arrived last.

use crate::keys::{KEY_FILE, Manifest, NeededKey};
use crate::proto::wire::{KeyChunk, KeyManifest};
use crate::proto::{Fault, FaultCode};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Most keys that an upload may name; a plan needs a few hundred.
const MAX_KEYS: usize = 1 << 14;
/// What an upload may have beyond the plan's keys, as a part of their bytes: a few keys more, or for higher levels.
const SLACK: u64 = 8;

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

    /// Begins an upload that must cover `needed`, whose file takes `needed_bytes`, under `parameters`.
    pub fn receive(
        &self,
        manifest: KeyManifest,
        parameters: &str,
        needed: &[NeededKey],
        needed_bytes: u64,
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
        let most = needed_bytes.saturating_add(needed_bytes / SLACK);
        if manifest.bytes > most {
            return Err(Fault::new(
                FaultCode::KeyDamaged,
                format!(
                    "an upload of {} bytes where the plan's evaluation keys take {needed_bytes}",
                    manifest.bytes
                ),
                "generate keys for this plan with `sotto keygen --plan PLAN -o KEYS`",
            ));
        }
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

    /// Moves a finished upload to its place; returns its fingerprint and bytes. Of the sets that were there before, only
    /// `in_use` stays.
    pub fn admit(&self, upload: Upload, in_use: Option<&str>) -> Result<(String, u64), Fault> {
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
        for name in self.fingerprints().map_err(storage)? {
            if name != fingerprint && Some(name.as_str()) != in_use {
                self.remove(&name)?;
            }
        }
        Ok((fingerprint, written))
    }

    /// Removes a set; one that is not there is no error.
    pub fn remove(&self, fingerprint: &str) -> Result<(), Fault> {
        match self.find(fingerprint) {
            Some(dir) => fs::remove_dir_all(dir).map_err(storage),
            None => Ok(()),
        }
    }

    /// The sets in the store, in no order.
    pub fn fingerprints(&self) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            names.extend(entry?.file_name().into_string());
        }
        // Whatever else a user keeps in that folder is none of ours.
        names.retain(|name| self.find(name).is_some());
        Ok(names)
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

    fn receive(store: &KeyStore, manifest: Manifest) -> Result<Upload, Fault> {
        store.receive(manifest.to_wire(), "p", &[], BODY.len() as u64)
    }

    /// A whole upload of these bytes.
    fn upload(store: &KeyStore, body: &[u8]) -> Upload {
        let mut other = manifest();
        other.checksum = blake3::hash(body).to_hex().to_string();
        let mut upload = receive(store, other).unwrap();
        upload.take(&chunk(0, body)).unwrap();
        upload
    }

    fn store() -> (TempDir, KeyStore) {
        let root = tempfile::tempdir().unwrap();
        let store = KeyStore::open(root.path()).unwrap();
        (root, store)
    }

    #[test]
    fn an_upload_in_two_chunks_is_found_by_its_fingerprint() {
        let (_root, store) = store();
        let mut upload = receive(&store, manifest()).unwrap();
        upload.take(&chunk(0, &BODY[..7])).unwrap();
        upload.take(&chunk(7, &BODY[7..])).unwrap();
        let (fingerprint, bytes) = store.admit(upload, None).unwrap();
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
        let mut upload = receive(&store, manifest()).unwrap();
        upload.take(&chunk(0, &body)).unwrap();
        let fault = store.admit(upload, None).unwrap_err();
        assert_eq!(fault.code, FaultCode::KeyDamaged);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_upload_that_ends_early_or_skips_is_refused() {
        let (root, store) = store();
        let mut upload = receive(&store, manifest()).unwrap();
        upload.take(&chunk(0, &BODY[..7])).unwrap();
        assert!(upload.take(&chunk(8, &BODY[8..])).is_err());
        let fault = store.admit(upload, None).unwrap_err();
        assert!(fault.thing.contains("7 of"), "{fault}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn other_parameters_or_a_missing_key_are_refused_before_any_byte() {
        let (_root, store) = store();
        let refused = |parameters, needed: &[NeededKey]| {
            let upload = store.receive(manifest().to_wire(), parameters, needed, 1 << 20);
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
    fn more_bytes_than_the_keys_take_are_refused_before_any() {
        let (root, store) = store();
        let mut large = manifest();
        large.bytes += large.bytes / SLACK + 1;
        let fault = receive(&store, large).err().expect("refused");
        assert_eq!(fault.code, FaultCode::KeyDamaged);
        assert!(fault.thing.contains("26 bytes"), "{fault}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_set_in_use_and_the_last_to_arrive_stay() {
        let (root, store) = store();
        fs::write(root.path().join("notes"), "not a set").unwrap();
        let bodies: Vec<Vec<u8>> = (0..3).map(|i| vec![i; BODY.len()]).collect();
        let (used, _) = store.admit(upload(&store, &bodies[0]), None).unwrap();
        let (gone, _) = store
            .admit(upload(&store, &bodies[1]), Some(&used))
            .unwrap();
        let (last, _) = store
            .admit(upload(&store, &bodies[2]), Some(&used))
            .unwrap();
        let there = [&used, &gone, &last].map(|name| store.find(name).is_some());
        assert_eq!(there, [true, false, true]);
        store.remove(&used).unwrap();
        store.remove(&used).unwrap();
        assert_eq!(store.find(&used), None);
        assert!(root.path().join("notes").is_file());
    }

    #[test]
    fn a_fingerprint_is_no_path() {
        let (_root, store) = store();
        assert_eq!(store.find(".."), None);
        assert_eq!(store.find(""), None);
    }
}
