//! `sottoc compile`: from checkpoint to plan.

mod bundle;
mod calibration;
mod error;
mod estimate;
mod prefill;
mod preset;
mod stage;

pub use error::CompileError;
pub use estimate::{Draft, EstimateRequest, Estimated, Source, Subject, estimate};
pub use preset::{PresetRequest, compile_preset};
pub use stage::{Stage, StageFile, stage_context};

use crate::cost;
use crate::emit::emit;
use crate::frontend::Checkpoint;
use crate::level::{LevelError, level};
use crate::lower::{Options, lower};
use crate::place::{self, Strategy};
use crate::search::{Found, Guidance};
use bundle::{Bundle, Findings, Origin};
use calibration::Calibration;
use prefill::{Passes, Placed};
use sotto_ir::cost::CostTable;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::{Decision, Plan, PlanWriter};
use sotto_ir::slot::{Packed, Program};
use std::path::{Path, PathBuf};

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
    /// Measured prices [default: the committed table, or counts for another ring].
    pub cost_table: Option<PathBuf>,
    /// What is taken from the search.
    pub guidance: Guidance,
    /// Who places bootstraps.
    pub strategy: Strategy,
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
    match passes(request, tell) {
        // A cache with room for blocks may be what takes too much, and nobody has asked for it.
        Err(CompileError::Level(LevelError::Memory { .. })) if request.options.block.is_none() => {
            found(
                tell,
                "too much memory: trying without room for blocks of a prompt".into(),
            );
            let mut request = request.clone();
            request.options.block = Some(1);
            passes(&request, tell)
        }
        outcome => outcome,
    }
}

fn passes(request: &Request, tell: &mut dyn FnMut(News<'_>)) -> Result<Outcome, CompileError> {
    let stop = |stage| request.stop_after == Some(stage);
    let stage = |stage| Ok(Outcome::Stage(Box::new(stage)));
    let dump = |stage: &StageFile| stage::dump(request.dump_dir.as_deref(), stage);

    check_output(request.output.as_deref(), request.stop_after)?;
    let checkpoint = Checkpoint::open(&request.model)?;
    let resumed = request.from.as_deref().map(stage::read).transpose()?;
    let resumed = stage::of_checkpoint(resumed, &checkpoint.digest()?)?;
    stage::of_context(resumed.as_ref(), request.options.context)?;
    let decided = matches!(resumed, Some(StageFile::Packed(_) | StageFile::Leveled(_)));
    if decided && !request.guidance.pins.is_empty() {
        return Err(CompileError::LatePins);
    }
    let decoder = match &resumed {
        Some(StageFile::Decoder(decoder)) => decoder.clone(),
        _ => checkpoint.decoder()?,
    };
    dump(&StageFile::Decoder(decoder.clone()))?;
    if stop(Stage::Decoder) {
        return stage(StageFile::Decoder(decoder));
    }

    let (input, options) = (request.calibrate.as_deref(), &request.options);
    let calibration = Calibration::open(&checkpoint, &request.model, input, options)?;
    let ranges = calibration.ranges(&decoder, &checkpoint, tell)?;

    let table = table(request)?;
    let passes = Passes {
        decoder: &decoder,
        ranges: &ranges,
        options: &request.options,
        guidance: &request.guidance,
        params: &request.params,
        table: &table,
        strategy: request.strategy,
        memory: request.memory,
    };
    let mut findings = Findings::default();
    let room;
    let mut decode = match resumed {
        Some(StageFile::Leveled(leveled)) => {
            room = passes.room_in(&leveled)?;
            Placed {
                emitted: emit(&leveled, &request.params, &table, &[])?,
                packed: None,
                leveled,
            }
        }
        resumed => {
            let mut packed = match resumed {
                Some(StageFile::Packed(packed)) => {
                    room = passes.room_in(&packed)?;
                    packed
                }
                _ => {
                    let (chosen, tokens) = passes.choose()?;
                    room = tokens;
                    describe(&chosen, tell);
                    let draft = lower(&decoder, &ranges, &request.options, &chosen.choices)?;
                    findings.search = chosen.note;
                    findings.decisions = chosen.decisions;
                    findings.approximations = Some(draft.approximations);
                    draft.program
                }
            };
            packed.verify().map_err(CompileError::Verify)?;
            let error = calibration.recalibrate(&mut packed, &decoder, &checkpoint, tell)?;
            let said = format!("packed: within {error:.5} σ of the decoder on calibration data");
            found(tell, said);
            dump(&StageFile::Packed(packed.clone()))?;
            if stop(Stage::Packed) {
                return stage(StageFile::Packed(packed));
            }
            findings.decisions.extend(placed_by(request.strategy));
            let options = place::Options::by(request.strategy);
            let memory = request.memory;
            let placed = level(&packed, &request.params, &table, &options, memory, &[])?;
            Placed {
                packed: Some(packed),
                leveled: placed.program,
                emitted: placed.emitted,
            }
        }
    };
    dump(&StageFile::Leveled(decode.leveled.clone()))?;
    if stop(Stage::Leveled) {
        return stage(StageFile::Leveled(decode.leveled));
    }
    let mut recalibrate = |packed: &mut Program<Packed>, tell: &mut dyn FnMut(News<'_>)| {
        let error = calibration.recalibrate(packed, &decoder, &checkpoint, tell)?;
        Ok(Some(error))
    };
    let prefill = passes.prefill(room, &mut decode, &mut recalibrate, tell)?;
    if let Some(prefill) = &prefill {
        prefill.stages().try_for_each(|stage| dump(&stage))?;
    }

    say_replaced(request.output.as_deref(), tell);
    let bundle = Bundle {
        output: request.output.as_deref(),
        params: &request.params,
        margin: request.options.margin,
        origin: Origin::of_checkpoint(&checkpoint),
        decoder: &decoder,
        program: &decode.leveled,
        findings: &findings,
        ranges: &ranges,
    };
    Ok(Outcome::Plan(Box::new(bundle.write(
        decode.emitted,
        prefill,
        tell,
    )?)))
}

/// Refuses a place that no plan can be written to, now rather than after the search.
fn check_output(output: Option<&Path>, stop_after: Option<Stage>) -> Result<(), CompileError> {
    match (output, stop_after) {
        (_, Some(_)) => Ok(()),
        (Some(output), None) => Ok(PlanWriter::target(output).map(|_| ())?),
        (None, None) => Err(CompileError::NoOutput),
    }
}

/// Says that the plan at the output gives way, before it does.
fn say_replaced(output: Option<&Path>, tell: &mut dyn FnMut(News<'_>)) {
    if let Some(plan) = output.filter(|dir| dir.join("plan.ron").is_file()) {
        found(tell, format!("replacing {}", plan.display()));
    }
}

fn found(tell: &mut dyn FnMut(News<'_>), line: String) {
    tell(News::Found(&line));
}

/// What a plan says of who placed its bootstraps, if it was not the search.
fn placed_by(strategy: Strategy) -> Option<Decision> {
    (strategy != Strategy::Ours).then(|| Decision {
        site: "placement".into(),
        chosen: format!("{}, for comparison", strategy.name()),
        rejected: vec![],
    })
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

/// The table asked for, or the default of the ring.
fn table(request: &Request) -> Result<CostTable, cost::TableError> {
    match &request.cost_table {
        Some(path) => cost::read(path, &request.params),
        None => cost::of(&request.params),
    }
}
