//! Writing a plan directory.

use super::pack::Survey;
use super::sheet::{Sheet, TableWriter};
use super::{ArrayEntry, Encoding, FileEntry, PLAN_VERSION, Plan, PlanError, PlanProgram, Weights};
use crate::Digest;
use crate::slot::{DataDecl, DataError, DataId, DataSource, Recipe};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Writes a plan directory, one array at a time, each piece by piece: no array is ever held whole.
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
    /// vectors and tables (which are few) as [`Encoding::I32`]. `done` hears how many are written, and of how many.
    pub fn write_arrays(
        &mut self,
        program: &PlanProgram,
        weights: Weights,
        source: &dyn DataSource,
        matrices: Encoding,
        done: &mut dyn FnMut(usize, usize),
    ) -> Result<(), PlanError> {
        let arrays = program.arrays(weights);
        for (number, (id, layer)) in arrays.iter().copied().enumerate() {
            done(number, arrays.len());
            if self.arrays.contains_key(&(id, layer)) {
                continue;
            }
            let Some(decl) = program.data.get(id.0 as usize) else {
                let remedy = "the program declares no data with this number".into();
                let name = format!("data #{}", id.0);
                return Err(DataError::Missing {
                    name,
                    layer,
                    remedy,
                }
                .into());
            };
            let encoding = match decl.recipe {
                Recipe::Matrix(_) => matrices,
                _ => Encoding::I32,
            };
            self.write_array(id, decl, layer, source, encoding)?;
        }
        Ok(())
    }

    /// Write one array.
    pub fn write_array(
        &mut self,
        data: DataId,
        decl: &DataDecl,
        layer: u32,
        source: &dyn DataSource,
        encoding: Encoding,
    ) -> Result<(), PlanError> {
        let mut packer = survey(data, decl, layer, source)?.packer(encoding);
        let mut sheet = Sheet::create(self.partial.join("server/array"))?;
        let mut bytes = Vec::new();
        let mut written = Ok(());
        source.pieces(data, layer, &mut |values| {
            bytes.clear();
            packer.pack(values, &mut bytes);
            written = sheet.write(&bytes);
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        written?;
        let file = self.by_content(sheet)?;
        let entry = ArrayEntry {
            data,
            layer,
            file,
            encoding,
            scale: packer.scale,
            error: packer.error,
        };
        self.arrays.insert((data, layer), entry);
        Ok(())
    }

    /// Write a file of the client's side under its name.
    pub fn write_client_file(&mut self, name: &str, bytes: &[u8]) -> Result<FileEntry, PlanError> {
        let path = format!("client/{name}");
        let mut sheet = Sheet::create(self.partial.join(&path))?;
        sheet.write(bytes)?;
        let (digest, bytes) = sheet.finish()?;
        Ok(FileEntry {
            path,
            bytes,
            digest,
        })
    }

    /// Begin a table of the client's side under its name.
    pub fn client_table(&mut self, name: &str) -> Result<TableWriter, PlanError> {
        let path = format!("client/{name}");
        let sheet = Sheet::create(self.partial.join(&path))?;
        Ok(TableWriter::new(path, sheet))
    }

    /// Names a finished file of the server's side by its content: one of that name that is there is this one.
    fn by_content(&self, sheet: Sheet) -> Result<FileEntry, PlanError> {
        let from = sheet.path().to_owned();
        let (digest, bytes) = sheet.finish()?;
        let path = format!("server/{}", digest.to_string().replace("blake3:", ""));
        let to = self.partial.join(&path);
        fs::rename(&from, &to).map_err(PlanError::io("writing", &to))?;
        Ok(FileEntry {
            path,
            bytes,
            digest,
        })
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

/// Looks at a whole array before it is packed.
fn survey(
    data: DataId,
    decl: &DataDecl,
    layer: u32,
    source: &dyn DataSource,
) -> Result<Survey, PlanError> {
    let mut survey = Survey::default();
    let mut looked = Ok(());
    source.pieces(data, layer, &mut |values| {
        looked = survey.add(values);
        match looked {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    let name = || decl.name.clone();
    looked.map_err(|(entry, value)| PlanError::NotFinite {
        name: name(),
        layer,
        value,
        entry,
    })?;
    let expected = decl.shape.iter().map(|&n| n as usize).product();
    if survey.entries != expected {
        return Err(PlanError::Data(DataError::Size {
            name: name(),
            expected,
            found: survey.entries,
        }));
    }
    Ok(survey)
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
