//! Reading a plan directory.
//!
//! Arrays are read whole, checked and converted at each use: a mapping would save one copy of bytes that are converted to
//! floats and then encoded anyway, and would turn a file truncated behind our back into a crash.

use super::pack::unpack;
use super::write::digest;
use super::{FileEntry, PLAN_VERSION, Plan, PlanError};
use crate::Digest;
use crate::slot::{DataError, DataId, DataSource, Recipe};
use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

impl Plan {
    /// Read `plan.ron` of a plan directory, with the digest that names the plan. Files beside it are not looked at:
    /// [`PlanData::open`] does that for the server's side, [`FileEntry::read`] for the client's.
    pub fn open(dir: &Path) -> Result<(Self, Digest), PlanError> {
        let path = dir.join("plan.ron");
        if !path.is_file() {
            return Err(PlanError::NoPlan { dir: dir.into() });
        }
        let bytes = fs::read(&path).map_err(PlanError::io("reading", &path))?;
        Self::parse(&bytes, &path)
    }

    /// Read the content of a `plan.ron`; `path` is for errors.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<(Self, Digest), PlanError> {
        let header = || PlanError::Header { path: path.into() };
        let end = bytes.iter().position(|&b| b == b'\n').ok_or_else(header)?;
        let (first, body) = (&bytes[..end], &bytes[end + 1..]);
        let first = std::str::from_utf8(first).map_err(|_| header())?;
        let words: Vec<&str> = first.split(' ').collect();
        let ["//", "sotto", "plan", version, expected] = words[..] else {
            return Err(header());
        };
        let found: u32 = version.parse().map_err(|_| header())?;
        if found != PLAN_VERSION {
            let path = path.into();
            return Err(PlanError::Version { path, found });
        }
        let expected: Digest = expected.parse().map_err(|_| header())?;
        let found = digest(body);
        if found != expected {
            return Err(PlanError::Digest {
                path: path.into(),
                expected,
                found,
            });
        }
        let plan: Self = ron::de::from_bytes(body).map_err(|e| PlanError::Syntax {
            path: path.into(),
            // The header line is not in the body.
            place: format!("{}:{}", e.span.start.line + 1, e.span.start.col),
            message: e.code.to_string(),
        })?;
        if plan.version != PLAN_VERSION {
            let (path, found) = (path.into(), plan.version);
            return Err(PlanError::Version { path, found });
        }
        Ok((plan, found))
    }
}

impl Plan {
    /// Read every file of the server's side and check its digest; a plan without weights has few.
    pub fn check_arrays(&self, dir: &Path) -> Result<(), PlanError> {
        let mut files: Vec<&FileEntry> = self.arrays.iter().map(|a| &a.file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup();
        files.iter().try_for_each(|file| file.read(dir).map(|_| ()))
    }
}

impl FileEntry {
    /// Where the file is in a plan directory.
    pub fn locate(&self, dir: &Path) -> Result<PathBuf, PlanError> {
        let path = Path::new(&self.path);
        let mut parts = path.components();
        let side =
            matches!(parts.next(), Some(Component::Normal(s)) if s == "server" || s == "client");
        let inside = side && path.components().all(|c| matches!(c, Component::Normal(_)));
        if !inside {
            let path = self.path.clone();
            return Err(PlanError::Path { path });
        }
        Ok(dir.join(path))
    }

    /// Whether the file is there with its size.
    pub fn check_size(&self, dir: &Path) -> Result<(), PlanError> {
        let path = self.locate(dir)?;
        let found = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(PlanError::Missing {
                    path,
                    expected: self.bytes,
                    digest: self.digest,
                });
            }
            Err(e) => return Err(PlanError::io("reading", &path)(e)),
        };
        let expected = self.bytes;
        if found != expected {
            return Err(PlanError::Size {
                path,
                expected,
                found,
            });
        }
        Ok(())
    }

    /// The content, with size and digest checked.
    pub fn read(&self, dir: &Path) -> Result<Vec<u8>, PlanError> {
        self.check_size(dir)?;
        let path = self.locate(dir)?;
        let bytes = fs::read(&path).map_err(PlanError::io("reading", &path))?;
        let (expected, found) = (self.digest, digest(&bytes));
        if found != expected {
            return Err(PlanError::Digest {
                path,
                expected,
                found,
            });
        }
        Ok(bytes)
    }

    /// The content as little-endian f32, with size and digest checked.
    pub fn read_table(&self, dir: &Path) -> Result<Vec<f32>, PlanError> {
        let bytes = self.read(dir)?;
        let entries = bytes.chunks_exact(4);
        Ok(entries
            .map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]))
            .collect())
    }
}

/// The arrays of a plan's server side.
#[derive(Debug)]
pub struct PlanData {
    dir: PathBuf,
    plan: Arc<Plan>,
    /// Index into `plan.arrays`.
    arrays: HashMap<(DataId, u32), usize>,
}

impl PlanData {
    /// Find every array, at its size. Digests are checked whenever an array is read; [`PlanData::check`] reads all.
    ///
    /// # Errors
    /// [`PlanError::NoWeights`] where the plan has none; a file that is missing, unreadable or of another size.
    pub fn open(dir: &Path, plan: Arc<Plan>) -> Result<Self, PlanError> {
        plan.require_weights(dir)?;
        let mut arrays = HashMap::new();
        for (i, array) in plan.arrays.iter().enumerate() {
            array.file.check_size(dir)?;
            arrays.insert((array.data, array.layer), i);
        }
        Ok(Self {
            dir: dir.into(),
            plan,
            arrays,
        })
    }

    /// Read every file of the server's side and check its digest.
    pub fn check(&self) -> Result<(), PlanError> {
        self.plan.check_arrays(&self.dir)
    }
}

impl DataSource for PlanData {
    fn load(&self, id: DataId, layer: u32) -> Result<Arc<[f64]>, DataError> {
        let decl = self.plan.widest().data.get(id.0 as usize);
        let name = || decl.map_or(format!("data #{}", id.0), |d| d.name.clone());
        let missing = || DataError::Missing {
            name: name(),
            layer,
            remedy: "the plan has no array for it; compile the model again".into(),
        };
        let layer = if decl.is_some_and(|d| d.per_layer) {
            layer
        } else {
            0
        };
        if let Some(Recipe::Values(layers)) = decl.map(|d| &d.recipe) {
            // One for all layers, or one each.
            let values = layers.get(layer as usize).filter(|_| layers.len() > 1);
            let values = values.or(layers.first().filter(|_| layers.len() == 1));
            return values.map(|v| v[..].into()).ok_or_else(missing);
        }
        let array = self.arrays.get(&(id, layer)).ok_or_else(missing)?;
        let array = &self.plan.arrays[*array];
        let bytes = array.file.read(&self.dir).map_err(|e| DataError::Read {
            name: name(),
            cause: e.to_string(),
        })?;
        Ok(unpack(&bytes, array.encoding, array.scale).into())
    }
}
