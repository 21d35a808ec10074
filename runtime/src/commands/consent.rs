//! Consent to parameters that hide nothing.

use super::Failure;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Plan;

/// Bits of security that need no consent.
const SECURE: u32 = 128;

/// Whether the user accepts a plan on a test ring.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Consent {
    /// Accept a plan for an INSECURE test ring, under which nothing is hidden.
    #[arg(long)]
    insecure: bool,
}

impl Consent {
    /// Refuses an INSECURE plan without consent.
    pub(super) fn check(self, plan: &Plan) -> Result<(), Failure> {
        let params = &plan.params;
        if self.insecure || !insecure(params) {
            return Ok(());
        }
        Err(Failure::Input(format!(
            "the plan's ring `{}` (N = 2^{}) is INSECURE, it has {} bits of security: anybody can read what is encrypted under it; \
             compile the model without --insecure-ring, or pass --insecure to test",
            params.name,
            params.log_n,
            params.security().bits
        )))
    }
}

/// Says so if a plan is INSECURE, where nothing is encrypted and so nobody is asked.
pub(super) fn warn(plan: &Plan) {
    if insecure(&plan.params) {
        eprintln!("INSECURE parameters `{}`: for tests only", plan.params.name);
    }
}

fn insecure(params: &ParamSet) -> bool {
    params.insecure || params.security().bits < SECURE
}
