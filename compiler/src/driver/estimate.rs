//! `sottoc estimate` and `sottoc ablate`: every pass but the packing of weights, once or with one thing changed at a time. A preset's
//! weights need not be here; a checkpoint is calibrated as `compile` does.

use super::calibration::Calibration;
use super::prefill::{Passes, Placed, Prefilled};
use super::{CompileError, News, describe, found};
use crate::cost;
use crate::emit::Emitted;
use crate::frontend::{Checkpoint, Preset};
use crate::level::level;
use crate::lower::{Options, Ranges, lower};
use crate::pack;
use crate::place::{self, Strategy};
use crate::search::Guidance;
use sotto_ir::cost::CostTable;
use sotto_ir::decoder::Decoder;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::{Approximation, Decision, SearchNote};
use sotto_ir::slot::{Leveled, Packed, Program};
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
pub struct Estimated {
    /// The program with its keys and costs.
    pub emitted: Emitted,
    /// The program of a prompt's blocks, if there is one.
    pub prefill: Option<Prefilled>,
    /// What the search decided.
    pub decisions: Vec<Decision>,
    /// How far it went.
    pub search: SearchNote,
    /// What the polynomials stand for.
    pub approximations: Vec<Approximation>,
    /// The placed program.
    pub leveled: Program<Leveled>,
}

/// A model with its ranges, to be planned in different ways.
pub struct Subject {
    /// The model.
    pub decoder: Decoder,
    /// Its calibrated or assumed ranges.
    pub ranges: Ranges,
    /// Prices.
    pub table: CostTable,
    /// What values between the sites of ranges are found with; without it they have the ranges of [`pack::assume`].
    data: Option<(Checkpoint, Calibration)>,
    params: ParamSet,
    options: Options,
    memory: Option<u64>,
}

/// A packed program, and what the search found out.
pub struct Draft {
    /// The program.
    pub program: Program<Packed>,
    approximations: Vec<Approximation>,
    decisions: Vec<Decision>,
    search: SearchNote,
    block: Option<u32>,
}

/// Searches, places and prices a model, prefill included.
///
/// # Errors
/// An unknown preset, a checkpoint or calibration data that cannot be used, options that do not suit it, or no placement within the
/// memory.
pub fn estimate(
    request: &EstimateRequest,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<(Subject, Estimated), CompileError> {
    let subject = Subject::open(request, tell)?;
    let draft = subject.draft(&request.guidance, tell)?;
    let found = subject.with_prefill(&draft, request, tell)?;
    Ok((subject, found))
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
        let (model, calibrate) = match &request.source {
            Source::Preset(name) => return Self::of_preset(&Preset::named(name)?, request),
            Source::Model(model, calibrate) => (model, calibrate),
        };
        let checkpoint = Checkpoint::open(model)?;
        let decoder = checkpoint.decoder()?;
        let (options, input) = (&request.options, calibrate.as_deref());
        let calibration = Calibration::open(&checkpoint, model, input, options)?;
        let ranges = calibration.ranges(&decoder, &checkpoint, tell)?;
        Self::new(decoder, ranges, Some((checkpoint, calibration)), request)
    }

    /// A preset with its profile of ranges; the source that the request names is not looked at.
    ///
    /// # Errors
    /// A context that the model does not take; a cost table that cannot be used.
    pub fn of_preset(preset: &Preset, request: &EstimateRequest) -> Result<Self, CompileError> {
        let (most, context) = (preset.facts.max_positions, request.options.context);
        if context == 0 || context as usize > most {
            return Err(CompileError::Context { context, most });
        }
        let ranges = Ranges::assumed(&preset.decoder, &preset.profile)?;
        Self::new(preset.decoder.clone(), ranges, None, request)
    }

    fn new(
        decoder: Decoder,
        ranges: Ranges,
        data: Option<(Checkpoint, Calibration)>,
        request: &EstimateRequest,
    ) -> Result<Self, CompileError> {
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

    fn passes<'a>(&'a self, guidance: &'a Guidance, strategy: Strategy) -> Passes<'a> {
        Passes {
            decoder: &self.decoder,
            ranges: &self.ranges,
            options: &self.options,
            guidance,
            params: &self.params,
            table: &self.table,
            strategy,
            memory: self.memory,
        }
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
        let (chosen, block) = self.passes(guidance, Strategy::Ours).choose()?;
        describe(&chosen, tell);
        let lowered = lower(&self.decoder, &self.ranges, &self.options, &chosen.choices)?;
        let mut program = lowered.program;
        program.verify().map_err(CompileError::Verify)?;
        self.fill(&mut program, tell)?;
        found(tell, format!("{} templates", program.templates.len()));
        Ok(Draft {
            program,
            approximations: lowered.approximations,
            decisions: chosen.decisions,
            search: chosen.note,
            block,
        })
    }

    /// Finds the ranges of values between the sites, by a run where there is data.
    fn fill(
        &self,
        program: &mut Program<Packed>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Option<f64>, CompileError> {
        match &self.data {
            Some((checkpoint, calibration)) => {
                let error = calibration.recalibrate(program, &self.decoder, checkpoint, tell)?;
                Ok(Some(error))
            }
            None => {
                pack::assume(program);
                Ok(None)
            }
        }
    }

    /// Places and prices a draft.
    ///
    /// # Errors
    /// There is no placement, or none within the memory.
    pub fn place(&self, draft: &Draft, strategy: Strategy) -> Result<Estimated, CompileError> {
        let options = place::Options::by(strategy);
        let memory = self.memory;
        let placed = level(
            &draft.program,
            &self.params,
            &self.table,
            &options,
            memory,
            &[],
        )?;
        Ok(Estimated {
            emitted: placed.emitted,
            prefill: None,
            decisions: draft.decisions.clone(),
            search: draft.search,
            approximations: draft.approximations.clone(),
            leveled: placed.program,
        })
    }

    /// The same with the program of a prompt's blocks.
    ///
    /// # Errors
    /// As [`Subject::place`].
    pub fn with_prefill(
        &self,
        draft: &Draft,
        request: &EstimateRequest,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Estimated, CompileError> {
        let mut found = self.place(draft, request.strategy)?;
        let mut decode = Placed {
            packed: None,
            leveled: found.leveled,
            emitted: found.emitted,
        };
        let passes = self.passes(&request.guidance, request.strategy);
        let mut fill = |program: &mut Program<Packed>, tell: &mut dyn FnMut(News<'_>)| {
            self.fill(program, tell)
        };
        found.prefill = passes.prefill(draft.block, &mut decode, &mut fill, tell)?;
        (found.leveled, found.emitted) = (decode.leveled, decode.emitted);
        Ok(found)
    }
}
