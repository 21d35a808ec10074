//! One error shape on the wire: a code, the thing that is wrong, and the remedy.

use super::wire;
use miette::Diagnostic;
use prost::Message;
use tonic::{Code, Status};

pub use wire::fault::Code as FaultCode;

/// An error that crosses the wire as a gRPC status with [`wire::Fault`] details.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Diagnostic)]
#[error("{thing}: {remedy}")]
#[diagnostic(code(server::fault))]
pub struct Fault {
    /// What kind.
    pub code: FaultCode,
    /// What is wrong, naming it.
    pub thing: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    /// A fault of `code` about `thing`, with its `remedy`.
    pub fn new(code: FaultCode, thing: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            thing: thing.into(),
            remedy: remedy.into(),
        }
    }

    /// Reads the details of a status; None where it carries none (transport errors).
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = wire::Fault::decode(status.details()).ok()?;
        if details.thing.is_empty() {
            return None;
        }
        Some(Self::new(details.code(), details.thing, details.remedy))
    }

    fn grpc_code(&self) -> Code {
        match self.code {
            FaultCode::PlanMismatch
            | FaultCode::ParametersMismatch
            | FaultCode::KeysAbsent
            | FaultCode::KeyMissing => Code::FailedPrecondition,
            FaultCode::KeyDamaged => Code::DataLoss,
            FaultCode::UnknownSession => Code::NotFound,
            FaultCode::SessionBusy => Code::Aborted,
            FaultCode::PositionMismatch | FaultCode::Capacity => Code::OutOfRange,
            FaultCode::CiphertextRejected => Code::InvalidArgument,
            FaultCode::Memory | FaultCode::Storage => Code::ResourceExhausted,
            FaultCode::Internal | FaultCode::Unknown => Code::Internal,
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let details = wire::Fault {
            code: fault.code.into(),
            thing: fault.thing.clone(),
            remedy: fault.remedy.clone(),
        };
        Status::with_details(
            fault.grpc_code(),
            fault.to_string(),
            details.encode_to_vec().into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_survives_the_status() {
        let fault = Fault::new(FaultCode::KeyMissing, "rotate 16", "generate keys again");
        let status = Status::from(fault.clone());
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(Fault::from_status(&status), Some(fault));
    }

    #[test]
    fn a_transport_status_is_no_fault() {
        assert_eq!(Fault::from_status(&Status::unavailable("gone")), None);
    }
}
