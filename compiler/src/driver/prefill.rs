//! The prefill program: how many tokens of a prompt one run takes, and its passes beside those of decode.
//!
//! Tokens of a block lie side by side in the slots, so each has S / block of them, and prefill is decode on that shorter ring: the same
//! search, lowering and placement, with more diagonals in every matrix and as many bootstraps as for one token. It shares decode's cache,
//! whose tokens have to lie inside the features, as many as fit. A block is worth having if it costs less than its tokens one by one.

use super::{CompileError, News, StageFile, describe, found};
use crate::emit::{Emitted, emit};
use crate::level::level;
use crate::lower::{LowerError, Options, Ranges, lower_block, widths};
use crate::place;
use crate::search::{Alternative, Form, Found, Guidance, choose};
use sotto_ir::cost::CostTable;
use sotto_ir::decoder::Decoder;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::{Approximation, Decision, SearchNote};
use sotto_ir::slot::{Leveled, Packed, Program, StateId};

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
    /// The search for decode, which leaves room for blocks where they are possible: with the tokens of a group that they ask for.
    pub fn choose(&self) -> Result<(Found, Option<u32>), LowerError> {
        let room = self.room()?;
        let with = |tokens| Guidance {
            tokens,
            ..self.guidance.clone()
        };
        match self.search(self.options, &with(room)) {
            // nobody has asked for blocks
            Err(LowerError::Pinned) if room.is_some() && self.options.block.is_none() => {
                Ok((self.search(self.options, &with(None))?, None))
            }
            found => Ok((found?, room)),
        }
    }

    fn search(&self, options: &Options, guidance: &Guidance) -> Result<Found, LowerError> {
        choose(self.decoder, self.ranges, options, guidance, self.table)
    }

    /// Tokens of a KV group that blocks ask for; None where there cannot be blocks, or none are wanted.
    fn room(&self) -> Result<Option<u32>, LowerError> {
        let widths = widths(self.decoder, self.options)?;
        let tokens = self.options.slots / widths.heads;
        let most = self.most(widths.widest, tokens);
        let asked = self.options.block;
        if let Some(block) = asked.filter(|block| *block > most.max(1)) {
            return Err(LowerError::Block { block, most });
        }
        // pins and switches that leave no such cache leave no blocks, unless they are asked for: then the search will refuse
        let pinned = self.guidance.pins.iter().any(|pin| match pin.form {
            Form::Outside(_) => true,
            Form::Inside(n) => n != tokens,
            _ => false,
        });
        let needed = [Alternative::Interleaving, Alternative::Strides];
        let without = needed.iter().any(|one| self.guidance.without.contains(one));
        let possible = most > 1 && (asked.is_some() || !(pinned || without));
        Ok((possible && asked != Some(1)).then_some(tokens))
    }

    /// Most tokens of a block: each has room for the widest vector, and every pair of two has a slot beside each feature.
    fn most(&self, widest: u32, tokens: u32) -> u32 {
        let Options { slots, context, .. } = *self.options;
        let pairs = 1 << (tokens.max(1).ilog2() / 2);
        let context = 1 << context.max(1).ilog2();
        pairs.min(slots / widest.max(1)).min(context).max(1)
    }

    /// The best prefill program beside `decode`, which shares its keys then; None if none is worth having, or if `decode` has not left
    /// `room` for one, tokens of a group.
    pub fn prefill(
        &self,
        room: Option<u32>,
        decode: &mut Placed,
        recalibrate: &mut Recalibrate<'_>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Option<Prefilled>, CompileError> {
        let Some(tokens) = room else {
            return Ok(None);
        };
        let found = self.best(tokens, decode, recalibrate, tell)?;
        if let Some(prefill) = &found {
            self.beside(decode, prefill)?;
        }
        Ok(found)
    }

    fn best(
        &self,
        tokens: u32,
        decode: &Placed,
        recalibrate: &mut Recalibrate<'_>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Option<Prefilled>, CompileError> {
        let widths = widths(self.decoder, self.options)?;
        let asked = self.options.block;
        let mut block = asked.unwrap_or(self.most(widths.widest, tokens));
        while block > 1 {
            let found = self.block(block, tokens / block, decode, recalibrate, tell);
            let better = |found: &Prefilled| {
                let seconds = found.placed.emitted.estimate.seconds;
                seconds < decode.emitted.estimate.seconds * f64::from(block)
            };
            match found {
                Ok(found) if asked.is_some() || better(&found) => return Ok(Some(found)),
                Err(error) if asked.is_some() => return Err(error),
                _ => block /= 2,
            }
        }
        found(
            tell,
            "prefill: no block is worth its price; prompts are taken token by token".into(),
        );
        Ok(None)
    }

    /// The prefill program that takes `block` tokens, with groups of `tokens` for each of them.
    fn block(
        &self,
        block: u32,
        tokens: u32,
        decode: &Placed,
        recalibrate: &mut Recalibrate<'_>,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Prefilled, CompileError> {
        let ring = Options {
            slots: self.options.slots / block,
            ..self.options.clone()
        };
        // pins are decode's
        let guidance = Guidance {
            pins: Vec::new(),
            without: self.guidance.without.clone(),
            tokens: Some(tokens),
        };
        found(tell, format!("prefill: blocks of {block} tokens"));
        let mut chosen = self.search(&ring, &guidance)?;
        describe(&chosen, tell);
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
        // the states that decode reads are as decode's run has them
        let shared = decode.leveled.states.len();
        for (state, decodes) in packed.states.iter_mut().zip(&decode.leveled.states) {
            state.ty.range = decodes.ty.range;
        }
        let levels = decode.leveled.states.iter().zip(0..);
        let levels = levels.filter_map(|(state, id)| Some((StateId(id), state.level?)));
        let options = place::Options::default().stored_at(levels);
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

    /// Emits decode again beside prefill, whose keys it shares.
    fn beside(&self, decode: &mut Placed, prefill: &Prefilled) -> Result<(), CompileError> {
        let others = [&prefill.placed.emitted.decode];
        decode.emitted = emit(&decode.leveled, self.params, self.table, &others)?;
        let peak = prefill.placed.emitted.estimate.peak_memory_bytes;
        let estimate = &mut decode.emitted.estimate;
        estimate.peak_memory_bytes = estimate.peak_memory_bytes.max(peak);
        Ok(())
    }
}
