//! What the whole-system tests share: fixtures, compiled plans, and running a plan on either backend.

use sotto_compiler::driver::{Outcome, Planning, Request, Stages, compile};
use sotto_compiler::search::{Guidance, Pin};
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Placement;
use sotto_runtime::client::ClientModel;
use sotto_runtime::plan::PlanDir;
use sotto_runtime::trial::{CipherTrial, ClearTrial};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// What a test helper can fail with.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A directory of `tests/fixtures`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(name)
}

/// The bundled model's directory.
pub fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tiny")
}

/// A request to compile the bundled model at secure-128 with its whole context, as the demo does.
pub fn tiny_request(output: &Path) -> Request {
    request(&tiny(), ParamSet::secure_128(), 256, output)
}

/// A request to compile a checkpoint, calibrated on the data beside it, into `output`.
pub fn request(model: &Path, params: ParamSet, context: u32, output: &Path) -> Request {
    Request {
        model: model.into(),
        calibrate: None,
        planning: Planning::new(params, context),
        stages: Stages::default(),
        from: None,
        output: Some(output.into()),
    }
}

/// A request to compile a fixture, calibrated on its calibration ids, into `output`.
pub fn fixture_request(name: &str, params: ParamSet, context: u32, output: &Path) -> Request {
    request(&fixture(name), params, context, output)
}

/// A compiled fixture and the directory that holds its plan.
pub struct Compiled {
    /// The plan, opened and checked.
    pub plan: PlanDir,
    /// Removed with the value.
    pub dir: TempDir,
}

/// Compiles a checkpoint, calibrated on the ids beside it, to a plan in a directory of its own.
pub fn compile_model(model: &Path, params: ParamSet, context: u32) -> Result<Compiled> {
    compile_into(|output| request(model, params, context, output))
}

/// Compiles a fixture to a plan in a directory of its own.
pub fn compile_fixture(name: &str, params: ParamSet, context: u32) -> Result<Compiled> {
    compile_model(&fixture(name), params, context)
}

/// Compiles a fixture with decisions taken from the search.
pub fn compile_pinned(
    name: &str,
    params: ParamSet,
    context: u32,
    pins: &[&str],
) -> Result<Compiled> {
    compile_with_pins(pins, |output| {
        fixture_request(name, params, context, output)
    })
}

/// Compiles what is requested with decisions taken from the search.
pub fn compile_with_pins(
    pins: &[&str],
    request: impl FnOnce(&Path) -> Request,
) -> Result<Compiled> {
    let pins = pins.iter().map(|pin| pin.parse());
    let pins = pins.collect::<std::result::Result<Vec<Pin>, _>>()?;
    let guidance = Guidance {
        pins,
        ..Guidance::default()
    };
    compile_into(|output| {
        let mut request = request(output);
        request.planning.guidance = guidance;
        request
    })
}

/// Compiles a fixture with its ends on the sides given.
pub fn compile_ends(
    name: &str,
    params: ParamSet,
    context: u32,
    embedding: Placement,
    head: Placement,
) -> Result<Compiled> {
    compile_into(|output| {
        let mut request = fixture_request(name, params, context, output);
        let options = &mut request.planning.options;
        (options.embedding, options.head) = (embedding, head);
        request
    })
}

/// Compiles the bundled model to a plan in a directory of its own.
pub fn compile_tiny() -> Result<Compiled> {
    compile_into(tiny_request)
}

fn compile_into(request: impl FnOnce(&Path) -> Request) -> Result<Compiled> {
    let dir = TempDir::new()?;
    let output = dir.path().join("plan");
    match compile(&request(&output), &mut |_| ())? {
        Outcome::Plan(_) => {}
        Outcome::Stage(_) => return Err("the driver stopped before the plan".into()),
    }
    let plan = PlanDir::open(&output)?;
    plan.check()?;
    sotto_ir::plan::check(plan.plan())?;
    Ok(Compiled { plan, dir })
}

/// The plan in the clear, at the first token; with the scheme's noise where there is a seed.
pub fn clear(plan: &PlanDir, noise: Option<u64>) -> Result<ClearTrial> {
    let model = Arc::new(ClientModel::load(plan)?);
    Ok(ClearTrial::new(plan, model, noise)?)
}

/// The plan on real ciphertexts, at the first token.
pub fn cipher(plan: &PlanDir) -> Result<CipherTrial> {
    let model = Arc::new(ClientModel::load(plan)?);
    Ok(CipherTrial::new(plan, model, |_, _| ())?)
}
