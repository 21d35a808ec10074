//! Following a run: how far it is, and the trace of it.

use crate::trace::{Trace, TracedRun};
use sotto_ir::exec::{Event, Forecast, Moment};
use sotto_ir::plan::Plan;
use std::time::Instant;

/// How far a step is. Nothing of it depends on what is computed with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepProgress {
    /// Instructions done.
    pub done: u64,
    /// Instructions in all.
    pub total: u64,
    /// Bootstraps done.
    pub bootstraps: u32,
    /// Bootstraps in all.
    pub bootstraps_total: u32,
    /// The layer that runs now, counted from 1; 0 outside of layers.
    pub layer: u32,
    /// Layers of the model.
    pub layers: u32,
    /// Share of the step that is done by the plan's prices, 0 to 1.
    pub share: f64,
    /// Seconds that are left, by the plan's prices and the pace so far.
    pub seconds_left: Option<f64>,
    /// Site that runs now.
    pub site: String,
}

/// One run of a plan's program, followed from its beginning.
pub struct Follow<'a> {
    forecast: Forecast<'a>,
    traced: Option<TracedRun<'a>>,
    progress: StepProgress,
    started: Instant,
}

impl<'a> Follow<'a> {
    /// A run that begins now: of a token at `position`, or of `block` tokens from there if that is not 0.
    pub fn new(plan: &'a Plan, trace: Option<&'a Trace>, position: u32, block: u32) -> Self {
        let forecast = match block {
            0 => Forecast::decode(plan, position),
            count => Forecast::prefill(plan, position, count),
        };
        let name = match (block, &plan.prefill) {
            (1.., Some(prefill)) => &prefill.program.name,
            _ => &plan.decode.name,
        };
        Self {
            traced: trace.map(|trace| trace.run(name, position, block.max(1))),
            progress: StepProgress {
                total: forecast.instructions.1,
                bootstraps_total: forecast.bootstraps.1,
                layers: plan.model.layers,
                ..StepProgress::default()
            },
            forecast,
            started: Instant::now(),
        }
    }

    /// Takes an event, and says how far the run is.
    pub fn hear<Ct>(&mut self, event: &Event<'_, Ct>) -> &StepProgress {
        if let Some(traced) = &self.traced {
            traced.hear(event);
        }
        self.forecast.hear(event);
        let progress = &mut self.progress;
        if matches!(event.moment, Moment::Before) {
            progress.site = event.site();
            let layered = event.instr.site.contains("{i}");
            progress.layer = if layered { event.layer + 1 } else { 0 };
        }
        (progress.done, progress.bootstraps) =
            (self.forecast.instructions.0, self.forecast.bootstraps.0);
        progress.seconds_left = self.forecast.left(self.started.elapsed());
        let (done, all) = match self.forecast.seconds {
            (_, 0.0) => (progress.done as f64, progress.total as f64),
            priced => priced,
        };
        progress.share = if all > 0.0 {
            (done / all).min(1.0)
        } else {
            0.0
        };
        progress
    }

    /// The run has come to its end; returns how many bootstraps ran.
    pub fn end(self) -> u32 {
        if let Some(traced) = self.traced {
            traced.end();
        }
        self.progress.bootstraps
    }
}
