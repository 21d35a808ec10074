//! Which engine computes on ciphertexts.

use super::{Failure, human_bytes};
use crate::cipher::{Demand, Residence, Room};
use crate::process::available_memory;
use clap::ValueEnum;
use sotto_ckks::Context;
use sotto_ckks::engine::Keep;
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

/// The card of `--backend gpu`, and what lies on it.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct CardArgs {
    /// With --backend gpu, which card, as the NVIDIA driver counts [default: 0].
    #[arg(long, value_name = "NUMBER")]
    card: Option<usize>,
    /// With --backend gpu, how matrices lie between uses [default: ready if all fit, else compact, and beside the card what does not fit].
    #[arg(long, value_enum, value_name = "FORM")]
    matrices: Option<Form>,
}

/// How matrices lie between uses.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Ready to be multiplied with.
    Ready,
    /// By their coefficients, expanded at every use.
    Compact,
    /// By their coefficients, in this machine's memory.
    Beside,
}

impl CardArgs {
    /// The same as words of a command line.
    pub fn words(self) -> Vec<String> {
        let card = self
            .card
            .map(|number| ["--card".into(), number.to_string()]);
        let form = self.matrices.and_then(|form| form.to_possible_value());
        let form = form.map(|form| ["--matrices".into(), form.get_name().into()]);
        card.into_iter().chain(form).flatten().collect()
    }

    /// How matrices lie, where that is given.
    pub fn matrices(self) -> Option<Keep> {
        self.matrices.map(|form| match form {
            Form::Ready => Keep::Ready,
            Form::Compact => Keep::Compact,
            Form::Beside => Keep::Beside,
        })
    }

    /// Refuses what only a card has a use for.
    pub fn unused(self) -> Result<(), Failure> {
        let given = [
            self.card.map(|_| "--card"),
            self.matrices.map(|_| "--matrices"),
        ];
        match given.into_iter().flatten().next() {
            Some(name) => Err(Failure::Input(format!(
                "{name} is for --backend gpu; leave it out, or name that backend"
            ))),
            None => Ok(()),
        }
    }

    /// Refuses a form of matrices where there are none, or every form is measured.
    pub fn without_matrices(self) -> Result<(), Failure> {
        match self.matrices {
            Some(_) => Err(Failure::Input(
                "--matrices is for plans and cost tables; leave it out".into(),
            )),
            None => Ok(()),
        }
    }

    /// Whether there is such a card, with kernels for it.
    pub fn check(self) -> Result<(), Failure> {
        let card = Cuda::open(self.card.unwrap_or(0));
        card.map(drop).map_err(Failure::input)
    }

    /// The card, made ready for a parameter set.
    pub fn open(self, params: &ParamSet) -> Result<Gpu<Cuda>, Failure> {
        let card = || Cuda::open(self.card.unwrap_or(0));
        let open = || Gpu::new(card()?, &Context::new(params.clone())?);
        open().map_err(Failure::input)
    }

    /// The card, made ready for a plan, and the memory that there is; what the plan needs at its peak, but no more than `most`, is taken
    /// from the driver.
    pub fn open_for(self, plan: &Plan, most: Option<u64>) -> Result<(Gpu<Cuda>, Room), Failure> {
        let gpu = self.open(&plan.params)?;
        let room = card_room(gpu.device());
        let most = room.here.min(most.unwrap_or(u64::MAX));
        let peak = plan.estimate.peak_memory_bytes.min(most);
        gpu.device().reserve(peak).map_err(Failure::input)?;
        Ok((gpu, room))
    }
}

/// Memory of a card and beside it that a plan may count on: what is free, but for what operations take beside the plan's own values, and
/// half of this machine's, since it is locked. 0 where the driver does not say.
fn card_room(card: &Cuda) -> Room {
    const OPERATIONS: u64 = 2 << 30;
    let free = card.free_memory().unwrap_or(0);
    Room {
        here: free.saturating_sub(OPERATIONS),
        beside: Some(available_memory().unwrap_or(0) / 2),
    }
}

/// Where a plan's matrices and KV state lie. Refuses one that needs more than there is.
pub fn residence(plan: &Plan, room: Room, matrices: Option<Keep>) -> Result<Residence, Failure> {
    Residence::within(Demand::of(plan), room, matrices).map_err(|short| {
        Failure::Input(format!(
            "the plan needs {} at its peak and {} are free: compile with a smaller --context or --memory, or fewer --layers of a preset",
            human_bytes(short.needed),
            human_bytes(short.allowed)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_card_has_a_use_for_is_refused_by_name() {
        let refused = |args: CardArgs| args.unused().map_err(|e| e.to_string());
        assert_eq!(refused(CardArgs::default()), Ok(()));
        let card = CardArgs {
            card: Some(0),
            matrices: None,
        };
        assert!(
            refused(card)
                .unwrap_err()
                .contains("--card is for --backend gpu")
        );
        let matrices = CardArgs {
            card: None,
            matrices: Some(Form::Compact),
        };
        let error = refused(matrices).unwrap_err();
        assert!(error.contains("--matrices is for --backend gpu"), "{error}");
        assert_eq!(matrices.matrices(), Some(Keep::Compact));
        assert_eq!(matrices.words(), ["--matrices", "compact"]);
        assert_eq!(card.words(), ["--card", "0"]);
    }
}
