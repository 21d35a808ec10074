//! How a model is planned, as `compile` and `estimate` are told.

use crate::driver::Planning;
use crate::place::Strategy;
use crate::search::{Guidance, Pin};
use bytesize::ByteSize;
use sotto_ir::params::ParamSet;
use std::path::PathBuf;

/// What is decided here instead of by the search.
#[derive(clap::Args, Debug)]
pub struct PlanningArgs {
    /// Prices of this machine, as `sotto bench --cost-table` measures them [default: those of a 2-core AVX-512 server].
    #[arg(long, value_name = "FILE")]
    cost_table: Option<PathBuf>,
    /// Decide at a site instead of the search: SITE=FORM, as in `layers.{i}.mlp.up_proj=spread:8`; an unknown FORM lists all.
    #[arg(long = "pin", value_name = "PIN")]
    pins: Vec<Pin>,
    /// Take so many tokens of a prompt at once, a power of two; 1 takes them one by one [default: as many as pay].
    #[arg(long, value_name = "N")]
    block: Option<u32>,
    /// Who places bootstraps; all but `ours` are published placers, for comparison.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Strategy::Ours)]
    pub placement: Strategy,
    /// The server's memory, as in 8GiB: keys, live ciphertexts, KV state at full context. Where the fastest plan needs more, one without
    /// blocks of a prompt is tried, then one that stores keys and values once per KV head; where none fits, none is made.
    #[arg(long, value_name = "BYTES")]
    memory: Option<ByteSize>,
}

impl PlanningArgs {
    /// Planning for a ring and a context, as told.
    pub fn planning(&self, params: ParamSet, context: u32) -> Planning {
        let mut planning = Planning {
            cost_table: self.cost_table.clone(),
            guidance: Guidance {
                pins: self.pins.clone(),
                ..Guidance::default()
            },
            strategy: self.placement,
            ..Planning::new(params, context)
        };
        planning.options.block = self.block;
        planning.wanted.memory = self.memory.map(|memory| memory.as_u64());
        planning
    }
}
