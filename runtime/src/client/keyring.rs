//! The key folder that `sotto keygen` makes: the secret key, which never leaves it, and what the server gets.

use crate::cpu::{key_name, parameters_digest, request};
use crate::keys::{KEY_FILE, KeyDirError, KeyEntry, MANIFEST_VERSION, Manifest};
use sotto_ckks::{CkksError, Context, KeyGenerator, SecretKey};
use sotto_ir::plan::Plan;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// File name of the secret key.
const SECRET_FILE: &str = "secret.key";
/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;
/// Folder of evaluation keys.
const EVALUATION_DIR: &str = "evaluation";

/// Why a key folder cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// There is something at the output path already.
    #[error("{0} exists already, and keys are never overwritten; choose another -o or remove it")]
    Exists(PathBuf),
    /// Writing failed; nothing is left behind.
    #[error(
        "writing keys to {path}: {cause}; about {bytes} bytes are needed there, and nothing was left behind"
    )]
    Write {
        /// The output folder.
        path: PathBuf,
        /// The cause, in words.
        cause: String,
        /// Bytes that the keys take.
        bytes: u64,
    },
    /// The secret key is not its owner's alone.
    #[error(
        "{path} may be read or changed by others than its owner (mode {mode:o}); run `chmod 600 {path}`, and make new keys if somebody \
         may have read it"
    )]
    Exposed {
        /// The secret key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The scheme refused.
    #[error(transparent)]
    Scheme(#[from] CkksError),
    /// The evaluation keys cannot be used.
    #[error(transparent)]
    Evaluation(#[from] KeyDirError),
}

/// What was generated.
#[derive(Clone, Debug)]
pub struct Made {
    /// What the evaluation keys' file holds.
    pub manifest: Manifest,
}

/// A key folder.
#[derive(Clone, Debug)]
pub struct Keyring {
    dir: PathBuf,
}

impl Keyring {
    /// The key folder at `dir`.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
        }
    }

    /// The folder that the server may have.
    pub fn evaluation(&self) -> PathBuf {
        self.dir.join(EVALUATION_DIR)
    }

    /// Reads the secret key, whose file must be its owner's alone.
    pub fn secret(&self, context: &Context) -> Result<SecretKey, KeyringError> {
        let path = self.dir.join(SECRET_FILE);
        // A file that is absent or cannot be looked at is named by the reader.
        if let Ok(metadata) = fs::metadata(&path) {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & OTHERS != 0 {
                return Err(KeyringError::Exposed { path, mode });
            }
        }
        Ok(SecretKey::read_file(context, path)?)
    }

    /// Generates every key that a plan needs into this folder, which must not exist: whole or not at all. `progress` hears
    /// how many evaluation keys are done and how many there are.
    pub fn generate(
        &self,
        plan: &Plan,
        context: &Context,
        progress: impl FnMut(usize, usize),
    ) -> Result<Made, KeyringError> {
        if self.dir.exists() {
            return Err(KeyringError::Exists(self.dir.clone()));
        }
        let failed = |cause: String| KeyringError::Write {
            path: self.dir.clone(),
            cause,
            // The uniform half of a key is a seed on disk.
            bytes: plan.estimate.key_bytes / 2,
        };
        let write = |error: CkksError| match error {
            CkksError::Io { path, source } => failed(format!("{}: {source}", path.display())),
            other => KeyringError::Scheme(other),
        };
        let io = |cause: io::Error| failed(cause.to_string());
        let parent = match self.dir.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(io)?;
        let building = tempfile::Builder::new()
            .prefix(".keys-")
            .tempdir_in(parent)
            .map_err(io)?;
        let evaluation = building.path().join(EVALUATION_DIR);
        fs::create_dir(&evaluation).map_err(io)?;

        let secret = SecretKey::generate(context)?;
        secret
            .write_file(building.path().join(SECRET_FILE))
            .map_err(write)?;
        let generator = KeyGenerator::new(&secret);
        let wanted = request(&plan.keys, context);
        let file = evaluation.join(KEY_FILE);
        generator
            .write_evaluation_keys(&wanted, &file, progress)
            .map_err(write)?;
        let log_n = context.params().log_n;
        let entry = |(kind, level)| KeyEntry {
            name: key_name(kind, log_n),
            level: level as u32,
        };
        let mut hash = blake3::Hasher::new();
        hash.update_reader(File::open(&file).map_err(io)?)
            .map_err(io)?;
        let manifest = Manifest {
            version: MANIFEST_VERSION,
            parameters_digest: parameters_digest(context.params()),
            keys: wanted.kinds().into_iter().map(entry).collect(),
            bytes: hash.count(),
            checksum: hash.finalize().to_hex().to_string(),
        };
        manifest.write(&evaluation).map_err(io)?;
        fs::rename(building.path(), &self.dir).map_err(io)?;
        Ok(Made { manifest })
    }
}
