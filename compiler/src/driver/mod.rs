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
use crate::lower::{Options, Ranges, lower};
use crate::place;
use crate::search::{Found, choose};
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

    let table = CostTable::of(&request.params)?;
    let mut findings = Findings::default();
    let (leveled, emitted) = match resumed {
        Some(StageFile::Leveled(leveled)) => {
            let emitted = emit(&leveled, &request.params, &table)?;
            (leveled, emitted)
        }
        resumed => {
            let mut packed = match resumed {
                Some(StageFile::Packed(packed)) => packed,
                _ => {
                    let found = choose(&decoder, &ranges, &request.options, &table)?;
                    tell(&found, say);
                    let draft = lower(&decoder, &ranges, &request.options, &found.choices)?;
                    findings.search = found.note;
                    findings.approximations = Some(draft.approximations);
                    draft.program
                }
            };
            packed.verify().map_err(CompileError::Verify)?;
            let error = calibration.recalibrate(&mut packed, &decoder, &checkpoint)?;
            say(&format!(
                "packed: within {error:.5} σ of the decoder on calibration data"
            ));
            dump(&StageFile::Packed(packed.clone()))?;
            if stop(Stage::Packed) {
                return stage(StageFile::Packed(packed));
            }
            let options = place::Options::default();
            let placed = level(&packed, &request.params, &table, &options, request.memory)?;
            (placed.program, placed.emitted)
        }
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

/// Says what the search decided.
fn tell(found: &Found, say: &mut dyn FnMut(&str)) {
    let note = &found.note;
    let end = match (note.saturated, found.exact) {
        (true, true) => "saturated, every combination weighed",
        (true, false) => "saturated, not every combination weighed",
        (false, _) => "stopped at its budget",
    };
    say(&format!(
        "search: {} nodes in {} rounds, {end}",
        note.nodes, note.iterations
    ));
    for decision in &found.decisions {
        let saves = decision.saves.map_or("no alternative".into(), |nanos| {
            format!("saves {:.1} ms a layer", nanos as f64 / 1e6)
        });
        say(&format!("  {} ({saves})", decision.chosen));
    }
}
