//! `sottoc`'s commands, one module each, and what they have in common: errors and exit codes.

pub mod ablate;
pub mod compare;
pub mod compile;
pub mod estimate;
pub mod explain;
mod figures;
pub mod import;
pub mod inspect;
mod meter;
mod planning;
pub mod reference;
pub mod report;
mod source;
pub mod verify;

use miette::Diagnostic;
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A check ran and found against what it checked. Exit code 1.
    Check(Box<dyn Diagnostic>),
    /// The command could not be carried out on this input. Exit code 2.
    Input(Box<dyn Diagnostic>),
    /// Whoever read standard output has read enough (`sottoc … | head`). No failure: exit code 0, and not a word.
    Unheard,
}

impl<E: Diagnostic + Send + Sync + 'static> From<E> for Failure {
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
            Self::Unheard => return ExitCode::SUCCESS,
        };
        let mut said = error.to_string();
        // what has no type of its own is about the command line
        let name = error.code().map(|code| code.to_string());
        eprintln!("error[{}]: {said}", name.as_deref().unwrap_or("command"));
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

/// A value as one line of JSON.
fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(unserializable)
}

/// What no value of ours should cause.
fn unserializable(cause: serde_json::Error) -> Failure {
    Failure::Input(format!("as JSON: {cause}; this is a defect of the compiler").into())
}

/// Writes to standard output.
fn print(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Unheard),
        Err(cause) => Err(Failure::Input(
            format!("writing to standard output: {cause}").into(),
        )),
        Ok(()) => Ok(()),
    }
}

/// Writes a text made elsewhere to standard output.
///
/// # Errors
/// As for any command that prints: nobody reads, or it cannot be written.
pub fn print_bytes(text: &[u8]) -> Result<(), Failure> {
    print(format_args!("{}", String::from_utf8_lossy(text)))
}

/// Says that what is at `path` gives way, before it does.
fn say_replacing(path: &Path) {
    if path.is_file() || path.is_dir() {
        eprintln!("replacing {}", path.display());
    }
}
