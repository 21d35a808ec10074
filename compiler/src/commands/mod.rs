//! `sottoc`'s commands, one module each, and what they have in common: errors and exit codes.

pub mod compile;
pub mod explain;
mod meter;
pub mod reference;
pub mod verify;

use std::error::Error;
use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A check ran and found against what it checked. Exit code 1.
    Check(Box<dyn Error>),
    /// The command could not be carried out on this input. Exit code 2.
    Input(Box<dyn Error>),
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Input(error.into())
    }
}

impl Failure {
    /// Prints the error and its causes, each on a line, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Check(error) => (error, 1),
            Self::Input(error) => (error, 2),
        };
        let mut said = error.to_string();
        eprintln!("error: {said}");
        let mut cause = error.source();
        while let Some(error) = cause {
            // Some messages state their cause themselves.
            let message = error.to_string();
            if !said.contains(&message) {
                eprintln!("  because: {message}");
            }
            said = message;
            cause = error.source();
        }
        code.into()
    }
}
