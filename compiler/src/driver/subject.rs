//! A model with its ranges, and the passes from there to a priced program: one road for checkpoints and presets, plans and estimates.

use super::agree::Agreed;
use super::bundle::Findings;
use super::calibration::Calibration;
use super::prefill::Prefilled;
use super::stage::StageFile;
use super::{CompileError, News, Planning, describe, found};
use crate::emit::{Emitted, emit};
use crate::frontend::{Checkpoint, Preset};
use crate::level::{LevelError, level};
use crate::lower::{Ranges, lower};
use crate::pack;
use crate::place::{self, Strategy};
use crate::search::{Form, Guidance};
use sotto_ir::cost::CostTable;
use sotto_ir::decoder::Decoder;
use sotto_ir::plan::Decision;
use sotto_ir::slot::{Leveled, Packed, Program};
use std::ops::ControlFlow;
use std::path::Path;

/// A model with its ranges, to be planned in different ways.
pub struct Subject<'m> {
    /// The model.
    pub decoder: Decoder,
    /// Its calibrated or assumed ranges.
    pub ranges: Ranges,
    /// Prices.
    pub table: CostTable,
    /// How it is planned.
    pub planning: Planning,
    /// What values between the sites of ranges are found with; without it they have the ranges of [`pack::assume`].
    data: Option<(&'m Checkpoint, Calibration)>,
}

/// A packed program, and what the search found out.
pub struct Draft {
    /// The program.
    pub program: Program<Packed>,
    findings: Findings,
    /// Tokens of a block that its cache has room for, more than one.
    room: Option<u32>,
}

/// A placed program with its emission.
pub struct Placed {
    /// The placed program.
    pub leveled: Program<Leveled>,
    /// What emission makes of it.
    pub emitted: Emitted,
}

/// What a plan is made of.
pub struct Planned {
    /// The program of a token.
    pub decode: Placed,
    /// The program of a prompt's blocks, if there is one.
    pub prefill: Option<Prefilled>,
    /// What passes found out.
    pub findings: Findings,
}

/// Hears of every stage that has a text form, and may break off there.
pub type Watch<'a, B> = dyn FnMut(StageFile) -> Result<ControlFlow<B>, CompileError> + 'a;

impl<'m> Subject<'m> {
    /// A checkpoint's decoder, calibrated on the input named or on the one beside the model.
    ///
    /// # Errors
    /// Calibration data or a cost table that cannot be used, a context that the model does not take.
    pub fn of_checkpoint(
        checkpoint: &'m Checkpoint,
        decoder: Decoder,
        calibrate: Option<&Path>,
        planning: &Planning,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Self, CompileError> {
        planning.check_context(checkpoint.facts().max_positions)?;
        let table = planning.table()?;
        let calibration = Calibration::open(checkpoint, calibrate, &planning.options)?;
        let ranges = calibration.ranges(&decoder, checkpoint, tell)?;
        Ok(Self {
            decoder,
            ranges,
            table,
            planning: planning.clone(),
            data: Some((checkpoint, calibration)),
        })
    }

    /// A preset with its profile of ranges.
    ///
    /// # Errors
    /// A context that the model does not take; a cost table that cannot be used.
    pub fn of_preset(preset: &Preset, planning: &Planning) -> Result<Self, CompileError> {
        planning.check_context(preset.facts.max_positions)?;
        Ok(Self {
            decoder: preset.decoder.clone(),
            ranges: Ranges::assumed(&preset.decoder, &preset.profile)?,
            table: planning.table()?,
            planning: planning.clone(),
            data: None,
        })
    }

    /// All passes, from the decoder or from a later stage on.
    ///
    /// # Errors
    /// Guidance or options that do not suit the model, a stage that breaks its rules, no placement, or none within the memory.
    pub fn plan<B>(
        &mut self,
        from: Option<&StageFile>,
        reached: &mut Watch<'_, B>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<ControlFlow<B, Planned>, CompileError> {
        let mut outcome = self.passes(from, reached, tell);
        for frugal in [Self::without_room, Self::stored_once] {
            let Err(CompileError::Level(LevelError::Memory { needed: least, .. })) = &outcome
            else {
                break;
            };
            let least = *least;
            let Some(how) = frugal(self, from) else {
                continue;
            };
            found(tell, format!("too much memory: trying {how}"));
            // what does not help does not matter: the least that was too much is what there is to say
            match self.passes(from, reached, tell) {
                Ok(tried) => return Ok(tried),
                Err(CompileError::Level(LevelError::Memory { needed, limit }))
                    if needed < least =>
                {
                    outcome = Err(LevelError::Memory { needed, limit }.into());
                }
                Err(_) => {}
            }
        }
        outcome
    }

    /// A cache with room for blocks may be what takes too much, and nobody has asked for it.
    fn without_room(&mut self, _: Option<&StageFile>) -> Option<&'static str> {
        let block = &mut self.planning.options.block;
        block.is_none().then(|| {
            *block = Some(1);
            "without room for blocks of a prompt"
        })
    }

    /// Keys and values once per KV head take a fraction of the memory, and more time. In a stage file that is decided.
    fn stored_once(&mut self, from: Option<&StageFile>) -> Option<&'static str> {
        let model = &self.decoder.model;
        let pin = self.attention(Form::StoredOnce);
        let decided = !matches!(from, None | Some(StageFile::Decoder(_)));
        let pinned = self.planning.guidance.pins.contains(&pin);
        if decided || pinned || model.heads == model.kv_heads {
            return None;
        }
        self.planning.guidance.pins.push(pin);
        Some("with keys and values stored once per KV head")
    }

    fn passes<B>(
        &self,
        from: Option<&StageFile>,
        reached: &mut Watch<'_, B>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<ControlFlow<B, Planned>, CompileError> {
        let (mut decode, room, findings) = match from {
            Some(StageFile::Leveled(leveled)) => {
                let decode = Placed {
                    emitted: emit(leveled, &self.planning.params, &self.table, &[])?,
                    leveled: leveled.clone(),
                };
                (decode, self.room_in(leveled)?, Findings::default())
            }
            from => {
                let draft = match from {
                    Some(StageFile::Packed(packed)) => self.resume(packed.clone(), tell)?,
                    _ => self.draft(&self.planning.guidance, tell)?,
                };
                let packed = StageFile::Packed(draft.program.clone());
                if let ControlFlow::Break(end) = reached(packed)? {
                    return Ok(ControlFlow::Break(end));
                }
                let strategy = self.planning.strategy;
                let decode = self.place(&draft, strategy)?;
                let mut findings = draft.findings;
                findings.decisions.extend(placed_by(strategy));
                (decode, draft.room, findings)
            }
        };
        let leveled = StageFile::Leveled(decode.leveled.clone());
        if let ControlFlow::Break(end) = reached(leveled)? {
            return Ok(ControlFlow::Break(end));
        }
        let prefill = self.prefill(room, &mut decode, tell)?;
        for stage in prefill.iter().flat_map(Prefilled::stages) {
            if let ControlFlow::Break(end) = reached(stage)? {
                return Ok(ControlFlow::Break(end));
            }
        }
        Ok(ControlFlow::Continue(Planned {
            decode,
            prefill,
            findings,
        }))
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
        let agreed = self.agree(guidance)?;
        describe(&agreed.found, tell);
        found(tell, agreed.summary());
        let Agreed {
            found: chosen,
            room,
            ..
        } = agreed;
        let options = &self.planning.options;
        let lowered = lower(&self.decoder, &self.ranges, options, &chosen.choices)?;
        let mut program = lowered.program;
        self.fill(&mut program, tell)?;
        let findings = Findings {
            approximations: Some(lowered.approximations),
            search: chosen.note,
            decisions: chosen.decisions,
        };
        Ok(Draft {
            program,
            findings,
            room,
        })
    }

    /// A draft from a stage file, whose decisions stand.
    fn resume(
        &self,
        mut program: Program<Packed>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Draft, CompileError> {
        let room = self.room_in(&program)?;
        self.fill(&mut program, tell)?;
        Ok(Draft {
            program,
            findings: Findings::default(),
            room,
        })
    }

    /// Verifies a program and finds the ranges of values between the sites, by a run where there is data.
    pub fn fill(
        &self,
        program: &mut Program<Packed>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<(), CompileError> {
        program.verify().map_err(CompileError::Verify)?;
        let Some((checkpoint, calibration)) = &self.data else {
            pack::assume(program);
            return Ok(());
        };
        let error = calibration.recalibrate(program, &self.decoder, checkpoint, tell)?;
        let said = format!(
            "packed {}: within {error:.5} σ of the decoder on calibration data",
            program.name
        );
        found(tell, said);
        Ok(())
    }

    /// Places and prices a draft.
    ///
    /// # Errors
    /// There is no placement, or none within the memory.
    pub fn place(&self, draft: &Draft, strategy: Strategy) -> Result<Placed, CompileError> {
        let options = place::Options::by(strategy);
        let Planning { params, wanted, .. } = &self.planning;
        let placed = level(&draft.program, params, &self.table, &options, *wanted, &[])?;
        Ok(Placed {
            leveled: placed.program,
            emitted: placed.emitted,
        })
    }
}

/// What a plan says of who placed its bootstraps, if it was not the search.
fn placed_by(strategy: Strategy) -> Option<Decision> {
    (strategy != Strategy::Ours).then(|| Decision {
        site: "placement".into(),
        chosen: format!("{}, for comparison", strategy.name()),
        rejected: vec![],
    })
}
