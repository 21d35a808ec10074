//! `sottoc estimate` and `sottoc ablate`: every pass but the packing of weights, once or with one thing changed at a time. A preset's
//! weights need not be here; a checkpoint is calibrated as `compile` does.

use super::calibration::Calibration;
use super::{CompileError, News, describe, found};
use crate::cost;
use crate::emit::Emitted;
use crate::frontend::{Checkpoint, Preset};
use crate::level::level;
use crate::lower::{Options, Ranges, lower};
use crate::place::{self, Strategy};
use crate::search::{Guidance, choose};
use sotto_ir::cost::CostTable;
use sotto_ir::decoder::Decoder;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Decision;
use sotto_ir::slot::{Packed, Program};
use std::path::PathBuf;

/// What there is of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Shape and assumed ranges, by name.
    Preset(String),
    /// A checkpoint directory, and the calibration input [default: the one beside the model].
    Model(PathBuf, Option<PathBuf>),
}

/// What to estimate.
#[derive(Clone, Debug)]
pub struct EstimateRequest {
    /// The model.
    pub source: Source,
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
}

/// What a plan would be.
#[derive(Clone, Debug)]
pub struct Estimated {
    /// The program with its keys and costs.
    pub emitted: Emitted,
    /// What the search decided.
    pub decisions: Vec<Decision>,
}

/// A model with its ranges, to be planned in different ways.
pub struct Subject {
    decoder: Decoder,
    ranges: Ranges,
    /// What values between the sites of ranges are found with; without it they are taken to fill their unit.
    data: Option<(Checkpoint, Calibration)>,
    table: CostTable,
    params: ParamSet,
    options: Options,
    memory: Option<u64>,
}

/// A packed program, and what the search decided.
pub struct Draft {
    program: Program<Packed>,
    decisions: Vec<Decision>,
}

/// Searches, places and prices a model.
///
/// # Errors
/// An unknown preset, a checkpoint or calibration data that cannot be used, options that do not suit it, or no placement within the
/// memory.
pub fn estimate(
    request: &EstimateRequest,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Estimated, CompileError> {
    let subject = Subject::open(request, tell)?;
    let draft = subject.draft(&request.guidance, tell)?;
    let templates = draft.program.templates.len();
    found(tell, format!("{templates} templates"));
    subject.place(&draft, request.strategy)
}

impl Subject {
    /// Reads the model and finds its ranges.
    ///
    /// # Errors
    /// As [`estimate`].
    pub fn open(
        request: &EstimateRequest,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Self, CompileError> {
        let (decoder, ranges, data) = match &request.source {
            Source::Preset(name) => {
                let (decoder, ranges) = assumed(name, request.options.context)?;
                (decoder, ranges, None)
            }
            Source::Model(model, calibrate) => {
                let checkpoint = Checkpoint::open(model)?;
                let decoder = checkpoint.decoder()?;
                let (options, input) = (&request.options, calibrate.as_deref());
                let calibration = Calibration::open(&checkpoint, model, input, options)?;
                let ranges = calibration.ranges(&decoder, &checkpoint, tell)?;
                (decoder, ranges, Some((checkpoint, calibration)))
            }
        };
        let table = match &request.cost_table {
            Some(path) => cost::read(path, &request.params)?,
            None => cost::of(&request.params)?,
        };
        Ok(Self {
            decoder,
            ranges,
            data,
            table,
            params: request.params.clone(),
            options: request.options.clone(),
            memory: request.memory,
        })
    }

    /// Searches and lowers under `guidance`.
    ///
    /// # Errors
    /// Guidance or options that do not suit the model.
    pub fn draft(
        &self,
        guidance: &Guidance,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Draft, CompileError> {
        let (decoder, ranges, options) = (&self.decoder, &self.ranges, &self.options);
        let chosen = choose(decoder, ranges, options, guidance, &self.table)?;
        describe(&chosen, tell);
        let mut program = lower(decoder, ranges, options, &chosen.choices)?.program;
        program.verify().map_err(CompileError::Verify)?;
        if let Some((checkpoint, calibration)) = &self.data {
            calibration.recalibrate(&mut program, decoder, checkpoint, tell)?;
        }
        Ok(Draft {
            program,
            decisions: chosen.decisions,
        })
    }

    /// Places and prices a draft.
    ///
    /// # Errors
    /// There is no placement, or none within the memory.
    pub fn place(&self, draft: &Draft, strategy: Strategy) -> Result<Estimated, CompileError> {
        let options = place::Options::by(strategy);
        let program = &draft.program;
        let placed = level(program, &self.params, &self.table, &options, self.memory)?;
        Ok(Estimated {
            emitted: placed.emitted,
            decisions: draft.decisions.clone(),
        })
    }
}

/// A preset's decoder, and its profile of ranges.
fn assumed(name: &str, context: u32) -> Result<(Decoder, Ranges), CompileError> {
    let preset = Preset::named(name)?;
    let most = preset.facts.max_positions;
    if context == 0 || context as usize > most {
        return Err(CompileError::Context { context, most });
    }
    let ranges = Ranges::assumed(&preset.decoder, &preset.profile)?;
    Ok((preset.decoder, ranges))
}
