//! The client: tokenizes, embeds, encrypts, decrypts, samples. The only module that holds a secret key.

mod connection;
mod error;
mod generate;
mod sample;
mod seal;
mod text;

pub use connection::{Connection, StepAnswer};
pub use error::ClientError;
pub use generate::{Generation, Listener, Request, Stop, generate};
pub use sample::{Sampler, Sampling};
pub use seal::Sealer;
pub use text::TextStream;
