//! `sottoc estimate`: every pass but the packing of weights.

use super::{CompileError, News, Planned, Planning, Subject};
use crate::frontend::{Checkpoint, Preset};
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// What there is of a model.
pub enum Source {
    /// Shape and assumed ranges.
    Preset(Box<Preset>),
    /// A checkpoint, and the calibration input [default: the one beside the model].
    Checkpoint(Box<Checkpoint>, Option<PathBuf>),
}

impl Source {
    /// The model with its ranges.
    ///
    /// # Errors
    /// Calibration data that cannot be used, options that do not suit the model.
    pub fn subject(
        &self,
        planning: &Planning,
        tell: &mut dyn FnMut(News<'_>),
    ) -> Result<Subject<'_>, CompileError> {
        planning.check()?;
        match self {
            Source::Preset(preset) => Subject::of_preset(preset, planning),
            Source::Checkpoint(checkpoint, calibrate) => {
                let (decoder, calibrate) = (checkpoint.decoder()?, calibrate.as_deref());
                Subject::of_checkpoint(checkpoint, decoder, calibrate, planning, tell)
            }
        }
    }
}

/// Searches, places and prices a model, prefill included.
///
/// # Errors
/// As [`Source::subject`] and [`Subject::plan`].
pub fn estimate<'s>(
    source: &'s Source,
    planning: &Planning,
    tell: &mut dyn FnMut(News<'_>),
) -> Result<(Subject<'s>, Planned), CompileError> {
    let mut subject = source.subject(planning, tell)?;
    let mut on = |_| Ok(ControlFlow::<Infallible>::Continue(()));
    match subject.plan(None, &mut on, tell)? {
        ControlFlow::Continue(planned) => Ok((subject, planned)),
        ControlFlow::Break(never) => match never {},
    }
}
