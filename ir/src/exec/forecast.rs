//! How far a run is, in predicted seconds: instructions differ in price a thousandfold, so their number says little.

use super::{Event, Moment};
use crate::plan::{Estimate, Plan, PlanProgram, charges};
use crate::slot::Op;
use std::time::Duration;

/// Share of a run that the plan's word counts for beside what was measured so far: a few instructions say little about speed.
const PRIOR: f64 = 0.1;

/// A run of a program as far as it has come.
#[derive(Clone, Debug)]
pub struct Forecast<'p> {
    program: &'p PlanProgram,
    estimate: &'p Estimate,
    /// Instructions done and in all.
    pub instructions: (u64, u64),
    /// Bootstraps done and in all.
    pub bootstraps: (u32, u32),
    /// Seconds that the plan predicts for what is done, and for all; 0 where it has no prices.
    pub seconds: (f64, f64),
}

impl<'p> Forecast<'p> {
    /// Of a token at `position`.
    pub fn decode(plan: &'p Plan, position: u32) -> Self {
        Self::new(plan, &plan.decode, &plan.estimate, position)
    }

    /// Of a block of `count` tokens from `position`; nothing if the plan takes none.
    pub fn prefill(plan: &'p Plan, position: u32, count: u32) -> Self {
        let last = position.saturating_add(count.saturating_sub(1));
        match &plan.prefill {
            Some(prefill) => Self::new(plan, &prefill.program, &prefill.estimate, last),
            None => Self {
                instructions: (0, 0),
                bootstraps: (0, 0),
                seconds: (0.0, 0.0),
                ..Self::decode(plan, last)
            },
        }
    }

    /// Of a run that leaves the token at `last` cached.
    fn new(plan: &Plan, program: &'p PlanProgram, estimate: &'p Estimate, last: u32) -> Self {
        let tables = program.tables(plan.slots(), plan.capacity);
        let groups = |template: usize, index: usize| {
            let op = &program.templates[template].instrs[index].op;
            let state = match op {
                Op::SumGroups { states, .. } => states.first(),
                _ => None,
            };
            let tokens = state.and_then(|state| tables.tokens(*state));
            last / tokens.unwrap_or(1).max(1) + 1
        };
        let mut all = Self {
            program,
            estimate,
            instructions: (0, 0),
            bootstraps: (0, 0),
            seconds: (0.0, 0.0),
        };
        for step in &program.steps {
            let runs = u64::from(step.count);
            charges(
                program,
                &estimate.prices,
                step.template,
                &groups,
                &mut |charge| {
                    let (mut times, mut seconds) = (runs * charge.times, charge.seconds);
                    if matches!(charge.instr.op, Op::SumGroups { .. }) {
                        // one instruction, however much it adds up
                        (times, seconds) = (runs, 0.0);
                    }
                    all.instructions.1 += times;
                    all.seconds.1 += seconds * times as f64;
                    if matches!(charge.instr.op, Op::Bootstrap { .. }) {
                        all.bootstraps.1 += times as u32;
                    }
                },
            );
        }
        all
    }

    /// Counts an instruction that has run; any other event changes nothing.
    pub fn hear<Ct>(&mut self, event: &Event<'_, Ct>) {
        if matches!(event.moment, Moment::Before) {
            return;
        }
        self.instructions.0 += 1;
        match event.instr.op {
            Op::Bootstrap { .. } => self.bootstraps.0 += 1,
            // its body has been counted
            Op::SumGroups { .. } => return,
            _ => {}
        }
        let mut templates = self.program.templates.iter();
        let template = templates.position(|t| t.name == event.template);
        let prices = template.and_then(|t| self.estimate.prices.get(t));
        self.seconds.0 += prices.map_or(0.0, |prices| prices.at(event.index));
    }

    /// How many times slower than predicted the run is, `elapsed` after its beginning; near 1 at first. None without prices.
    pub fn pace(&self, elapsed: Duration) -> Option<f64> {
        let (done, all) = self.seconds;
        let prior = PRIOR * all;
        (all > 0.0).then(|| (elapsed.as_secs_f64() + prior) / (done + prior))
    }

    /// Seconds that are left of the run, `elapsed` after its beginning. None without prices.
    pub fn left(&self, elapsed: Duration) -> Option<f64> {
        let (done, all) = self.seconds;
        Some((all - done).max(0.0) * self.pace(elapsed)?)
    }
}
