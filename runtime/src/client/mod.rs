//! The client: tokenizes, embeds, encrypts, decrypts, samples. The only module that holds a secret key.

mod ckks;
mod connection;
mod error;
mod generate;
mod keyring;
mod model;
mod sample;
mod seal;
mod text;
mod unfinished;

pub use ckks::{CkksSealer, SealError};
pub use connection::{Connection, StepAnswer};
pub use error::ClientError;
pub use generate::{Generation, Listener, Request, Stop, Trip, check_prompt, generate};
pub use keyring::{Keyring, KeyringError, Made};
pub use model::{ClientModel, ModelError};
pub use sample::{Sampler, Sampling};
pub use seal::{Sealer, Tokens};
pub use text::TextStream;
pub use unfinished::Unfinished;
