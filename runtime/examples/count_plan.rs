//! What a card would have to move and multiply at least for one token of a plan: no card is needed, nothing is computed.
//!
//!     sottoc compile --preset llama-3-8b --layers 1 --weights synthetic:7 --context 512 -o layer.plan
//!     cargo run --release -p sotto-runtime --example count_plan -- layer.plan --bandwidth 4800e9
//!
//! Matrices are kept by their coefficients, as a whole model's must be. Keys are made, which takes memory: 8 GiB for this plan.

use sotto_ckks::Context;
use sotto_ckks::engine::Keep;
use sotto_gpu::Gpu;
use sotto_gpu_host::{Counting, Roofline};
use sotto_runtime::cipher::Residence;
use sotto_runtime::client::{ClientModel, Tokens};
use sotto_runtime::plan::PlanDir;
use sotto_runtime::trial::CipherTrial;
use std::path::Path;
use std::sync::Arc;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).ok_or("name a plan")?;
    let card = Roofline::from_args()?;
    let dir = PlanDir::open(Path::new(&path))?;
    let context = Context::new(dir.plan().params.clone())?;
    let gpu = Gpu::new(Counting::default(), &context)?;
    let residence = Residence {
        matrices: Keep::Compact,
        matrix_bytes: u64::MAX,
        ..Residence::READY
    };
    let model = Arc::new(ClientModel::load(&dir)?);
    let mut trial = CipherTrial::on(&gpu, &dir, model, residence, |_, _| ())?;
    // the first encodes what stays encoded
    trial.run(Tokens::One(0))?;
    let device = gpu.device();
    let kept = device.peak_bytes();
    let (done, figures) = gpu.profile(false, || trial.run(Tokens::One(1)));
    done?;
    println!(
        "{card}; {:.2} GiB at the most in the first token",
        kept as f64 / f64::from(1u32 << 30)
    );
    print!("{}", card.page("a token", figures, device.peak_bytes()));
    Ok(())
}
