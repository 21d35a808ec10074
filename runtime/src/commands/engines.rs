//! Which engine computes on ciphertexts.

use super::{Failure, human_bytes};
use sotto_ckks::Context;
use sotto_gpu::{Cuda, Gpu};
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Plan;

/// The engines that a server can compute on.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineName {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA card.
    Gpu,
}

impl EngineName {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }
}

/// The engine to compute on.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct EngineArgs {
    /// What computes on ciphertexts.
    #[arg(long, value_enum, default_value = "cpu")]
    pub backend: EngineName,
    #[command(flatten)]
    pub card: CardArgs,
}

/// The card of `--backend gpu`.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct CardArgs {
    /// With --backend gpu, which card, as the NVIDIA driver counts.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    card: usize,
}

impl CardArgs {
    /// Its number.
    pub fn number(self) -> usize {
        self.card
    }

    /// The card, made ready for a parameter set.
    pub fn open(self, params: &ParamSet) -> Result<Gpu<Cuda>, Failure> {
        let open = || Gpu::new(Cuda::open(self.card)?, &Context::new(params.clone())?);
        open().map_err(Failure::input)
    }
}

/// Bytes of a card that a plan may count on: what is free, but for what operations take beside the plan's own values. None free if the
/// driver does not say.
pub fn card_room(gpu: &Gpu<Cuda>) -> u64 {
    const BESIDE: u64 = 2 << 30;
    let free = gpu.device().free_memory().unwrap_or(0);
    free.saturating_sub(BESIDE)
}

/// Refuses a plan that needs more than `free` bytes.
pub fn check_room(plan: &Plan, free: u64) -> Result<(), Failure> {
    let needed = plan.estimate.peak_memory_bytes;
    if needed <= free {
        return Ok(());
    }
    Err(Failure::Input(format!(
        "the plan needs {} at its peak and {} are free: compile with a smaller --context or --memory, or fewer --layers of a preset",
        human_bytes(needed),
        human_bytes(free)
    )))
}
