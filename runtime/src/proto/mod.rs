//! Messages between client and server, generated from `proto/sotto.proto`, and the errors they carry.

use crate::StepProgress;

mod fault;

pub use fault::{Fault, FaultCode};

/// Generated types and service stubs.
#[allow(missing_docs, clippy::all)]
pub mod wire {
    tonic::include_proto!("sotto.v1");
}

impl From<&StepProgress> for wire::Progress {
    fn from(progress: &StepProgress) -> Self {
        Self {
            done: progress.done,
            total: progress.total,
            bootstraps_done: progress.bootstraps,
            site: progress.site.clone(),
            bootstraps_total: progress.bootstraps_total,
            layer: progress.layer,
            layers: progress.layers,
            share: progress.share,
            seconds_left: progress.seconds_left,
        }
    }
}

impl From<&wire::Progress> for StepProgress {
    fn from(message: &wire::Progress) -> Self {
        Self {
            done: message.done,
            total: message.total,
            bootstraps: message.bootstraps_done,
            bootstraps_total: message.bootstraps_total,
            layer: message.layer,
            layers: message.layers,
            share: message.share,
            seconds_left: message.seconds_left,
            site: message.site.clone(),
        }
    }
}

/// Largest message either side accepts: a ciphertext of two polynomials of 64 primes over 2^16 coefficients of 4 bytes is 32 MiB.
pub const MAX_MESSAGE: usize = 64 << 20;
/// Bytes of one key chunk.
pub const KEY_CHUNK: usize = 1 << 20;
