//! Running slot programs of any stage a token at a time, every value seen.

use super::CompareError;
use crate::driver::StageFile;
use crate::frontend::Checkpoint;
use crate::pack::{self, CheckpointData};
use crate::view::{Given, SlotView};
use miette::Diagnostic;
use sotto_ir::decoder::Decoder;
use sotto_ir::exec::{Clear, ClearCt, ClearError, Escape, Event, ExecError, Executor, Moment};
use sotto_ir::plan::{Embedding, FileEntry, Placement, Plan, PlanData};
use sotto_ir::slot::{InterpError, Interpreter, Program, Seen, Session, Slots, Stage, ValueId};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Why a side stopped.
#[derive(Clone, Debug, PartialEq, thiserror::Error, Diagnostic)]
#[error("{what}")]
#[diagnostic(code(compare::run))]
pub struct RunError {
    /// Site with the layer's number, where it is known.
    pub site: Option<String>,
    /// The reason, in words.
    pub what: String,
}

impl RunError {
    pub(super) fn new(cause: impl std::fmt::Display) -> Self {
        Self {
            site: None,
            what: cause.to_string(),
        }
    }
}

/// One value of a run.
pub(super) struct Sight<'a> {
    pub layer: u32,
    pub group: Option<u32>,
    /// Template, node and result that it is.
    pub place: (usize, usize, usize),
    pub slots: &'a Slots,
}

/// A program in progress.
pub(super) trait Runner {
    /// One token; `see` sees every value in order, those before an error too.
    fn step(&mut self, token: u32, see: &mut dyn FnMut(&Sight<'_>))
    -> Result<Vec<Slots>, RunError>;
}

/// Starts a side with a slot program.
pub(super) fn start<'a>(
    given: &'a Given,
    view: &SlotView,
    checkpoint: Option<&'a Checkpoint>,
) -> Result<Box<dyn Runner + 'a>, CompareError> {
    runnable(view)?;
    match given {
        Given::Plan { dir, plan, .. } => Ok(Box::new(PlanRun::new(dir, plan)?)),
        Given::Stage(file) => match &**file {
            StageFile::Packed(program) => Ok(Box::new(StageRun::new(program, view, checkpoint)?)),
            StageFile::Leveled(program) => Ok(Box::new(StageRun::new(program, view, checkpoint)?)),
            StageFile::Decoder(_) => Err(CompareError::Nothing),
        },
        Given::Golden(_) => Err(CompareError::Nothing),
    }
}

/// Refuses sizes that have no meaning, which an edited stage may state.
fn runnable(view: &SlotView) -> Result<(), RunError> {
    let odd = |m: &&sotto_ir::slot::Matrix| {
        !m.in_width.is_power_of_two() || !m.out_width.is_power_of_two() || m.baby == 0
    };
    match view.matrices.iter().find(odd) {
        Some(m) => Err(RunError::new(format!(
            "matrix `{}`: its widths are no powers of two, or it has no baby steps; `sottoc compile --from` says what else is wrong",
            m.name
        ))),
        None if view.steps.is_empty() => Err(RunError::new("the program has no steps")),
        None => Ok(()),
    }
}

/// The checkpoint that a stage was made from.
pub(super) fn checkpoint_of<'a>(
    kind: &'static str,
    digest: &str,
    checkpoint: Option<&'a Checkpoint>,
) -> Result<&'a Checkpoint, CompareError> {
    let checkpoint = checkpoint.ok_or(CompareError::NoModel { kind })?;
    let model = checkpoint.digest()?.to_string();
    match model == digest {
        true => Ok(checkpoint),
        false => Err(CompareError::Foreign {
            stage: digest.into(),
            model,
        }),
    }
}

/// A stage in the interpreter.
struct StageRun<'a, S: Stage> {
    program: &'a Program<S>,
    decoder: Decoder,
    checkpoint: &'a Checkpoint,
    data: CheckpointData<'a>,
    session: Session,
    places: HashMap<(String, ValueId), (usize, usize, usize)>,
}

impl<'a, S: Stage> StageRun<'a, S> {
    fn new(
        program: &'a Program<S>,
        view: &SlotView,
        checkpoint: Option<&'a Checkpoint>,
    ) -> Result<Self, CompareError> {
        let checkpoint = checkpoint_of(S::NAME, &program.model_digest, checkpoint)?;
        let mut places = HashMap::new();
        for (t, template) in view.templates.iter().enumerate() {
            for (n, node) in template.nodes.iter().enumerate() {
                for (r, value) in node.results.iter().enumerate() {
                    places.insert((template.name.clone(), value.id), (t, n, r));
                }
            }
        }
        Ok(Self {
            program,
            decoder: checkpoint.decoder()?,
            checkpoint,
            data: CheckpointData::new(&program.data, checkpoint, &checkpoint.facts().positions),
            session: Session::default(),
            places,
        })
    }
}

impl<S: Stage> Runner for StageRun<'_, S> {
    fn step(
        &mut self,
        token: u32,
        see: &mut dyn FnMut(&Sight<'_>),
    ) -> Result<Vec<Slots>, RunError> {
        let token = [token];
        let place = (&token[..], self.session.position() as usize);
        let input = pack::input(self.program, &self.decoder, self.checkpoint, place);
        let input = input.map_err(RunError::new)?;
        let places = &self.places;
        let mut observe = |seen: &Seen<'_>| {
            // what a template receives has been seen where it was made
            let place = places.get(&(seen.template.to_string(), seen.value));
            if let Some(&place) = place.filter(|_| seen.site != "param") {
                see(&Sight {
                    layer: seen.layer,
                    group: seen.group,
                    place,
                    slots: seen.slots,
                });
            }
        };
        let interpreter = Interpreter::new(self.program, &self.data);
        let results = interpreter.decode(&mut self.session, vec![input], &mut observe);
        results.map_err(|error| RunError {
            site: match &error {
                InterpError::Malformed { site, .. } => Some(site.clone()),
                _ => None,
            },
            what: error.to_string(),
        })
    }
}

/// A plan on the cleartext backend, without noise.
struct PlanRun {
    plan: Arc<Plan>,
    executor: Executor<Clear>,
    session: sotto_ir::exec::Session<Arc<ClearCt>>,
    /// The client's embedding table, if the client holds it.
    embedding: Option<Vec<f32>>,
    positions: Option<Vec<f32>>,
    templates: HashMap<String, usize>,
}

impl PlanRun {
    fn new(dir: &Path, plan: &Arc<Plan>) -> Result<Self, RunError> {
        plan.require_weights(dir).map_err(RunError::new)?;
        let data = PlanData::open(dir, plan.clone()).map_err(RunError::new)?;
        let read = |table: &Option<FileEntry>| {
            let table = table.as_ref();
            let table = table.filter(|_| plan.client.embedding == Placement::Client);
            let read = table.map(|entry| entry.read_table(dir)).transpose();
            read.map_err(RunError::new)
        };
        let templates = plan.decode.templates.iter().enumerate();
        Ok(Self {
            executor: Executor::new(
                plan.clone(),
                Arc::new(data),
                Clear::for_plan(plan),
                usize::MAX,
            ),
            session: Default::default(),
            embedding: read(&plan.client.embedding_table)?,
            positions: read(&plan.client.position_table)?,
            templates: templates.map(|(t, x)| (x.name.clone(), t)).collect(),
            plan: plan.clone(),
        })
    }

    /// One period of what a client would encrypt.
    fn input(&self, token: u32) -> Result<Slots, RunError> {
        let embedding = Embedding {
            table: self.embedding.as_deref(),
            positions: self.positions.as_deref(),
            vocab: self.plan.model.vocab,
            hidden: self.plan.model.hidden,
        };
        let slots = embedding.slots(&self.plan.client.input, &[token], self.session.position());
        Slots::new(slots.map_err(RunError::new)?)
            .ok_or_else(|| RunError::new("the plan's input width is no power of two"))
    }
}

impl Runner for PlanRun {
    fn step(
        &mut self,
        token: u32,
        see: &mut dyn FnMut(&Sight<'_>),
    ) -> Result<Vec<Slots>, RunError> {
        let level = self.plan.client.input.level;
        let input = self.executor.backend().encrypt(self.input(token)?, level);
        let input = input.map_err(RunError::new)?;
        let templates = &self.templates;
        let mut observe = |event: &Event<'_, ClearCt>| {
            if let (Moment::After { results, .. }, Some(&template)) =
                (&event.moment, templates.get(event.template))
            {
                for (r, ct) in results.iter().enumerate() {
                    see(&Sight {
                        layer: event.layer,
                        group: event.group,
                        place: (template, event.index, r),
                        slots: &ct.slots,
                    });
                }
            }
            ControlFlow::Continue(())
        };
        let run = self
            .executor
            .decode(&mut self.session, vec![input], &mut observe);
        let results = run.map_err(|error| RunError {
            site: failed_at(&error),
            what: error.to_string(),
        })?;
        Ok(results.into_iter().map(|ct| ct.slots).collect())
    }
}

fn failed_at(error: &ExecError<ClearError>) -> Option<String> {
    match error {
        ExecError::At { site, layer, .. } | ExecError::Backend { site, layer, .. } => {
            Some(super::at_layer(site, *layer))
        }
        _ => None,
    }
}

/// Values beyond their declared range, the worst of each site.
#[derive(Default)]
pub(super) struct Ranges(BTreeMap<String, Escape>);

impl Ranges {
    /// Holds a value against its declaration.
    pub fn see(&mut self, view: &SlotView, sight: &Sight<'_>) {
        let (t, n, r) = sight.place;
        let node = &view.templates[t].nodes[n];
        let (declared, seen) = (node.results[r].ty.range, sight.slots.max_part());
        // rounding in float64 is no escape
        if seen <= declared * (1.0 + 1e-9) {
            return;
        }
        let site = super::at_layer(&node.site, sight.layer);
        let worst = self.0.entry(site.clone()).or_insert(Escape {
            site,
            op: node.op.name(),
            declared,
            seen,
            times: 0,
        });
        worst.times += 1;
        if seen / declared > worst.seen / worst.declared {
            (worst.op, worst.declared, worst.seen) = (node.op.name(), declared, seen);
        }
    }

    /// The worst excess first.
    pub fn escapes(self) -> Vec<Escape> {
        let mut escapes: Vec<Escape> = self.0.into_values().collect();
        escapes.sort_by(|a, b| (b.seen / b.declared).total_cmp(&(a.seen / a.declared)));
        escapes
    }
}
