//! `sottoc compile --preset`: a plan from shape, assumed ranges, and weights that stand for real ones or are none.

use super::bundle::Origin;
use super::{
    CompileError, News, Outcome, Planning, StageFile, Stages, Subject, check_output, write_plan,
};
use crate::frontend::{Preset, Synthetic};
use sotto_ir::decoder::{Tensors, WeightSource};
use sotto_ir::plan::Weights;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What to compile, and how far.
#[derive(Clone, Debug)]
pub struct PresetRequest {
    /// Name of the preset.
    pub preset: String,
    /// Its first layers only.
    pub layers: Option<u32>,
    /// Where its weights come from.
    pub weights: Weights,
    /// How it is planned.
    pub planning: Planning,
    /// Where to stop, and what to write on the way.
    pub stages: Stages,
    /// The plan directory; none is needed where a stage is to stop at.
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
    let PresetRequest {
        planning, stages, ..
    } = request;
    let output = request.output.as_deref();
    planning.check()?;
    check_output(output, stages)?;
    let preset = Preset::of(&request.preset, request.layers, request.weights)?;
    let decoder = StageFile::Decoder(preset.decoder.clone());
    if let ControlFlow::Break(stage) = stages.reached(decoder)? {
        return Ok(Outcome::Stage(Box::new(stage)));
    }
    let mut subject = Subject::of_preset(&preset, planning)?;
    let planned = match subject.plan(None, &mut |stage| stages.reached(stage), tell)? {
        ControlFlow::Break(stage) => return Ok(Outcome::Stage(Box::new(stage))),
        ControlFlow::Continue(planned) => planned,
    };
    let tensors: Box<dyn WeightSource> = match request.weights {
        Weights::Synthetic(seed) => Box::new(Synthetic::new(&preset, seed)?),
        // of none, nothing is asked for
        Weights::None | Weights::Checkpoint => Box::new(Tensors::default()),
    };
    let origin = Origin {
        name: preset.name.into(),
        weights: request.weights,
        tensors: &*tensors,
        tokenizer: None,
    };
    write_plan(&subject, &planned, origin, output, tell)
}
