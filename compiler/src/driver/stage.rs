//! Stage files: the text form of one stage, to stop at, dump, edit and resume from.

use super::CompileError;
use sotto_ir::decoder::Decoder;
use sotto_ir::slot::{Leveled, Packed, Program};
use sotto_ir::{Digest, write_whole};
use std::fmt;
use std::path::Path;

/// A stage that has a text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// The model, exactly.
    Decoder,
    /// Kernels, layouts and approximations chosen.
    Packed,
    /// Levels and bootstraps placed.
    Leveled,
}

/// A stage as a file holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum StageFile {
    /// The model, exactly.
    Decoder(Decoder),
    /// Kernels, layouts and approximations chosen.
    Packed(Program<Packed>),
    /// Levels and bootstraps placed.
    Leveled(Program<Leveled>),
}

impl fmt::Display for StageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StageFile::Decoder(stage) => stage.fmt(f),
            StageFile::Packed(stage) => stage.fmt(f),
            StageFile::Leveled(stage) => stage.fmt(f),
        }
    }
}

impl StageFile {
    /// Name among dumps.
    fn file_name(&self) -> String {
        match self {
            StageFile::Decoder(_) => "01.decoder.txt".into(),
            StageFile::Packed(program) => format!("02.packed.{}.txt", program.name),
            StageFile::Leveled(program) => format!("03.leveled.{}.txt", program.name),
        }
    }

    /// Tokens that it holds, if that is settled at its stage.
    fn context(&self) -> Option<u32> {
        match self {
            StageFile::Decoder(_) => None,
            StageFile::Packed(program) => Some(program.capacity),
            StageFile::Leveled(program) => Some(program.capacity),
        }
    }

    fn checkpoint(&self) -> String {
        match self {
            StageFile::Decoder(stage) => stage.checkpoint.to_string(),
            StageFile::Packed(program) => program.model_digest.clone(),
            StageFile::Leveled(program) => program.model_digest.clone(),
        }
    }
}

/// Reads a stage file; its first word says which stage it is.
pub fn read(path: &Path) -> Result<StageFile, CompileError> {
    let text = std::fs::read_to_string(path).map_err(CompileError::read(path))?;
    let parse = |source| CompileError::Stage {
        path: path.into(),
        source,
    };
    match text.split_whitespace().next() {
        Some("decoder") => text.parse().map(StageFile::Decoder).map_err(parse),
        Some("packed") => text.parse().map(StageFile::Packed).map_err(parse),
        Some("leveled") => text.parse().map(StageFile::Leveled).map_err(parse),
        _ => Err(CompileError::NoStage { path: path.into() }),
    }
}

/// The stage, if it was made from the checkpoint with this digest.
pub fn of_checkpoint(
    stage: Option<StageFile>,
    digest: &Digest,
) -> Result<Option<StageFile>, CompileError> {
    match stage {
        Some(stage) if stage.checkpoint() != digest.to_string() => Err(CompileError::Foreign {
            stage: stage.checkpoint(),
            model: digest.to_string(),
        }),
        stage => Ok(stage),
    }
}

/// The context of a stage file, if that is settled at its stage.
pub fn stage_context(path: &Path) -> Result<Option<u32>, CompileError> {
    Ok(read(path)?.context())
}

/// Refuses a stage that was made for another context than the one asked for.
pub fn of_context(stage: Option<&StageFile>, asked: u32) -> Result<(), CompileError> {
    match stage.and_then(StageFile::context) {
        Some(stage) if stage != asked => Err(CompileError::StageContext { stage, asked }),
        _ => Ok(()),
    }
}

/// Writes a stage among the dumps, if dumps are wanted.
pub fn dump(dir: Option<&Path>, stage: &StageFile) -> Result<(), CompileError> {
    let Some(dir) = dir else {
        return Ok(());
    };
    std::fs::create_dir_all(dir).map_err(CompileError::write(dir))?;
    let path = dir.join(stage.file_name());
    write_whole(&path, stage.to_string().as_bytes()).map_err(CompileError::write(&path))
}
