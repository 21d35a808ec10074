//! `sottoc estimate`: every pass but the packing of weights, for a model whose weights need not be here.

use super::prefill::{Passes, Placed, Prefilled};
use super::{CompileError, News, describe, found};
use crate::cost;
use crate::emit::Emitted;
use crate::frontend::Preset;
use crate::level::level;
use crate::lower::{Options, Ranges, lower};
use crate::pack;
use crate::place;
use crate::search::Guidance;
use sotto_ir::cost::CostTable;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::{Approximation, Decision, SearchNote};
use sotto_ir::slot::{Leveled, Packed, Program};
use std::path::PathBuf;

/// What to estimate.
#[derive(Clone, Debug)]
pub struct EstimateRequest {
    /// Name of a preset.
    pub preset: String,
    /// Ring and chain.
    pub params: ParamSet,
    /// Context, margin, tolerance, who holds the ends.
    pub options: Options,
    /// Measured prices [default: the committed table, or counts for another ring].
    pub cost_table: Option<PathBuf>,
    /// What is taken from the search.
    pub guidance: Guidance,
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
    /// Assumed ranges.
    pub ranges: Ranges,
    /// Prices.
    pub table: CostTable,
    /// The stage between.
    pub packed: Program<Packed>,
    /// The placed program.
    pub leveled: Program<Leveled>,
}

/// Searches, places and prices a preset on its profile of ranges. Values between the profile's sites have the ranges of [`pack::assume`].
///
/// # Errors
/// An unknown preset, options that do not suit it, or no placement within the memory.
pub fn estimate(
    request: &EstimateRequest,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Estimated, CompileError> {
    estimate_preset(&Preset::named(&request.preset)?, request, tell)
}

/// The same for a preset at hand; the name in the request is not looked at.
pub(super) fn estimate_preset(
    preset: &Preset,
    request: &EstimateRequest,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<Estimated, CompileError> {
    let most = preset.facts.max_positions;
    let context = request.options.context;
    if context == 0 || context as usize > most {
        return Err(CompileError::Context { context, most });
    }
    let table = match &request.cost_table {
        Some(path) => cost::read(path, &request.params)?,
        None => cost::of(&request.params)?,
    };
    let ranges = Ranges::assumed(&preset.decoder, &preset.profile)?;
    let passes = Passes {
        decoder: &preset.decoder,
        ranges: &ranges,
        options: &request.options,
        guidance: &request.guidance,
        params: &request.params,
        table: &table,
        memory: request.memory,
    };
    let (chosen, room) = passes.choose()?;
    describe(&chosen, tell);
    let draft = lower(&preset.decoder, &ranges, &request.options, &chosen.choices)?;
    let mut packed = draft.program;
    pack::assume(&mut packed);
    packed.verify().map_err(CompileError::Verify)?;
    found(tell, format!("{} templates", packed.templates.len()));
    let options = place::Options::default();
    let memory = request.memory;
    let placed = level(&packed, &request.params, &table, &options, memory, &[])?;
    let mut decode = Placed {
        packed: None,
        leveled: placed.program,
        emitted: placed.emitted,
    };
    let mut assumed = |packed: &mut Program<Packed>, _: &mut dyn FnMut(News<'_>)| {
        pack::assume(packed);
        Ok(None)
    };
    let prefill = passes.prefill(room, &mut decode, &mut assumed, tell)?;
    Ok(Estimated {
        emitted: decode.emitted,
        prefill,
        decisions: chosen.decisions,
        search: chosen.note,
        approximations: draft.approximations,
        ranges,
        table,
        leveled: decode.leveled,
        packed,
    })
}
