//! The prefill program: how many tokens of a prompt one run takes, and its passes beside those of decode.
//!
//! Tokens of a block lie side by side in the slots, so each has S / block of them, and prefill is decode on that shorter ring: the same
//! search, lowering and placement, with more diagonals in every matrix and as many bootstraps as for one token. It shares decode's cache,
//! where a block's tokens have to lie inside the features and the blocks outside. A block is worth having if it costs less than its tokens
//! one by one.

use super::bundle::Findings;
use super::subject::{Placed, Subject};
use super::{CompileError, News, Planning, StageFile, describe, found};
use crate::emit::{Emitted, emit};
use crate::level::{LevelError, level};
use crate::lower::{LowerError, Options, lower_block, widths};
use crate::search::{Alternative, Form, Found, Guidance, Levels, Pin, Space, attend_site, choose};
use crate::{pack, place};
use sotto_ir::slot::{Layout, Packed, Program, Stage, StateId};

/// A cache with room for blocks may make a layer of decode this much slower: the prompt comes once, tokens come many times.
const SLOWDOWN: f64 = 0.15;

/// A prefill program with what its passes found out.
pub struct Prefilled {
    /// The stage before placement.
    pub packed: Program<Packed>,
    /// The program.
    pub placed: Placed,
    /// What passes found out.
    pub findings: Findings,
}

impl Prefilled {
    /// Its stages that have a text form.
    pub fn stages(&self) -> impl Iterator<Item = StageFile> {
        let packed = StageFile::Packed(self.packed.clone());
        let leveled = StageFile::Leveled(self.placed.leveled.clone());
        [packed, leveled].into_iter()
    }
}

impl Subject<'_> {
    /// The cheapest choices for decode under `levels`. Where blocks are possible its cache leaves room for them: how many tokens one
    /// takes.
    pub fn proposed(
        &self,
        space: &Space,
        pins: &[Pin],
        levels: Levels,
    ) -> Result<(Found, Option<u32>), LowerError> {
        let choose = |pins: &[Pin]| space.choose(pins, levels, &self.table);
        let Some(block) = self.block()? else {
            return Ok((choose(pins)?, None));
        };
        let with_room = choose(&self.roomy(pins, block));
        if self.planning.options.block.is_some() {
            return Ok((with_room?, Some(block)));
        }
        let free = choose(pins)?;
        match with_room {
            Ok(found) if found.nanos as f64 <= free.nanos as f64 * (1.0 + SLOWDOWN) => {
                Ok((found, Some(block)))
            }
            // what is pinned or switched off leaves no such cache, or every later token would pay for the prompt
            Ok(_) | Err(LowerError::Pinned { .. }) => Ok((free, None)),
            Err(error) => Err(error),
        }
    }

    /// Pins with one more, for a cache with room for blocks.
    pub fn roomy(&self, pins: &[Pin], block: u32) -> Vec<Pin> {
        let room = self.attention(Form::Inside(block));
        pins.iter().cloned().chain([room]).collect()
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
        match (room, self.planning.options.block) {
            (false, Some(block)) => Err(LowerError::NoRoom { block }),
            (room, _) => Ok(Some(block).filter(|_| room)),
        }
    }

    /// A pin of the attention.
    pub fn attention(&self, form: Form) -> Pin {
        Pin {
            site: attend_site(&self.decoder.layer),
            form,
        }
    }

    /// Tokens of a block: as asked, or as many as fit; None for one.
    fn block(&self) -> Result<Option<u32>, LowerError> {
        let most = self.most()?;
        match self.planning.options.block {
            Some(block) if block > most => Err(LowerError::Block { block, most }),
            Some(block) => Ok(Some(block).filter(|block| *block > 1)),
            None => Ok(Some(most).filter(|most| *most > 1)),
        }
    }

    /// Most tokens of a block: each has room for the widest vector, and for a key of each.
    fn most(&self) -> Result<u32, LowerError> {
        let options = &self.planning.options;
        let widths = widths(&self.decoder, options)?;
        let Options { slots, context, .. } = *options;
        let pairs = 1 << ((slots / widths.heads).max(1).ilog2() / 2);
        let context = 1 << context.max(1).ilog2();
        Ok(context.min(pairs).min(slots / widths.widest).max(1))
    }

    /// The prefill program of `block` tokens beside `decode`, which shares its keys then; None if it is not worth having.
    pub fn prefill(
        &self,
        block: Option<u32>,
        decode: &mut Placed,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Option<Prefilled>, CompileError> {
        let Some(block) = block else {
            let said = "prefill: none; prompts are taken token by token";
            found(tell, said.into());
            return Ok(None);
        };
        match self.beside(block, decode, tell) {
            // nobody has asked for it
            Err(error) if self.planning.options.block.is_none() => {
                let said = format!("prefill: none; prompts are taken token by token ({error})");
                found(tell, said);
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
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<(Prefilled, Emitted), CompileError> {
        let Planning {
            params,
            options,
            wanted,
            ..
        } = &self.planning;
        let made = self.block_program(block, decode, tell)?;
        let prefill = &made.placed.emitted;
        let together = prefill.estimate.seconds;
        let alone = decode.emitted.estimate.seconds * f64::from(block);
        if options.block.is_none() && together >= alone {
            return Err(CompileError::SlowBlock {
                block,
                together,
                alone,
            });
        }
        let mut emitted = emit(&decode.leveled, params, &self.table, &[&prefill.decode])?;
        let estimate = &mut emitted.estimate;
        let peak = prefill.estimate.peak_memory_bytes;
        estimate.peak_memory_bytes = estimate.peak_memory_bytes.max(peak);
        estimate.plaintext_bytes += prefill.estimate.plaintext_bytes;
        let needed = estimate.peak_memory_bytes;
        match wanted.memory {
            Some(limit) if needed > limit => Err(LevelError::Memory { needed, limit }.into()),
            _ => Ok((made, emitted)),
        }
    }

    /// The prefill program that takes `block` tokens.
    fn block_program(
        &self,
        block: u32,
        decode: &Placed,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Prefilled, CompileError> {
        found(tell, format!("prefill: blocks of {block} tokens"));
        let (mut packed, findings) = self.block_draft(block, decode, tell)?;
        self.fill(&mut packed, tell)?;
        pack::widen(&mut packed, &decode.leveled);
        // the states that decode reads are as decode's run has them
        let shared = &decode.leveled.states;
        for (state, decodes) in packed.states.iter_mut().zip(shared) {
            state.ty.range = decodes.ty.range;
        }
        let placed = self.block_placed(&packed, decode)?;
        if placed.leveled.states[..shared.len()] != **shared {
            return Err(CompileError::BlockLevels { block });
        }
        Ok(Prefilled {
            packed,
            placed,
            findings,
        })
    }

    /// Its packed program, with a cache as decode's.
    fn block_draft(
        &self,
        block: u32,
        decode: &Placed,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<(Program<Packed>, Findings), CompileError> {
        let Planning {
            options, guidance, ..
        } = &self.planning;
        let ring = Options {
            slots: options.slots / block,
            ..options.clone()
        };
        // a group for each block; other pins are decode's
        let guidance = Guidance {
            pins: vec![self.attention(Form::Outside(block))],
            // of a block, keys go to two places, and are made for both
            without: [&guidance.without[..], &[Alternative::Once]].concat(),
        };
        let mut chosen = choose(&self.decoder, &self.ranges, &ring, &guidance, &self.table)?;
        describe(&chosen, tell);
        let stored = decode.leveled.states.first();
        chosen.choices.stored = stored.and_then(|state| state.ty.layout.tokens());
        chosen.choices.block = block;
        let draft = lower_block(
            &self.decoder,
            &self.ranges,
            options,
            &chosen.choices,
            &decode.leveled,
        )?;
        let findings = Findings {
            approximations: Some(draft.approximations),
            search: chosen.note,
            decisions: chosen.decisions,
        };
        Ok((draft.program, findings))
    }

    /// Its placement, with states stored at decode's levels.
    fn block_placed(
        &self,
        packed: &Program<Packed>,
        decode: &Placed,
    ) -> Result<Placed, CompileError> {
        let Planning {
            params,
            strategy,
            wanted,
            ..
        } = &self.planning;
        let levels = decode.leveled.states.iter().zip(0..);
        let levels = levels.filter_map(|(state, id)| Some((StateId(id), state.level?)));
        let mut options = place::Options::by(*strategy).stored_at(levels);
        options.groups = Some(1);
        let beside = [&decode.emitted.decode];
        let placed = level(packed, params, &self.table, &options, *wanted, &beside)?;
        Ok(Placed {
            leveled: placed.program,
            emitted: placed.emitted,
        })
    }
}
