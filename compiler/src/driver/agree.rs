//! Search and placement in turns, until both agree.
//!
//! The search prices work and levels before it is known where anything runs. So its proposal is lowered and placed, on assumed ranges,
//! and what placement made of it prices the next one: work at the level where its price is placement's, levels at what they came to in
//! bootstraps ([`Space::learn`]). When a proposal comes back the two agree. Bootstraps are whole, so no one price of a level is right:
//! others around the last one are tried, too. Of all that was placed the fastest wins, with the encodings of plaintexts that no server keeps.

use super::Planning;
use super::subject::Subject;
use crate::emit::Measures;
use crate::level::level;
use crate::lower::{Choices, LowerError, lower_typical};
use crate::pack;
use crate::place;
use crate::search::{Found, Guidance, Levels, Pin, Space, unpinnable};

/// Most turns until both agree.
const TURNS: usize = 4;
/// Prices of a level that are tried beside the last one, as its multiples, each with work at the same level and at those around it.
const PRICES: [f64; 4] = [0.5, 2.0, 0.25, 4.0];
const AROUND: [i32; 3] = [0, -2, 2];

/// Bytes of encoded plaintexts that a server is taken to keep; what it does not keep it encodes anew for every token.
const KEPT: u64 = 16 << 30;

/// What search and placement agree on.
pub struct Agreed {
    /// The search's program, explained.
    pub found: Found,
    /// Tokens of a block that its cache has room for, more than one.
    pub room: Option<u32>,
    /// Predicted seconds of each different proposal, encodings included, in the order they were placed; infinite where there is no
    /// placement.
    pub placed: Vec<f64>,
    /// Whether a proposal came back.
    pub settled: bool,
}

impl Agreed {
    /// One line for people.
    pub fn summary(&self) -> String {
        let placed = self.placed.len();
        let fastest = self.placed.iter().copied().fold(f64::INFINITY, f64::min);
        if fastest.is_infinite() {
            return format!("search: none of {placed} programs can be placed as wanted");
        }
        let end = match self.settled {
            true => "agree",
            false => "did not come to agree",
        };
        let first = self.placed.first().copied().unwrap_or(fastest);
        match first.is_finite() {
            true => {
                let saved = 1e2 * (first - fastest) / first;
                format!(
                    "search and placement {end}: {placed} programs placed, the fastest {saved:.1} % faster than the first"
                )
            }
            false => format!(
                "search and placement {end}: {placed} programs tried, the first without a placement"
            ),
        }
    }
}

/// A proposal.
struct Proposal {
    found: Found,
    room: Option<u32>,
    /// The prices under which it was proposed.
    levels: Levels,
    /// Predicted seconds of a token; infinite where there is no placement.
    seconds: f64,
}

/// Predicted seconds of a token of a program that was placed.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// All but its bootstraps.
    work: f64,
    refreshes: f64,
    /// Encodings of plaintexts that are not kept.
    encodings: f64,
}

impl Trial {
    fn seconds(self) -> f64 {
        self.work + self.refreshes + self.encodings
    }
}

/// What came of one turn.
enum Turn {
    /// A proposal that was made before.
    Known,
    /// One without a placement, or one too many.
    End,
    /// One that was placed, and what it teaches.
    Placed(Levels),
}

/// The turns taken so far.
struct Turns<'t, 'm> {
    subject: &'t Subject<'m>,
    space: Space,
    pins: &'t [Pin],
    seen: Vec<Choices>,
    placed: Vec<f64>,
    best: Option<Proposal>,
}

impl Subject<'_> {
    /// The program that search and placement agree on under `guidance`.
    ///
    /// # Errors
    /// Guidance or options that do not suit the model.
    pub fn agree(&self, guidance: &Guidance) -> Result<Agreed, LowerError> {
        let options = &self.planning.options;
        let Guidance { pins, without } = guidance;
        let mut turns = Turns {
            subject: self,
            space: Space::new(&self.decoder, &self.ranges, options, without)?,
            pins,
            seen: Vec::new(),
            placed: Vec::new(),
            best: None,
        };
        let mut levels = Levels::default();
        let mut settled = false;
        for _ in 0..TURNS {
            match turns.next(levels)? {
                Turn::Placed(learned) => levels = learned,
                Turn::End => break,
                Turn::Known => {
                    settled = true;
                    break;
                }
            }
        }
        for around in AROUND {
            for factor in PRICES {
                let work = levels.work.saturating_add_signed(around);
                let price = levels.price * factor;
                turns.next(Levels { work, price })?;
            }
        }
        turns.end(settled)
    }

    /// What a choice's program comes to; None if it has no placement, or none within the memory.
    fn trial(&self, choices: &Choices) -> Result<Option<Trial>, LowerError> {
        let Planning {
            params,
            options,
            wanted,
            ..
        } = &self.planning;
        let mut program = lower_typical(&self.decoder, &self.ranges, options, choices)?.program;
        pack::assume(&mut program);
        let by = place::Options::default();
        let Ok(placed) = level(&program, params, &self.table, &by, *wanted, &[]) else {
            return Ok(None);
        };
        let estimate = &placed.emitted.estimate;
        let mut classes = estimate.op_classes.iter();
        let refreshes = classes.find(|class| class.name == "bootstrap");
        let refreshes = refreshes.map_or(0.0, |class| class.seconds);
        let measures = Measures {
            program: &placed.emitted.decode,
            capacity: options.context,
            params,
            table: &self.table,
        };
        let Ok(token) = measures.token() else {
            return Ok(None);
        };
        let bytes = estimate.plaintext_bytes;
        let kept = match self.table.compact {
            true => 1.0,
            false => KEPT.min(bytes) as f64 / bytes.max(1) as f64,
        };
        Ok(Some(Trial {
            work: estimate.seconds - refreshes,
            refreshes,
            encodings: token.encoding_seconds * (1.0 - kept),
        }))
    }
}

impl Turns<'_, '_> {
    /// Takes one turn.
    fn next(&mut self, levels: Levels) -> Result<Turn, LowerError> {
        if self.seen.len() == self.subject.planning.proposals.max(1) {
            return Ok(Turn::End);
        }
        let (found, room) = self.subject.proposed(&self.space, self.pins, levels)?;
        if self.seen.contains(&found.choices) {
            return Ok(Turn::Known);
        }
        self.seen.push(found.choices.clone());
        let placed = self.subject.trial(&found.choices)?;
        let (turn, seconds) = match placed {
            None => (Turn::End, f64::INFINITY),
            Some(trial) => {
                let nanos = [trial.work, trial.refreshes].map(|seconds| (seconds * 1e9) as u64);
                let table = &self.subject.table;
                let learned = self.space.learn(&found, levels, table, nanos);
                (Turn::Placed(learned), trial.seconds())
            }
        };
        self.placed.push(seconds);
        if self.best.as_ref().is_none_or(|best| seconds < best.seconds) {
            self.best = Some(Proposal {
                found,
                room,
                levels,
                seconds,
            });
        }
        Ok(turn)
    }

    /// The fastest of all proposals, explained.
    fn end(self, settled: bool) -> Result<Agreed, LowerError> {
        let best = self.best.ok_or_else(|| unpinnable(self.pins))?;
        let mut pins = self.pins.to_vec();
        if let Some(block) = best.room {
            pins = self.subject.roomy(&pins, block);
        }
        let table = &self.subject.table;
        let found = self.space.explained(&best.found, &pins, best.levels, table);
        Ok(Agreed {
            found,
            room: best.room,
            placed: self.placed,
            settled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::Preset;
    use sotto_ir::params::ParamSet;
    use sotto_ir::plan::Weights;

    fn agreed(name: &str, context: u32) -> (Agreed, Found) {
        let preset = Preset::of(name, Some(2), Weights::None).unwrap();
        // prices of its own: which proposal is fastest moves with them
        let prices = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tables/slower.ron");
        let planning = Planning {
            cost_table: Some(prices.into()),
            ..Planning::new(ParamSet::secure_128(), context)
        };
        let subject = Subject::of_preset(&preset, &planning).unwrap();
        let guidance = Guidance::default();
        let Subject {
            decoder, ranges, ..
        } = &subject;
        let space = Space::new(decoder, ranges, &planning.options, &[]).unwrap();
        let (first, _) = subject.proposed(&space, &[], Levels::default()).unwrap();
        (subject.agree(&guidance).unwrap(), first)
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "searches and placements: run in release")]
    fn placement_finds_a_faster_program_where_levels_cost_more_than_assumed() {
        let (agreed, first) = agreed("llama-3-8b", 512);
        let fastest = agreed.placed.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(
            agreed.settled && fastest < agreed.placed[0],
            "{:?}",
            agreed.placed
        );
        assert_ne!(agreed.found.choices, first.choices);
        assert!(!agreed.found.decisions.is_empty());
    }

    #[test]
    #[cfg_attr(debug_assertions, ignore = "searches and placements: run in release")]
    fn a_first_proposal_stands_where_no_other_is_faster() {
        let (agreed, first) = agreed("tinyllama-1.1b", 2048);
        let fastest = agreed.placed.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(agreed.placed[0] == fastest, "{:?}", agreed.placed);
        assert_eq!(agreed.found.choices, first.choices);
    }
}
