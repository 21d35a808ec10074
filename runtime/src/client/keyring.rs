//! The key folder that `sotto keygen` makes: the secret key, which never leaves it, and what the server gets.

use super::Unfinished;
use crate::cipher::{key_name, parameters_digest, request};
use crate::keys::{KEY_FILE, KeyDirError, KeyEntry, MANIFEST_VERSION, Manifest};
use miette::Diagnostic;
use sotto_ckks::{CkksError, Context, KeyGenerator, SecretKey};
use sotto_ir::plan::Plan;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// File name of the secret key.
const SECRET_FILE: &str = "secret.key";
/// Permissions of anybody but the owner.
const OTHERS: u32 = 0o077;
/// Folder of evaluation keys.
const EVALUATION_DIR: &str = "evaluation";

/// Why a key folder cannot be made or used.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum KeyringError {
    /// There is something at the output path already.
    #[error("{0} exists already, and keys are never overwritten; choose another -o or remove it")]
    #[diagnostic(code(keyring::exists))]
    Exists(PathBuf),
    /// Writing failed; nothing is left behind.
    #[error(
        "writing keys to {path}: {cause}; about {bytes} bytes are needed there, and nothing was left behind"
    )]
    #[diagnostic(code(keyring::write))]
    Write {
        /// The output folder.
        path: PathBuf,
        /// The cause, in words.
        cause: String,
        /// Bytes that the keys take.
        bytes: u64,
    },
    /// The folder holds no secret key.
    #[error("there is no secret.key in {dir}: {remedy}")]
    #[diagnostic(code(keyring::no_secret))]
    NoSecret {
        /// The folder.
        dir: PathBuf,
        /// What to do.
        remedy: String,
    },
    /// The secret key is not its owner's alone.
    #[error(
        "{path} may be read or changed by others than its owner (mode {mode:o}); run `chmod 600 {path}`, and make new keys if somebody \
         may have read it"
    )]
    #[diagnostic(code(keyring::exposed))]
    Exposed {
        /// The secret key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The scheme refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scheme(#[from] CkksError),
    /// The evaluation keys cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
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
    unfinished: Unfinished,
}

impl Keyring {
    /// The key folder at `dir`.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            unfinished: Unfinished::default(),
        }
    }

    /// The folder that the server may have.
    pub fn evaluation(&self) -> PathBuf {
        self.dir.join(EVALUATION_DIR)
    }

    /// Reads the secret key, whose file must be its owner's alone.
    pub fn secret(&self, context: &Context) -> Result<SecretKey, KeyringError> {
        let path = self.dir.join(SECRET_FILE);
        if !path.exists() {
            return Err(self.no_secret());
        }
        // A file that cannot be looked at is named by the reader.
        if let Ok(metadata) = fs::metadata(&path) {
            let mode = metadata.permissions().mode() & 0o777;
            if mode & OTHERS != 0 {
                return Err(KeyringError::Exposed { path, mode });
            }
        }
        Ok(SecretKey::read_file(context, path)?)
    }

    fn no_secret(&self) -> KeyringError {
        let dir = self.dir.clone();
        // Both are easily taken for each other: the folder for the server lies in the client's.
        let remedy = match dir.parent() {
            Some(parent) if parent.join(SECRET_FILE).exists() => format!(
                "that folder is the server's part; pass --keys {}",
                parent.display()
            ),
            _ => "pass --keys KEYS as `sotto keygen --plan PLAN -o KEYS` made it".into(),
        };
        KeyringError::NoSecret { dir, remedy }
    }

    /// The same, with somebody who may remove the folder in the making.
    pub fn tracked(mut self, unfinished: &Unfinished) -> Self {
        self.unfinished = unfinished.clone();
        self
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
        let building = self.begin().map_err(|cause| failed(cause.to_string()))?;
        let filled = fill(building.path(), plan, context, progress);
        // Where the process is ending, this waits for the end; what fails from here on is removed before anybody else may end it.
        let mut place = self.unfinished.place();
        let removed = |building: TempDir, error: KeyringError| match building.close() {
            Ok(()) => error,
            Err(cause) => failed(format!(
                "{error}; and the folder in the making, which holds a secret key, could not be removed: {cause}"
            )),
        };
        let manifest = match filled {
            Ok(manifest) => manifest,
            Err(error) => {
                let error = match error {
                    Unfilled::Scheme(CkksError::Io { path, source }) => {
                        failed(format!("{}: {source}", path.display()))
                    }
                    Unfilled::Scheme(other) => KeyringError::Scheme(other),
                    Unfilled::Io(cause) => failed(cause.to_string()),
                };
                let error = removed(building, error);
                *place = None;
                return Err(error);
            }
        };
        let renamed = fs::rename(building.path(), &self.dir);
        if let Err(cause) = renamed {
            let error = removed(building, failed(cause.to_string()));
            *place = None;
            return Err(error);
        }
        *place = None;
        Ok(Made { manifest })
    }

    /// A folder to make the keys in, beside the place they will have.
    fn begin(&self) -> io::Result<TempDir> {
        let parent = match self.dir.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent)?;
        let mut place = self.unfinished.place();
        let building = tempfile::Builder::new()
            .prefix(".keys-")
            .tempdir_in(parent)?;
        *place = Some(building.path().to_path_buf());
        Ok(building)
    }
}

/// Why a key folder was not filled.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum Unfilled {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scheme(#[from] CkksError),
    /// The file could not be written.
    #[error("{0}")]
    #[diagnostic(code(keyring::io))]
    Io(#[from] io::Error),
}

/// Makes every key that a plan needs in an empty folder.
fn fill(
    dir: &Path,
    plan: &Plan,
    context: &Context,
    progress: impl FnMut(usize, usize),
) -> Result<Manifest, Unfilled> {
    let evaluation = dir.join(EVALUATION_DIR);
    fs::create_dir(&evaluation)?;
    let secret = SecretKey::generate(context)?;
    secret.write_file(dir.join(SECRET_FILE))?;
    let wanted = request(&plan.keys, context);
    let file = evaluation.join(KEY_FILE);
    KeyGenerator::new(&secret).write_evaluation_keys(&wanted, &file, progress)?;
    let log_n = context.params().log_n;
    let entry = |(kind, level)| KeyEntry {
        name: key_name(kind, log_n),
        level: level as u32,
    };
    let mut hash = blake3::Hasher::new();
    hash.update_reader(File::open(&file)?)?;
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        parameters_digest: parameters_digest(context.params()),
        keys: wanted.kinds().into_iter().map(entry).collect(),
        bytes: hash.count(),
        checksum: hash.finalize().to_hex().to_string(),
    };
    manifest.write(&evaluation)?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_in_the_making_is_removed_with_what_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let unfinished = Unfinished::default();
        drop(unfinished.remove());
        let keyring = Keyring::at(&root.path().join("keys")).tracked(&unfinished);
        let building = keyring.begin().unwrap();
        fs::write(building.path().join(SECRET_FILE), "secret").unwrap();
        drop(unfinished.remove());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_finished_stays() {
        let root = tempfile::tempdir().unwrap();
        let unfinished = Unfinished::default();
        let keyring = Keyring::at(&root.path().join("keys")).tracked(&unfinished);
        let building = keyring.begin().unwrap();
        *unfinished.place() = None;
        drop(unfinished.remove());
        assert!(building.path().is_dir());
    }
}
