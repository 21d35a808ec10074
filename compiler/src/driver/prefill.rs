//! The prefill program: how many tokens of a prompt one run takes, and its passes beside those of decode.
//!
//! Tokens of a block lie side by side in the slots, so each has S / block of them, and prefill is decode on that shorter ring: the same
//! search, lowering and placement, with more diagonals in every matrix and as many bootstraps as for one token. It shares decode's cache,
//! where a block's tokens have to lie inside the features and the blocks outside. A block is worth having if it costs less than its tokens
//! one by one.

use super::{CompileError, News, StageFile, describe, found};
use crate::emit::{Emitted, emit};
use crate::level::{LevelError, level};
use crate::lower::{LowerError, Options, Ranges, lower_block, widths};
use crate::pack;
use crate::place::{self, Strategy};
use crate::search::{Form, Found, Guidance, Pin, attend_site, choose};
use sotto_ir::cost::CostTable;
use sotto_ir::decoder::Decoder;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::{Approximation, Decision, SearchNote};
use sotto_ir::slot::{Layout, Leveled, Packed, Program, Stage, StateId};

/// A cache with room for blocks may make a layer of decode this much slower: the prompt comes once, tokens come many times.
const SLOWDOWN: f64 = 0.15;

/// What the passes of both programs work with.
pub struct Passes<'a> {
    /// The model.
    pub decoder: &'a Decoder,
    /// Its ranges.
    pub ranges: &'a Ranges,
    /// What the caller decides.
    pub options: &'a Options,
    /// What is taken from the search.
    pub guidance: &'a Guidance,
    /// Ring and chain.
    pub params: &'a ParamSet,
    /// Prices.
    pub table: &'a CostTable,
    /// Who places bootstraps.
    pub strategy: Strategy,
    /// Most bytes that the server may need.
    pub memory: Option<u64>,
}

/// A placed program with its emission.
pub struct Placed {
    /// The stage before, unless the compilation resumed behind it.
    pub packed: Option<Program<Packed>>,
    /// The placed program.
    pub leveled: Program<Leveled>,
    /// What emission makes of it.
    pub emitted: Emitted,
}

/// A prefill program with what its passes found out.
pub struct Prefilled {
    /// The program.
    pub placed: Placed,
    /// What its polynomials stand for.
    pub approximations: Vec<Approximation>,
    /// What its search decided.
    pub decisions: Vec<Decision>,
    /// How far it went.
    pub search: SearchNote,
}

impl Prefilled {
    /// Its stages that have a text form.
    pub fn stages(&self) -> impl Iterator<Item = StageFile> {
        let packed = self.placed.packed.clone().map(StageFile::Packed);
        let leveled = StageFile::Leveled(self.placed.leveled.clone());
        packed.into_iter().chain([leveled])
    }
}

/// Runs a packed program on calibration data, where there is some, and records its ranges; gives its deviation from the decoder.
pub type Recalibrate<'a> = dyn FnMut(&mut Program<Packed>, &mut dyn FnMut(News<'_>)) -> Result<Option<f64>, CompileError>
    + 'a;

impl Passes<'_> {
    /// The search for decode. Where blocks are possible its cache leaves room for them: how many tokens one takes.
    pub fn choose(&self) -> Result<(Found, Option<u32>), LowerError> {
        let Some(block) = self.block()? else {
            return Ok((self.search(self.options, self.guidance)?, None));
        };
        let mut guidance = self.guidance.clone();
        guidance.pins.push(self.attention(Form::Inside(block)));
        let with_room = self.search(self.options, &guidance);
        if self.options.block.is_some() {
            return Ok((with_room?, Some(block)));
        }
        let free = self.search(self.options, self.guidance)?;
        match with_room {
            Ok(found) if found.nanos as f64 <= free.nanos as f64 * (1.0 + SLOWDOWN) => {
                Ok((found, Some(block)))
            }
            // what is pinned or switched off leaves no such cache, or every later token would pay for the prompt
            Ok(_) | Err(LowerError::Pinned) => Ok((free, None)),
            Err(error) => Err(error),
        }
    }

    /// Tokens of a block that the cache of a decode program from a stage file has room for; None for one.
    pub fn room_in<S: Stage>(&self, decode: &Program<S>) -> Result<Option<u32>, LowerError> {
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        let room = decode.states.iter().all(|state| match &state.ty.layout {
            Layout::Tokens(group) => group.inner == block,
            _ => false,
        });
        match (room, self.options.block) {
            (false, Some(block)) => Err(LowerError::NoRoom { block }),
            (room, _) => Ok(Some(block).filter(|_| room)),
        }
    }

    fn search(&self, options: &Options, guidance: &Guidance) -> Result<Found, LowerError> {
        choose(self.decoder, self.ranges, options, guidance, self.table)
    }

    fn attention(&self, form: Form) -> Pin {
        Pin {
            site: attend_site(&self.decoder.layer),
            form,
        }
    }

    /// Tokens of a block: as asked, or as many as fit; None for one.
    fn block(&self) -> Result<Option<u32>, LowerError> {
        let most = self.most()?;
        match self.options.block {
            Some(block) if block > most => Err(LowerError::Block { block, most }),
            Some(block) => Ok(Some(block).filter(|block| *block > 1)),
            None => Ok(Some(most).filter(|most| *most > 1)),
        }
    }

    /// Most tokens of a block: each has room for the widest vector, and for a key of each.
    fn most(&self) -> Result<u32, LowerError> {
        let widths = widths(self.decoder, self.options)?;
        let Options { slots, context, .. } = *self.options;
        let pairs = 1 << ((slots / widths.heads).max(1).ilog2() / 2);
        let context = 1 << context.max(1).ilog2();
        Ok(context.min(pairs).min(slots / widths.widest).max(1))
    }

    /// The prefill program of `block` tokens beside `decode`, which shares its keys then; None if it is not worth having.
    pub fn prefill(
        &self,
        block: Option<u32>,
        decode: &mut Placed,
        recalibrate: &mut Recalibrate<'_>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Option<Prefilled>, CompileError> {
        let Some(block) = block else {
            let said = "prefill: none; prompts are taken token by token";
            super::found(tell, said.into());
            return Ok(None);
        };
        let made = self.beside(block, decode, recalibrate, tell);
        match made {
            // nobody has asked for it
            Err(error) if self.options.block.is_none() => {
                let said = format!("prefill: none; prompts are taken token by token ({error})");
                super::found(tell, said);
                Ok(None)
            }
            made => {
                let (prefill, emitted) = made?;
                decode.emitted = emitted;
                Ok(Some(prefill))
            }
        }
    }

    /// The prefill program, and decode emitted again beside it, whose keys it shares.
    fn beside(
        &self,
        block: u32,
        decode: &Placed,
        recalibrate: &mut Recalibrate<'_>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<(Prefilled, Emitted), CompileError> {
        let made = self.block_program(block, decode, recalibrate, tell)?;
        let prefill = &made.placed.emitted;
        let each = decode.emitted.estimate.seconds;
        if self.options.block.is_none() && prefill.estimate.seconds >= each * f64::from(block) {
            return Err(LowerError::Unsupported {
                site: "prefill".into(),
                what: "a block that costs more than its tokens one by one".into(),
            }
            .into());
        }
        let others = [&prefill.decode];
        let mut emitted = emit(&decode.leveled, self.params, self.table, &others)?;
        let estimate = &mut emitted.estimate;
        let peak = prefill.estimate.peak_memory_bytes;
        estimate.peak_memory_bytes = estimate.peak_memory_bytes.max(peak);
        estimate.plaintext_bytes += prefill.estimate.plaintext_bytes;
        let needed = estimate.peak_memory_bytes;
        match self.memory {
            Some(limit) if needed > limit => Err(LevelError::Memory { needed, limit }.into()),
            _ => Ok((made, emitted)),
        }
    }

    /// The prefill program that takes `block` tokens.
    fn block_program(
        &self,
        block: u32,
        decode: &Placed,
        recalibrate: &mut Recalibrate<'_>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Prefilled, CompileError> {
        let ring = Options {
            slots: self.options.slots / block,
            ..self.options.clone()
        };
        // a group for each block; other pins are decode's
        let guidance = Guidance {
            pins: vec![self.attention(Form::Outside(block))],
            without: self.guidance.without.clone(),
        };
        found(tell, format!("prefill: blocks of {block} tokens"));
        let mut chosen = self.search(&ring, &guidance)?;
        describe(&chosen, tell);
        let stored = decode.leveled.states.first();
        chosen.choices.stored = stored.and_then(|state| state.ty.layout.tokens());
        chosen.choices.block = block;
        let draft = lower_block(
            self.decoder,
            self.ranges,
            self.options,
            &chosen.choices,
            &decode.leveled,
        )?;
        let mut packed = draft.program;
        packed.verify().map_err(CompileError::Verify)?;
        if let Some(error) = recalibrate(&mut packed, tell)? {
            let said = format!("prefill: within {error:.5} σ of the decoder on calibration data");
            found(tell, said);
        }
        pack::widen(&mut packed, &decode.leveled);
        // the states that decode reads are as decode's run has them
        let shared = decode.leveled.states.len();
        for (state, decodes) in packed.states.iter_mut().zip(&decode.leveled.states) {
            state.ty.range = decodes.ty.range;
        }
        let levels = decode.leveled.states.iter().zip(0..);
        let levels = levels.filter_map(|(state, id)| Some((StateId(id), state.level?)));
        let mut options = place::Options::by(self.strategy).stored_at(levels);
        options.groups = Some(1);
        let beside = [&decode.emitted.decode];
        let placed = level(
            &packed,
            self.params,
            self.table,
            &options,
            self.memory,
            &beside,
        )?;
        if placed.program.states[..shared] != decode.leveled.states {
            return Err(LowerError::Unsupported {
                site: "prefill".into(),
                what: "a cache stored at other levels than decode's".into(),
            }
            .into());
        }
        Ok(Prefilled {
            placed: Placed {
                packed: Some(packed),
                leveled: placed.program,
                emitted: placed.emitted,
            },
            approximations: draft.approximations,
            decisions: chosen.decisions,
            search: chosen.note,
        })
    }
}
