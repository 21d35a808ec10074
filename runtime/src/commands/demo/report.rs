//! What the demo says at the end.

use super::{Failure, TOLERANCE};
use crate::client::Generation;
use crate::commands::human_bytes;
use serde_json::{Value, json};
use sotto_ir::params::SecretKind;
use sotto_ir::plan::Plan;
use std::fmt;

/// Seconds of each part.
pub(super) struct Seconds {
    pub compile: f64,
    pub keygen: f64,
    pub total: f64,
}

/// Peak memory of the two processes, where the system tells.
pub(super) struct Peaks {
    pub client: Option<u64>,
    pub server: Option<u64>,
}

/// The whole run.
pub(super) struct Report<'a> {
    pub plan: &'a Plan,
    pub made: &'a Generation,
    pub text: String,
    pub float64: Vec<u32>,
    pub max_error_sigma: f64,
    pub seconds: Seconds,
    pub peaks: Peaks,
}

/// Prints parameters and security of a plan.
pub(super) fn print_plan(plan: &Plan) {
    let params = &plan.params;
    let security = params.security();
    eprintln!(
        "parameters {}: N = 2^{}, log QP = {:.0}, {} secret, {} bits of security{}",
        params.name,
        params.log_n,
        params.log_qp(),
        secret_name(params.secret),
        security.bits,
        if params.insecure { " (INSECURE)" } else { "" }
    );
    for secret in &security.secrets {
        let bound = match secret.bound_bits {
            Some(bound) => format!("at most {bound:.0} allowed"),
            None => "no bound known".into(),
        };
        eprintln!(
            "  {}: keys under {:.1} bits, {bound} ({})",
            secret.secret, secret.modulus_bits, secret.source
        );
    }
    let bootstraps: u32 = plan.estimate.bootstraps.iter().map(|b| b.count).sum();
    eprintln!(
        "plan: {} tokens at most, {bootstraps} bootstraps and about {:.0} s per token, {} at the server's peak",
        plan.capacity,
        plan.estimate.seconds,
        human_bytes(plan.estimate.peak_memory_bytes)
    );
}

fn secret_name(kind: SecretKind) -> &'static str {
    match kind {
        SecretKind::UniformTernary => "uniform ternary",
    }
}

impl Report<'_> {
    fn identical(&self) -> bool {
        self.made.tokens == self.float64
    }

    /// The line that `--json` ends with.
    pub fn json(&self) -> Value {
        let params = &self.plan.params;
        json!({
            "parameters": {
                "set": params.name,
                "log_n": params.log_n,
                "log_qp": params.log_qp(),
                "secret": secret_name(params.secret),
                "security_bits": params.security().bits,
            },
            "tokens": {"encrypted": self.made.tokens, "float64": self.float64},
            "text": self.text,
            "max_logit_error_sigma": self.max_error_sigma,
            "seconds": {
                "compile": self.seconds.compile,
                "keygen": self.seconds.keygen,
                "prompt": self.made.blocks().map(|(_, seconds)| seconds),
                "per_token": self.made.per_token(),
                "total": self.seconds.total,
            },
            "bootstraps_per_token": self.made.bootstraps(),
            "peak_memory_bytes": {"client": self.peaks.client, "server": self.peaks.server},
        })
    }

    /// Whether encrypted and float64 agree.
    pub fn verdict(&self, asked: u32) -> Result<(), Failure> {
        if !self.identical() {
            return Err(Failure::Check(format!(
                "the encrypted tokens {:?} differ from float64's {:?}",
                self.made.tokens, self.float64
            )));
        }
        let within = self.max_error_sigma <= TOLERANCE;
        if !within {
            return Err(Failure::Check(format!(
                "the largest logit error, {} σ, is above {TOLERANCE} σ",
                self.max_error_sigma
            )));
        }
        if (self.made.tokens.len() as u32) < asked {
            eprintln!("the text ended after {} tokens", self.made.tokens.len());
        }
        Ok(())
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.identical() {
            "identical"
        } else {
            "DIFFERENT"
        };
        let each = self.made.per_token();
        let mean = each.iter().sum::<f64>() / each.len().max(1) as f64;
        let memory = |peak: Option<u64>| peak.map_or("unknown".into(), human_bytes);
        let (bootstraps, seconds) = (self.made.bootstraps(), &self.seconds);
        writeln!(f, "encrypted tokens  {:?}", self.made.tokens)?;
        writeln!(f, "float64 tokens    {:?}: {verdict}", self.float64)?;
        writeln!(
            f,
            "largest error     {:.6} σ of the logits",
            self.max_error_sigma
        )?;
        if let Some((tokens, seconds)) = self.made.blocks() {
            writeln!(
                f,
                "prompt            {seconds:.1} s for {tokens} tokens together"
            )?;
        }
        writeln!(f, "per token         {mean:.1} s, {bootstraps} bootstraps")?;
        writeln!(
            f,
            "seconds           compile {:.1}, keygen {:.1}, total {:.1}",
            seconds.compile, seconds.keygen, seconds.total
        )?;
        writeln!(
            f,
            "peak memory       client {}, server {}",
            memory(self.peaks.client),
            memory(self.peaks.server)
        )
    }
}
