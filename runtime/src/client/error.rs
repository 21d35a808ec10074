//! What can go wrong on the client.

use crate::keys::KeyDirError;
use crate::proto::{Fault, FaultCode};
use miette::Diagnostic;
use tonic::{Code, Status};

/// Why the client cannot go on.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ClientError {
    /// Nobody answers at the address.
    #[error("no server at {server}: {cause}; start one with `sotto serve --plan PLAN --addr ADDR`")]
    #[diagnostic(code(client::unreachable))]
    Unreachable {
        /// Address tried.
        server: String,
        /// The cause, in words.
        cause: String,
    },
    /// The server went away in the middle of something.
    #[error(
        "the server at {server} is gone while {during} ({cause}); the text so far is kept, and its KV state is lost unless the \
         server still runs"
    )]
    #[diagnostic(code(client::server_gone))]
    ServerGone {
        /// Address of the server.
        server: String,
        /// What was under way: `computing token 3`.
        during: String,
        /// The cause, in words.
        cause: String,
    },
    /// The server refused.
    #[error("the server at {server} refuses: {fault}")]
    #[diagnostic(code(client::refused))]
    Refused {
        /// Address of the server.
        server: String,
        /// Its answer.
        fault: Fault,
    },
    /// The keys on disk cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Keys(#[from] KeyDirError),
    /// Encrypting or decrypting failed.
    #[error("{doing}: {cause}")]
    #[diagnostic(code(client::seal))]
    Seal {
        /// `encrypting token 3`.
        doing: String,
        /// The cause, in words.
        cause: String,
    },
    /// Input that the plan cannot take.
    #[error("{thing}: {remedy}")]
    #[diagnostic(code(client::input))]
    Input {
        /// What is wrong, naming it.
        thing: String,
        /// What to do about it.
        remedy: String,
    },
}

impl ClientError {
    /// Bad input about `thing`, with its `remedy`.
    pub fn input(thing: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Input {
            thing: thing.into(),
            remedy: remedy.into(),
        }
    }

    /// The error behind a gRPC status.
    pub(super) fn from_status(server: &str, during: &str, status: &Status) -> Self {
        if let Some(fault) = Fault::from_status(status) {
            return Self::Refused {
                server: server.into(),
                fault,
            };
        }
        match status.code() {
            // tonic's own refusals: a message too large, an unknown method.
            Code::Unimplemented | Code::InvalidArgument | Code::OutOfRange => Self::Refused {
                server: server.into(),
                fault: Fault::new(
                    FaultCode::Unknown,
                    status.message(),
                    "use the same version of sotto on both sides",
                ),
            },
            _ => Self::ServerGone {
                server: server.into(),
                during: during.into(),
                cause: status.message().into(),
            },
        }
    }

    /// Whether the fault lies with server or transport rather than with the input.
    pub fn is_remote(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::ServerGone { .. } | Self::Refused { .. }
        )
    }
}
