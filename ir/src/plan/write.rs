//! Writing a plan directory.

use super::pack::pack;
use super::{ArrayEntry, Encoding, FileEntry, PLAN_VERSION, Plan, PlanError, PlanProgram, Weights};
use crate::Digest;
use crate::slot::{DataDecl, DataId, DataSource, Recipe};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes a plan directory, one array at a time.
///
/// Everything goes to a directory beside the target, which [`PlanWriter::finish`] renames: what stands at the target is a
/// whole plan or nothing. A writer that is dropped unfinished leaves nothing behind. Same input, same bytes.
#[derive(Debug)]
pub struct PlanWriter {
    target: PathBuf,
    partial: PathBuf,
    arrays: BTreeMap<(DataId, u32), ArrayEntry>,
    finished: bool,
}

impl PlanWriter {
    /// Start a plan at `dir`: a new path, an empty directory, or a plan to replace.
    ///
    /// # Errors
    /// [`PlanError::Occupied`] if something else is there; [`PlanError::Io`].
    pub fn create(dir: &Path) -> Result<Self, PlanError> {
        let name = Self::target(dir)?;
        let mut partial = OsString::from(".");
        partial.push(name);
        partial.push(format!(".partial-{}", std::process::id()));
        let partial = dir.with_file_name(partial);
        if partial.exists() {
            // Of a process with our number that died: ours now.
            fs::remove_dir_all(&partial).map_err(PlanError::io("removing", &partial))?;
        }
        for side in ["server", "client"] {
            let side = partial.join(side);
            fs::create_dir_all(&side).map_err(PlanError::io("creating", &side))?;
        }
        Ok(Self {
            target: dir.into(),
            partial,
            arrays: BTreeMap::new(),
            finished: false,
        })
    }

    /// The name of the directory to write, if a plan may be put there.
    ///
    /// # Errors
    /// [`PlanError::Occupied`] if something else is there.
    pub fn target(dir: &Path) -> Result<&OsStr, PlanError> {
        let free = !dir.exists() || dir.join("plan.ron").is_file() || is_empty(dir);
        let name = dir.file_name().filter(|_| free);
        name.ok_or_else(|| PlanError::Occupied { dir: dir.into() })
    }

    /// Write every array that `program` reads and that is not there yet, given where its weights come from: matrices as `matrices`,
    /// vectors and tables (which are few) as [`Encoding::I32`].
    pub fn write_arrays(
        &mut self,
        program: &PlanProgram,
        weights: Weights,
        source: &dyn DataSource,
        matrices: Encoding,
    ) -> Result<(), PlanError> {
        for (id, layer) in program.arrays(weights) {
            if self.arrays.contains_key(&(id, layer)) {
                continue;
            }
            let values = source.load(id, layer)?;
            // `load` has found it in the same table.
            let Some(decl) = program.data.get(id.0 as usize) else {
                continue;
            };
            let encoding = match decl.recipe {
                Recipe::Matrix(_) => matrices,
                _ => Encoding::I32,
            };
            self.write_array(id, decl, layer, &values, encoding)?;
        }
        Ok(())
    }

    /// Write one array.
    pub fn write_array(
        &mut self,
        data: DataId,
        decl: &DataDecl,
        layer: u32,
        values: &[f64],
        encoding: Encoding,
    ) -> Result<(), PlanError> {
        let packed = pack(values, encoding).map_err(|entry| PlanError::NotFinite {
            name: decl.name.clone(),
            layer,
            value: values[entry],
            entry,
        })?;
        let digest = digest(&packed.bytes);
        let hex = digest.to_string().replace("blake3:", "");
        let file = self.write(&format!("server/{hex}"), &packed.bytes, digest)?;
        let entry = ArrayEntry {
            data,
            layer,
            file,
            encoding,
            scale: packed.scale,
            error: packed.error,
        };
        self.arrays.insert((data, layer), entry);
        Ok(())
    }

    /// Write a file of the client's side under its name.
    pub fn write_client_file(&mut self, name: &str, bytes: &[u8]) -> Result<FileEntry, PlanError> {
        self.write(&format!("client/{name}"), bytes, digest(bytes))
    }

    /// Write a table of the client's side as little-endian f32, row by row.
    pub fn write_client_table(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = f32>,
    ) -> Result<FileEntry, PlanError> {
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        self.write_client_file(name, &bytes)
    }

    fn write(&self, path: &str, bytes: &[u8], digest: Digest) -> Result<FileEntry, PlanError> {
        let at = self.partial.join(path);
        let entry = FileEntry {
            path: path.into(),
            bytes: bytes.len() as u64,
            digest,
        };
        // A server file is named by its content: one that is there is this one.
        if !(path.starts_with("server/") && at.exists()) {
            write_file(&at, bytes)?;
        }
        Ok(entry)
    }

    /// Write `plan.ron`, with the arrays written so far as [`Plan::arrays`], and put the directory in place.
    pub fn finish(mut self, mut plan: Plan) -> Result<Plan, PlanError> {
        plan.arrays = std::mem::take(&mut self.arrays).into_values().collect();
        let text = plan_text(&plan)?;
        write_file(&self.partial.join("plan.ron"), text.as_bytes())?;
        let old = self.partial.with_extension("old");
        let replaces = self.target.exists();
        if replaces {
            fs::rename(&self.target, &old).map_err(PlanError::io("replacing", &self.target))?;
        }
        let placed = fs::rename(&self.partial, &self.target);
        if placed.is_err() && replaces {
            // Best effort to leave what was there; the error that matters follows.
            let _ = fs::rename(&old, &self.target);
        }
        placed.map_err(PlanError::io("creating", &self.target))?;
        self.finished = true;
        if replaces {
            fs::remove_dir_all(&old).map_err(PlanError::io("removing", &old))?;
        }
        Ok(plan)
    }
}

impl Drop for PlanWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing sensible is left to do with an error here.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), PlanError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(PlanError::io("writing", path))
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}

/// The text of `plan.ron`: a line with version and digest of what follows, then the plan.
///
/// Each field has its own depth down to which a structure is broken into lines, so that a key, a range, an instruction stand on
/// one line each.
pub(super) fn plan_text(plan: &Plan) -> Result<String, PlanError> {
    // by name, so that a new field cannot be forgotten here
    let Plan {
        version,
        compiler,
        model,
        security,
        disclosures,
        client,
        capacity,
        estimate,
        keys,
        bootstraps,
        approximations,
        sites,
        search,
        decisions,
        params,
        decode,
        prefill,
        arrays,
    } = plan;
    let body = [
        field("version", version, 0)?,
        field("compiler", compiler, 0)?,
        field("model", model, 1)?,
        field("security", security, 2)?,
        field("disclosures", disclosures, 1)?,
        field("client", client, 1)?,
        field("capacity", capacity, 0)?,
        field("estimate", estimate, 2)?,
        field("keys", keys, 2)?,
        field("bootstraps", bootstraps, 2)?,
        field("approximations", approximations, 1)?,
        field("sites", sites, 1)?,
        field("search", search, 0)?,
        field("decisions", decisions, 2)?,
        field("params", params, 1)?,
        field("decode", decode, 4)?,
        field("prefill", prefill, 6)?,
        field("arrays", arrays, 1)?,
    ];
    let body = format!("(\n{})\n", body.concat());
    let digest = digest(body.as_bytes());
    Ok(format!("// sotto plan {PLAN_VERSION} {digest}\n{body}"))
}

fn field<T: Serialize>(name: &str, value: &T, depth: usize) -> Result<String, PlanError> {
    let pretty = ron::ser::PrettyConfig::new()
        .depth_limit(depth)
        .indentor("  ")
        .new_line("\n");
    let text = ron::ser::to_string_pretty(value, pretty);
    let text = text.map_err(|e| PlanError::Text(e.to_string()))?;
    // A line break inside a string is escaped, so every one here is the printer's.
    let text = text.replace('\n', "\n  ");
    Ok(format!("  {name}: {text},\n"))
}
