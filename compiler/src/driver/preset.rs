//! `sottoc compile --preset`: a plan from shape, assumed ranges, and weights that stand for real ones or are none.

use super::bundle::{Bundle, Findings, Origin};
use super::estimate::{Estimated, Subject};
use super::{
    CompileError, EstimateRequest, News, Outcome, Stage, StageFile, check_output, say_replaced,
    stage,
};
use crate::frontend::{Preset, Synthetic};
use sotto_ir::decoder::{Tensors, WeightSource};
use sotto_ir::plan::Weights;
use std::path::PathBuf;

/// What to compile, and how far.
#[derive(Clone, Debug)]
pub struct PresetRequest {
    /// Name of the preset.
    pub preset: String,
    /// With what to compile it; its source is not looked at.
    pub passes: EstimateRequest,
    /// Its first layers only.
    pub layers: Option<u32>,
    /// Where its weights come from.
    pub weights: Weights,
    /// Go no further than this stage.
    pub stop_after: Option<Stage>,
    /// Write every stage's text form there.
    pub dump_dir: Option<PathBuf>,
    /// The plan directory, or with `stop_after` the stage file (standard output if absent).
    pub output: Option<PathBuf>,
}

/// The passes of [`super::estimate()`], then the plan.
///
/// # Errors
/// Whatever is wrong with preset, options or output; nothing is written then, dumps aside.
pub fn compile_preset(
    request: &PresetRequest,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Outcome, CompileError> {
    let output = request.output.as_deref();
    check_output(output, request.stop_after)?;
    let preset = Preset::of(&request.preset, request.layers, request.weights)?;
    let decoder = StageFile::Decoder(preset.decoder.clone());
    if let Some(stage) = reached(request, Stage::Decoder, decoder)? {
        return Ok(stage);
    }
    let passes = &request.passes;
    let subject = Subject::of_preset(&preset, passes)?;
    let draft = subject.draft(&passes.guidance, tell)?;
    let packed = StageFile::Packed(draft.program.clone());
    if let Some(stage) = reached(request, Stage::Packed, packed)? {
        return Ok(stage);
    }
    let Estimated {
        emitted,
        prefill,
        decisions,
        search,
        approximations,
        leveled,
    } = subject.with_prefill(&draft, passes, tell)?;
    if let Some(stage) = reached(request, Stage::Leveled, StageFile::Leveled(leveled.clone()))? {
        return Ok(stage);
    }
    let tensors: Box<dyn WeightSource> = match request.weights {
        Weights::Synthetic(seed) => Box::new(Synthetic::new(&preset, seed)?),
        // of none, nothing is asked for
        Weights::None | Weights::Checkpoint => Box::new(Tensors::default()),
    };
    say_replaced(output, tell);
    let bundle = Bundle {
        output,
        params: &request.passes.params,
        margin: request.passes.options.margin,
        origin: Origin {
            name: preset.name.into(),
            weights: request.weights,
            tensors: &*tensors,
            tokenizer: None,
        },
        decoder: &preset.decoder,
        program: &leveled,
        findings: &Findings {
            approximations: Some(approximations),
            search,
            decisions,
        },
        ranges: &subject.ranges,
    };
    Ok(Outcome::Plan(Box::new(
        bundle.write(emitted, prefill, tell)?,
    )))
}

/// Dumps a stage if dumps are wanted, and gives it back if it is the one to stop at.
fn reached(
    request: &PresetRequest,
    name: Stage,
    file: StageFile,
) -> Result<Option<Outcome>, CompileError> {
    stage::dump(request.dump_dir.as_deref(), &file)?;
    let stop = request.stop_after == Some(name);
    Ok(stop.then(|| Outcome::Stage(Box::new(file))))
}
