//! A file of a plan in the making, written piece by piece.

use super::{FileEntry, PlanError};
use crate::Digest;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// An open file, with the digest of what is in it so far.
#[derive(Debug)]
pub(super) struct Sheet {
    path: PathBuf,
    file: BufWriter<File>,
    hash: blake3::Hasher,
    bytes: u64,
}

impl Sheet {
    pub(super) fn create(path: PathBuf) -> Result<Self, PlanError> {
        let file = File::create(&path).map_err(PlanError::io("writing", &path))?;
        Ok(Self {
            path,
            file: BufWriter::new(file),
            hash: blake3::Hasher::new(),
            bytes: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), PlanError> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(PlanError::io("writing", &self.path))
    }

    /// Makes sure that all of it is on disk; gives digest and size.
    pub(super) fn finish(self) -> Result<(Digest, u64), PlanError> {
        let Self {
            path,
            mut file,
            hash,
            bytes,
        } = self;
        let flushed = file.flush().and_then(|()| file.get_ref().sync_all());
        flushed.map_err(PlanError::io("writing", &path))?;
        Ok((Digest(*hash.finalize().as_bytes()), bytes))
    }
}

/// A table of the client's side in the making, little-endian f32.
#[derive(Debug)]
pub struct TableWriter {
    /// Path inside the plan directory.
    path: String,
    sheet: Sheet,
}

impl TableWriter {
    pub(super) fn new(path: String, sheet: Sheet) -> Self {
        Self { path, sheet }
    }

    /// Adds entries, row by row.
    pub fn write(&mut self, values: &[f32]) -> Result<(), PlanError> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.sheet.write(&bytes)
    }

    /// The finished file.
    pub fn finish(self) -> Result<FileEntry, PlanError> {
        let (digest, bytes) = self.sheet.finish()?;
        Ok(FileEntry {
            path: self.path,
            bytes,
            digest,
        })
    }
}
