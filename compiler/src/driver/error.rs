//! Why a model was not compiled.

use crate::cost::TableError;
use crate::emit::EmitError;
use crate::frontend::FrontendError;
use crate::input::InputError;
use crate::level::LevelError;
use crate::lower::LowerError;
use crate::pack::RangeError;
use miette::Diagnostic;
use sotto_ir::Violations;
use sotto_ir::decoder::{InterpretError, WeightError};
use sotto_ir::fidelity::LengthError;
use sotto_ir::plan::PlanError;
use sotto_ir::text::ParseError;
use std::path::{Path, PathBuf};

/// Why a model was not compiled. Nothing has been written then, dumps aside.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum CompileError {
    /// Pins for decisions that a stage file has taken.
    #[error(
        "the stage file has taken the decisions that --pin is for; resume from a decoder stage, or edit the file"
    )]
    #[diagnostic(code(compile::late_pins))]
    LatePins,
    /// The checkpoint.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Frontend(#[from] FrontendError),
    /// The calibration input.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Input(#[from] InputError),
    /// There is no calibration input.
    #[error(
        "{model}: there is no calibration.txt or calibration.safetensors beside the model; name a text typical of its use with --calibrate"
    )]
    #[diagnostic(code(compile::no_calibration))]
    NoCalibration {
        /// The checkpoint.
        model: PathBuf,
    },
    /// The calibration input holds nothing usable.
    #[error("{path}: calibration needs at least one sequence of two tokens")]
    #[diagnostic(code(compile::short))]
    Short {
        /// The file.
        path: PathBuf,
    },
    /// The context exceeds what the model was made for, or is empty.
    #[error("--context {context}: the model takes 1 to {most} tokens")]
    #[diagnostic(code(compile::context))]
    Context {
        /// Asked for.
        context: u32,
        /// The model's `max_positions`.
        most: usize,
    },
    /// The decoder stage did not run.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Interpret(#[from] InterpretError),
    /// The packed program's results have another length than the decoder's.
    #[error("the packed program: {0}; this is a defect of the compiler")]
    #[diagnostic(code(compile::results))]
    Results(#[from] LengthError),
    /// A tensor.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Weight(#[from] WeightError),
    /// Lowering to packed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lower(#[from] LowerError),
    /// The packed stage breaks its rules.
    #[error("{0}")]
    #[diagnostic(code(compile::verify))]
    Verify(Violations),
    /// Ranges of the packed stage.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Range(#[from] RangeError),
    /// Placement.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Level(#[from] LevelError),
    /// A block that does not pay.
    #[error(
        "a block of {block} tokens takes {together:.1} s, its tokens one by one {alone:.1} s; --block {block} makes one all the same"
    )]
    #[diagnostic(code(compile::slow_block))]
    SlowBlock {
        /// Tokens of the block.
        block: u32,
        /// Seconds that it takes.
        together: f64,
        /// Seconds that its tokens take one by one.
        alone: f64,
    },
    /// A block whose cache is stored at other levels than decode's.
    #[error(
        "a block of {block} tokens needs its cache at other levels than decode stores it at; try a shorter --block, or 1 for none"
    )]
    #[diagnostic(code(compile::block_levels))]
    BlockLevels {
        /// Tokens of the block.
        block: u32,
    },
    /// Emission.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Emit(#[from] EmitError),
    /// The cost table.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cost(#[from] TableError),
    /// Writing the plan.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// A stage file that does not parse.
    #[error("{path}: {source}")]
    #[diagnostic(code(compile::stage))]
    Stage {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParseError,
    },
    /// A file that is no stage file.
    #[error("{path}: not a stage file; its first word is `decoder`, `packed` or `leveled`")]
    #[diagnostic(code(compile::no_stage))]
    NoStage {
        /// The file.
        path: PathBuf,
    },
    /// A stage of another checkpoint.
    #[error("the stage file was made from checkpoint {stage}, the model given is {model}")]
    #[diagnostic(code(compile::foreign))]
    Foreign {
        /// The stage's checkpoint.
        stage: String,
        /// The model's digest.
        model: String,
    },
    /// A stage made for another context.
    #[error(
        "--context {asked}: the stage file was made for a context of {stage}, which is settled there; leave --context out, or start \
         from the model or its decoder stage"
    )]
    #[diagnostic(code(compile::stage_context))]
    StageContext {
        /// The stage's.
        stage: u32,
        /// Asked for.
        asked: u32,
    },
    /// A file that could not be read.
    #[error("reading {path}: {source}")]
    #[diagnostic(code(compile::read))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that could not be written.
    #[error("writing {path}: {source}")]
    #[diagnostic(code(compile::write))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No place for the plan was given.
    #[error("no plan directory given: name one with -o, or stop at a stage with --stop-after")]
    #[diagnostic(code(compile::no_output))]
    NoOutput,
}

impl CompileError {
    /// For `map_err` on reading.
    pub fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Read {
            path: path.into(),
            source,
        }
    }

    /// For `map_err` on writing.
    pub fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        |source| Self::Write {
            path: path.into(),
            source,
        }
    }
}
