//! Executing plans: the [`Backend`] trait, the one executor, and the cleartext backend.

mod backend;
mod cache;
mod clear;
mod executor;
mod forecast;
mod noise;
mod noisy_poly;
mod run;
mod session;
#[cfg(test)]
mod tests;
mod warm;
mod watch;

pub use backend::{Backend, Diagonals};
pub use clear::{Clear, ClearCt, ClearError};
pub use executor::{ExecError, Executor, ignore};
pub use forecast::Forecast;
pub use noise::{LevelNoise, NoiseModel};
pub use run::{Event, Moment};
pub use session::Session;
pub use watch::{Escape, RangeWatch};
