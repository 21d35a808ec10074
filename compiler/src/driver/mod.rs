//! `sottoc compile`: from checkpoint to plan.

mod agree;
mod bundle;
mod calibration;
mod error;
mod estimate;
mod planning;
mod prefill;
mod preset;
mod stage;
mod subject;

pub use error::CompileError;
pub use estimate::{Source, estimate};
pub use planning::Planning;
pub use prefill::Prefilled;
pub use preset::{PresetRequest, compile_preset};
pub use stage::{Stage, StageFile, Stages, read as read_stage, stage_context};
pub use subject::{Draft, Placed, Planned, Subject};

use crate::frontend::Checkpoint;
use crate::search::Found;
use bundle::{Bundle, Origin};
use sotto_ir::plan::{Decision, Plan, PlanWriter};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// What to compile, and how far.
#[derive(Clone, Debug)]
pub struct Request {
    /// Checkpoint directory.
    pub model: PathBuf,
    /// Calibration input: text, or safetensors with `input_ids` [default: the one beside the model].
    pub calibrate: Option<PathBuf>,
    /// How it is planned.
    pub planning: Planning,
    /// Where to stop, and what to write on the way.
    pub stages: Stages,
    /// Resume from a stage file.
    pub from: Option<PathBuf>,
    /// The plan directory; none is needed where a stage is to stop at.
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

/// What a compilation tells on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// What a pass found, for people.
    Found(&'a str),
    /// How far long work is.
    Doing {
        /// What is going on.
        what: &'static str,
        /// Pieces done.
        done: usize,
        /// Of how many.
        total: usize,
    },
}

/// The passes in order; `tell` hears what each finds.
///
/// # Errors
/// Whatever is wrong with checkpoint, calibration data, options or output; nothing is written then, dumps aside.
pub fn compile(request: &Request, tell: &mut dyn FnMut(News<'_>)) -> Result<Outcome, CompileError> {
    let Request {
        planning, stages, ..
    } = request;
    planning.check()?;
    check_output(request.output.as_deref(), stages)?;
    let checkpoint = Checkpoint::open(&request.model)?;
    let from = resumed(request, &checkpoint)?;
    let decoder = match &from {
        Some(StageFile::Decoder(decoder)) => decoder.clone(),
        _ => checkpoint.decoder()?,
    };
    if let ControlFlow::Break(stage) = stages.reached(StageFile::Decoder(decoder.clone()))? {
        return Ok(Outcome::Stage(Box::new(stage)));
    }
    let calibrate = request.calibrate.as_deref();
    let mut subject = Subject::of_checkpoint(&checkpoint, decoder, calibrate, planning, tell)?;
    match subject.plan(from.as_ref(), &mut |stage| stages.reached(stage), tell)? {
        ControlFlow::Break(stage) => Ok(Outcome::Stage(Box::new(stage))),
        ControlFlow::Continue(planned) => {
            let origin = Origin::of_checkpoint(&checkpoint);
            write_plan(&subject, &planned, origin, request.output.as_deref(), tell)
        }
    }
}

/// The stage file to resume from, if it suits the checkpoint and the options.
fn resumed(request: &Request, checkpoint: &Checkpoint) -> Result<Option<StageFile>, CompileError> {
    let Some(path) = &request.from else {
        return Ok(None);
    };
    let file = stage::read(path)?;
    file.check_checkpoint(&checkpoint.digest()?)?;
    file.check_context(request.planning.options.context)?;
    let decided = !matches!(file, StageFile::Decoder(_));
    match decided && !request.planning.guidance.pins.is_empty() {
        true => Err(CompileError::LatePins),
        false => Ok(Some(file)),
    }
}

/// Writes what was planned.
fn write_plan(
    subject: &Subject<'_>,
    planned: &Planned,
    origin: Origin<'_>,
    output: Option<&Path>,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Outcome, CompileError> {
    let output = output.ok_or(CompileError::NoOutput)?;
    say_replaced(output, tell);
    let bundle = Bundle {
        output,
        origin,
        subject,
        planned,
    };
    Ok(Outcome::Plan(Box::new(bundle.write(tell)?)))
}

/// Refuses a place that no plan can be written to, now rather than after the search.
fn check_output(output: Option<&Path>, stages: &Stages) -> Result<(), CompileError> {
    match (output, stages.stop_after) {
        (_, Some(_)) => Ok(()),
        (Some(output), None) => Ok(PlanWriter::target(output).map(|_| ())?),
        (None, None) => Err(CompileError::NoOutput),
    }
}

/// Says that the plan at the output gives way, before it does.
fn say_replaced(output: &Path, tell: &mut dyn FnMut(News<'_>)) {
    if output.join("plan.ron").is_file() {
        found(tell, format!("replacing {}", output.display()));
    }
}

fn found(tell: &mut dyn FnMut(News<'_>), line: String) {
    tell(News::Found(&line));
}

/// Says what the search decided.
fn describe(chosen: &Found, tell: &mut dyn FnMut(News<'_>)) {
    let note = &chosen.note;
    let end = match (note.saturated, chosen.exact) {
        (true, true) => "saturated, every combination weighed",
        (true, false) => "saturated, not every combination weighed",
        (false, _) => "stopped at its budget",
    };
    let (nodes, rounds) = (note.nodes, note.iterations);
    found(
        tell,
        format!("search: {nodes} nodes in {rounds} rounds, {end}"),
    );
    for Decision {
        site,
        chosen,
        rejected,
    } in &chosen.decisions
    {
        let saves = rejected.first().map_or("no alternative".into(), |next| {
            let each = if site.contains("{i}") { " a layer" } else { "" };
            format!("saves {:.1} ms{each}", next.extra_nanos as f64 / 1e6)
        });
        found(tell, format!("  {site}: {chosen} ({saves})"));
    }
}
