//! Messages between client and server, generated from `proto/sotto.proto`, and the errors they carry.

mod fault;

pub use fault::{Fault, FaultCode};

/// Generated types and service stubs.
#[allow(missing_docs, clippy::all)]
pub mod wire {
    tonic::include_proto!("sotto.v1");
}

/// Largest message either side accepts: a ciphertext of two polynomials of 64 primes over 2^16 coefficients of 4 bytes is 32 MiB.
pub const MAX_MESSAGE: usize = 64 << 20;
/// Bytes of one key chunk.
pub const KEY_CHUNK: usize = 1 << 20;
