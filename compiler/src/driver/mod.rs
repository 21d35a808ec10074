//! `sottoc compile`: from checkpoint to plan.

mod bundle;
mod calibration;
mod error;
mod stage;

pub use error::CompileError;
pub use stage::{Stage, StageFile};

use crate::cost::CostTable;
use crate::emit::emit;
use crate::frontend::Checkpoint;
use crate::level::level;
use crate::lower::{Choices, Options, Ranges, lower};
use crate::place;
use bundle::{Bundle, Findings};
use calibration::Calibration;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Plan;
use std::path::PathBuf;

/// What to compile, and how far.
#[derive(Clone, Debug)]
pub struct Request {
    /// Checkpoint directory.
    pub model: PathBuf,
    /// Calibration input: text, or safetensors with `input_ids`.
    pub calibrate: Option<PathBuf>,
    /// Ring and chain.
    pub params: ParamSet,
    /// Context, margin, tolerance, who holds the ends.
    pub options: Options,
    /// Most bytes that the server may need.
    pub memory: Option<u64>,
    /// Go no further than this stage.
    pub stop_after: Option<Stage>,
    /// Resume from a stage file.
    pub from: Option<PathBuf>,
    /// Write every stage's text form there.
    pub dump_dir: Option<PathBuf>,
    /// The plan directory, or with `stop_after` the stage file (standard output if absent).
    pub output: Option<PathBuf>,
}

/// What came out.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The stage asked for.
    Stage(Box<StageFile>),
    /// A plan, written.
    Plan(Box<Plan>),
}

/// The passes in order; `say` is told what each found.
pub fn compile(request: &Request, say: &mut dyn FnMut(&str)) -> Result<Outcome, CompileError> {
    let stop = |stage| request.stop_after == Some(stage);
    let stage = |stage| Ok(Outcome::Stage(Box::new(stage)));
    let dump = |stage: &StageFile| stage::dump(request.dump_dir.as_deref(), stage);

    let checkpoint = Checkpoint::open(&request.model)?;
    let resumed = request.from.as_deref().map(stage::read).transpose()?;
    let resumed = stage::of_checkpoint(resumed, &checkpoint.digest()?)?;
    let decoder = match &resumed {
        Some(StageFile::Decoder(decoder)) => decoder.clone(),
        _ => checkpoint.decoder()?,
    };
    dump(&StageFile::Decoder(decoder.clone()))?;
    if stop(Stage::Decoder) {
        return stage(StageFile::Decoder(decoder));
    }

    let calibration = Calibration::open(&checkpoint, request)?;
    let ranges = Ranges::calibrate(&decoder, &checkpoint, &calibration.sequences)?;
    say(&format!("calibrated on {} tokens", ranges.tokens));

    let mut findings = Findings::default();
    let (packed, leveled) = match resumed {
        Some(StageFile::Leveled(program)) => (None, Some(program)),
        Some(StageFile::Packed(program)) => (Some(program), None),
        _ => {
            let draft = lower(&decoder, &ranges, &request.options, &Choices::default())?;
            findings.approximations = Some(draft.approximations);
            (Some(draft.program), None)
        }
    };

    let table = CostTable::committed()?;
    let (leveled, emitted) = match (packed, leveled) {
        (Some(mut packed), _) => {
            packed.verify().map_err(CompileError::Verify)?;
            let error = calibration.recalibrate(&mut packed, &decoder, &checkpoint)?;
            say(&format!(
                "packed: logits within {error:.5} σ of the decoder on calibration data"
            ));
            dump(&StageFile::Packed(packed.clone()))?;
            if stop(Stage::Packed) {
                return stage(StageFile::Packed(packed));
            }
            let options = place::Options::default();
            let placed = level(&packed, &request.params, &table, &options, request.memory)?;
            (placed.program, placed.emitted)
        }
        (None, Some(leveled)) => {
            let emitted = emit(&leveled, &request.params, &table)?;
            (leveled, emitted)
        }
        (None, None) => unreachable!("a stage is either packed or leveled here"),
    };
    dump(&StageFile::Leveled(leveled.clone()))?;
    if stop(Stage::Leveled) {
        return stage(StageFile::Leveled(leveled));
    }

    let bundle = Bundle {
        request,
        checkpoint: &checkpoint,
        decoder: &decoder,
        program: &leveled,
        findings: &findings,
        ranges: &ranges,
    };
    Ok(Outcome::Plan(Box::new(bundle.write(emitted)?)))
}
