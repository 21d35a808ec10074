//! What a card would have to move and multiply at least, counted at secure-128: no card is needed.
//!
//!     cargo run --release -p sotto-gpu-host --example count -- --bandwidth 3350e9 --products 14e12
//!
//! The times are those of a card that copies so many bytes a second and multiplies so many words a second, each kernel at the slower of its
//! two; `sotto bench engine --backend gpu` measures both rates, and the same counts beside times.

use sotto_ckks::engine::Keep;
use sotto_ckks::linear::LinearTransform;
use sotto_ckks::{
    Bootstrapper, Complex64, Context, Encoder, EvaluationKeys, Evaluator, KeyGenerator, KeyRequest,
    Result, SecretKey,
};
use sotto_gpu::Gpu;
use sotto_gpu_host::{Counting, Roofline};
use sotto_params::bootstrap::{BootstrapSpec, Bsgs};
use sotto_params::{ParamSet, galois};

/// Keys that are only counted: made for the card, which holds nothing.
fn keys(
    gpu: &Gpu<Counting>,
    secret: &SecretKey,
    request: &KeyRequest,
) -> Result<EvaluationKeys<sotto_gpu::GpuPoly<Counting>>> {
    KeyGenerator::new(secret)
        .evaluation_keys(request, |_, _| ())?
        .upload(gpu)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let ctx = Context::new(ParamSet::secure_128())?;
    let card = Roofline::from_args()?;
    let (params, encoder) = (ctx.params(), Encoder::new(&ctx));
    let gpu = Gpu::new(Counting::default(), &ctx)?;
    let secret = SecretKey::generate(&ctx)?;
    println!(
        "{}: N = 2^{}, log QP = {:.0}; {card}",
        params.name,
        params.log_n,
        params.log_qp()
    );
    let slots = vec![Complex64::new(0.5, -0.25); ctx.slots()];
    let input = |ev: &Evaluator<'_, _>, level: usize| {
        Ok::<_, sotto_ckks::CkksError>(
            ev.upload(secret.encrypt(&encoder.encode(&slots, level, 1)?)?),
        )
    };

    // the level of a modulus near 1,250 bits
    let far = |level: &usize| (params.log_q(*level) - 1250.0).abs();
    let level = (1..=params.top_level()).min_by(|a, b| far(a).total_cmp(&far(b)));
    let level = level.expect("a set has levels");
    let square = Bsgs::regular(ctx.slots(), 1, 0, 63, 8);
    let mut request = KeyRequest::default();
    request.add_relinearization(level);
    for step in square.rotations().into_iter().chain([1]) {
        request.add_galois(galois::rotation(step as i64, params.log_n), level);
    }
    let made = keys(&gpu, &secret, &request)?;
    let ev = Evaluator::on(&gpu, &made);
    let ct = input(&ev, level)?;
    let show = |what: &str, work: &dyn Fn() -> Result<()>| -> Result<()> {
        gpu.device().peak_bytes();
        let (done, figures) = gpu.profile(false, work);
        print!("{}", card.page(what, figures, gpu.device().peak_bytes()));
        done
    };
    show("rotate", &|| ev.rotate(&ct, 1).map(drop))?;
    show("multiply and rescale", &|| {
        ev.mul_rescaled(&ct, &ct).map(drop)
    })?;
    for keep in [Keep::Ready, Keep::Compact] {
        let entries = square.diagonals().into_iter().map(|d| (d, slots.clone()));
        let matrix = LinearTransform::on(&gpu, &square, &entries.collect(), level, keep)?;
        let what = format!("a matrix of 64 diagonals, {keep:?}");
        show(&what, &|| matrix.apply(&ev, &ct).map(drop))?;
    }
    drop(made);

    let spec = BootstrapSpec::new(params, ctx.slots(), true)?;
    let mut request = KeyRequest::default();
    request.add_bootstrap(&spec, params.log_n);
    let made = keys(&gpu, &secret, &request)?;
    let ev = Evaluator::on(&gpu, &made);
    let bootstrap = Bootstrapper::on(&gpu, &spec)?;
    let ct = input(&ev, spec.input_level)?;
    show("a dense bootstrap", &|| bootstrap.apply(&ev, &ct).map(drop))?;
    Ok(())
}
