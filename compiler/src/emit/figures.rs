//! What one run of a template, or a whole token, takes: operations, time, and what stays in the KV state.

use super::estimate::{encoding_seconds, template_seconds};
use super::{Counts, EmitError, memory};
use serde::Serialize;
use sotto_ir::cost::CostTable;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::PlanProgram;
use sotto_ir::slot::BootstrapKind;

/// What a program is measured by.
#[derive(Clone, Copy)]
pub struct Measures<'a> {
    /// The program.
    pub program: &'a PlanProgram,
    /// Most tokens of a session.
    pub capacity: u32,
    /// Ring and chain.
    pub params: &'a ParamSet,
    /// Prices.
    pub table: &'a CostTable,
}

/// Figures of a template or a token, at the position where the KV state is half full.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Operations.
    #[serde(flatten)]
    pub counts: Counts,
    /// Bootstraps by kind.
    pub bootstraps: Vec<Bootstraps>,
    /// As many dense complex bootstraps, which refresh every slot and both parts, take as long.
    pub dense_bootstraps: f64,
    /// Bytes of keys and values at capacity.
    pub kv_bytes: u64,
    /// Predicted time, where every plaintext that depends on no position stays encoded.
    pub seconds: f64,
    /// What encoding all of those anew would add.
    pub encoding_seconds: f64,
}

/// How often one kind of bootstrap runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bootstraps {
    /// Slots refreshed.
    pub slots: u32,
    /// Whether these are all slots of the ring.
    pub dense: bool,
    /// Whether both parts are refreshed.
    pub complex: bool,
    /// How often.
    pub count: u64,
}

impl Measures<'_> {
    /// Of one run of a template.
    pub fn template(&self, index: usize) -> Result<Figures, EmitError> {
        let Self {
            program,
            capacity,
            params,
            table,
        } = *self;
        let counts = Counts::of_template(program, index, capacity)?;
        let figures = Figures {
            kv_bytes: memory::state_bytes(program, index, capacity, params),
            seconds: template_seconds(program, index, capacity, table)?,
            encoding_seconds: encoding_seconds(program, index, capacity, table),
            ..Figures::default()
        };
        Ok(self.with(figures, counts))
    }

    /// Of a whole step of the program.
    pub fn token(&self) -> Result<Figures, EmitError> {
        let mut sum = Figures::default();
        for step in &self.program.steps {
            let each = self.template(step.template)?;
            let times = u64::from(step.count);
            sum.kv_bytes += each.kv_bytes * times;
            sum.seconds += each.seconds * times as f64;
            sum.encoding_seconds += each.encoding_seconds * times as f64;
        }
        let counts = Counts::of_token(self.program, self.capacity)?;
        Ok(self.with(sum, counts))
    }

    /// Figures with what follows from their counts.
    fn with(&self, figures: Figures, counts: Counts) -> Figures {
        let all = self.params.slots() as u32;
        let price = |kind: &BootstrapKind| self.table.bootstrap(*kind);
        let dense = price(&BootstrapKind {
            slots: all,
            complex: true,
        });
        let seconds = counts.bootstraps.iter();
        // an empty sum would be -0
        let seconds = seconds.fold(0.0, |sum, (kind, n)| sum + price(kind) * *n as f64);
        let bootstraps = counts.bootstraps.iter().map(|(kind, count)| Bootstraps {
            slots: kind.slots,
            dense: kind.slots == all,
            complex: kind.complex,
            count: *count,
        });
        Figures {
            bootstraps: bootstraps.collect(),
            dense_bootstraps: seconds / dense,
            counts,
            ..figures
        }
    }
}
