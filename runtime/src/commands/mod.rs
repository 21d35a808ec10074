//! `sotto`'s commands, one module each, and what they share: exit codes, progress, interrupts.

pub mod bench;
pub mod check;
mod consent;
mod course;
pub mod demo;
mod engines;
mod escapes;
pub mod eval;
pub mod generate;
pub mod keygen;
pub mod keys;
mod progress;
mod screen;
pub mod serve;
mod signals;
pub mod traces;
mod trials;

use crate::client::{ClientError, Unfinished};
use miette::Diagnostic;
use signals::Signals;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use tokio::sync::watch;

pub use consent::Consent;
pub use progress::{Meter, human_bytes};

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// A check ran and found against what it checked. Exit code 1.
    Check(String),
    /// The command line or an input is wrong. Exit code 2.
    Input(String),
    /// Server or transport failed. Exit code 3.
    Remote(String),
    /// An error with a code of its own.
    Coded {
        /// Exit code.
        exit: u8,
        /// Name of the error.
        code: String,
        /// The error with its causes.
        text: String,
    },
    /// Ctrl-C or SIGTERM came before there was anything to judge. Exit code 130.
    Interrupted(String),
    /// Whoever read standard output has read enough (`sotto … | head`). No failure: exit code 0, and not a word.
    Unheard,
}

impl Failure {
    /// Says why and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let (exit, code): (u8, &str) = match self {
            Self::Check(_) => (1, "check"),
            Self::Input(_) => (2, "command"),
            Self::Remote(_) => (3, "server"),
            Self::Coded { exit, code, .. } => (*exit, code),
            Self::Interrupted(text) => {
                eprintln!("{text}");
                return INTERRUPTED.into();
            }
            Self::Unheard => return ExitCode::SUCCESS,
        };
        eprintln!("error[{code}]: {self}");
        exit.into()
    }

    /// Bad input: the error with its causes.
    pub fn input(error: impl Diagnostic) -> Self {
        Self::coded(2, &error)
    }

    /// Bad input: an error of another library with its causes.
    pub fn foreign(error: impl Error) -> Self {
        Self::Input(with_causes(&error))
    }

    /// Server or transport: the error with its causes.
    pub fn remote(error: impl Diagnostic) -> Self {
        Self::coded(3, &error)
    }

    fn coded(exit: u8, error: &impl Diagnostic) -> Self {
        let text = with_causes(error);
        match error.code().map(|code| code.to_string()) {
            Some(code) => Self::Coded { exit, code, text },
            None if exit == 3 => Self::Remote(text),
            None => Self::Input(text),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(text) | Self::Input(text) | Self::Remote(text) => f.write_str(text),
            Self::Coded { text, .. } => f.write_str(text),
            Self::Interrupted(text) => f.write_str(text),
            Self::Unheard => f.write_str("nobody reads standard output any more"),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        if error.is_remote() {
            Self::remote(error)
        } else {
            Self::input(error)
        }
    }
}

/// An error and those behind it that it does not already quote.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = inner.source();
    }
    text
}

/// Writes to standard output, at once.
fn print(text: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Unheard),
        Err(cause) => Err(Failure::Input(format!(
            "writing to standard output: {cause}"
        ))),
        Ok(()) => Ok(()),
    }
}

/// Writes a text made elsewhere to standard output, at once.
///
/// # Errors
/// As for any command that prints: nobody reads, or it cannot be written.
pub fn print_bytes(text: &[u8]) -> Result<(), Failure> {
    print(format_args!("{}", String::from_utf8_lossy(text)))
}

/// Exit code of a process that Ctrl-C or SIGTERM ended.
const INTERRUPTED: u8 = 130;

/// Turns true at the first Ctrl-C; the second ends the process.
fn on_interrupt() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    let mut signals = Signals::listen();
    tokio::spawn(async move {
        signals.next().await;
        // Nobody may be listening any more.
        let _unheard = sender.send(true);
        signals.next().await;
        std::process::exit(INTERRUPTED.into());
    });
    receiver
}

/// Ends the process at Ctrl-C or SIGTERM, and leaves no unfinished keys behind.
async fn end_on_interrupt(mut signals: Signals, unfinished: Unfinished) {
    signals.next().await;
    // Held to the end: whoever makes the keys waits meanwhile.
    let _held = unfinished.remove();
    eprintln!("interrupted");
    std::process::exit(INTERRUPTED.into());
}

/// An async runtime for a command.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::foreign)
}
