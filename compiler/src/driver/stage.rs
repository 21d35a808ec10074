//! Stage files: the text form of one stage, to stop at, dump, edit and resume from.

use super::CompileError;
use sotto_ir::decoder::Decoder;
use sotto_ir::slot::{Leveled, Packed, Program};
use sotto_ir::{Digest, write_whole};
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

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
    fn stage(&self) -> Stage {
        match self {
            StageFile::Decoder(_) => Stage::Decoder,
            StageFile::Packed(_) => Stage::Packed,
            StageFile::Leveled(_) => Stage::Leveled,
        }
    }

    /// Refuses a stage that was made from another checkpoint than the one with this digest.
    pub fn check_checkpoint(&self, digest: &Digest) -> Result<(), CompileError> {
        let (stage, model) = (self.checkpoint(), digest.to_string());
        match stage == model {
            true => Ok(()),
            false => Err(CompileError::Foreign { stage, model }),
        }
    }

    /// Refuses a stage that was made for another context than the one asked for.
    pub fn check_context(&self, asked: u32) -> Result<(), CompileError> {
        match self.context() {
            Some(stage) if stage != asked => Err(CompileError::StageContext { stage, asked }),
            _ => Ok(()),
        }
    }

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

    /// Digest of the checkpoint that it was made from.
    pub fn checkpoint(&self) -> String {
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

/// The context of a stage file, if that is settled at its stage.
pub fn stage_context(path: &Path) -> Result<Option<u32>, CompileError> {
    Ok(read(path)?.context())
}

/// Where to stop, and what to write on the way. The default goes to the end and writes nothing.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// Go no further than this stage.
    pub stop_after: Option<Stage>,
    /// Write every stage's text form there.
    pub dump_dir: Option<PathBuf>,
}

impl Stages {
    /// Dumps a stage if dumps are wanted, and breaks with it if it is the one to stop at.
    pub fn reached(&self, file: StageFile) -> Result<ControlFlow<StageFile>, CompileError> {
        if let Some(dir) = &self.dump_dir {
            std::fs::create_dir_all(dir).map_err(CompileError::write(dir))?;
            let path = dir.join(file.file_name());
            write_whole(&path, file.to_string().as_bytes()).map_err(CompileError::write(&path))?;
        }
        match self.stop_after == Some(file.stage()) {
            true => Ok(ControlFlow::Break(file)),
            false => Ok(ControlFlow::Continue(())),
        }
    }
}
