//! Reading traces, whole or cut short.

use super::{Event, OpArgs, PLAN, PlanMark, RUN, RunArgs, YARDSTICK, Yardstick};
use miette::Diagnostic;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// What a trace tells, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// The plan that ran, where the file says so.
    pub plan: Option<PlanMark>,
    /// Runs of programs that came to their end.
    pub runs: Vec<Event<RunArgs>>,
    /// Operations.
    pub ops: Vec<Event<OpArgs>>,
    /// When the yardstick was looked at, and its seconds.
    pub yardsticks: Vec<(f64, f64)>,
    /// Whether the file ends in the middle of an event, which is left out.
    pub cut: bool,
}

/// Why a file is no trace.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum TraceError {
    /// The operating system refused.
    #[error("reading {path}: {cause}; `sotto serve --trace FILE` writes traces")]
    #[diagnostic(code(trace::io))]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        cause: std::io::Error,
    },
    /// Something that is no event.
    #[error(
        "{path}, line {line}: no trace event: {cause}; `sotto serve --trace FILE` writes traces, and so does `sotto check --backend cpu --trace FILE`"
    )]
    #[diagnostic(code(trace::event))]
    Event {
        /// The file.
        path: PathBuf,
        /// Counted from 1; 0 where the file has lines no more.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// No operation in it.
    #[error("{path}: no operation of a plan in it; let the server compute a token first")]
    #[diagnostic(code(trace::empty))]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// No run of a program that came to its end.
    #[error("no token in the trace came to its end; let the server compute one")]
    #[diagnostic(code(trace::unfinished))]
    Unfinished,
    /// An operation that the plan does not have.
    #[error(
        "the trace has an operation at {site} that {program} of this plan does not have; give the plan that ran"
    )]
    #[diagnostic(code(trace::unknown))]
    Unknown {
        /// The site in the trace.
        site: String,
        /// The program.
        program: String,
    },
    /// The trace of another plan.
    #[error("the trace is of plan {found}, this is plan {expected}; give the plan that ran")]
    #[diagnostic(code(trace::foreign))]
    Foreign {
        /// Digest in the trace.
        found: String,
        /// Digest of the plan.
        expected: String,
    },
}

/// Reads a trace: as the runtime writes it, whole or cut short, or as a viewer saved it.
///
/// # Errors
/// A file that cannot be read, holds something else, or no operation.
pub fn read(path: &Path) -> Result<Trace, TraceError> {
    let text = std::fs::read(path).map_err(|cause| TraceError::Io {
        path: path.into(),
        cause,
    })?;
    // a cut may go through a letter
    let text = String::from_utf8_lossy(&text);
    let mut trace = Trace::default();
    let mut take = |line: usize, event: Value| {
        let failed = |cause: serde_json::Error| TraceError::Event {
            path: path.into(),
            line,
            cause: cause.to_string(),
        };
        trace.take(event).map_err(failed)
    };
    match whole(&text) {
        Some(events) => events.into_iter().try_for_each(|event| take(0, event))?,
        None => {
            let count = text.lines().count();
            let mut cut = false;
            for (line, words) in (1..).zip(text.lines()) {
                let words = words.trim().trim_start_matches('[').trim_end_matches(']');
                let words = words.trim_matches(',');
                if words.is_empty() {
                    continue;
                }
                match serde_json::from_str(words) {
                    Ok(event) => take(line, event)?,
                    Err(_) if line == count => cut = true,
                    Err(cause) => {
                        return Err(TraceError::Event {
                            path: path.into(),
                            line,
                            cause: cause.to_string(),
                        });
                    }
                }
            }
            trace.cut = cut;
        }
    }
    match trace.ops.is_empty() {
        true => Err(TraceError::Empty { path: path.into() }),
        false => Ok(trace),
    }
}

/// The events of a file that is whole: an array, or an object with one.
fn whole(text: &str) -> Option<Vec<Value>> {
    match serde_json::from_str(text).ok()? {
        Value::Array(events) => Some(events),
        Value::Object(mut object) => match object.remove("traceEvents")? {
            Value::Array(events) => Some(events),
            _ => None,
        },
        _ => None,
    }
}

impl Trace {
    /// Adds an event; those that others have put in are passed over.
    fn take(&mut self, event: Value) -> Result<(), serde_json::Error> {
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or("");
        match (word("ph"), word("name"), word("cat")) {
            ("i", PLAN, _) => self.plan = Some(serde_json::from_value::<Event<_>>(event)?.args),
            ("C", YARDSTICK, _) => {
                let event: Event<Yardstick> = serde_json::from_value(event)?;
                let seconds = event.args.milliseconds / 1e3;
                if seconds.is_finite() && seconds > 0.0 {
                    self.yardsticks.push((event.ts, seconds));
                }
            }
            ("X", _, RUN) => self.runs.push(serde_json::from_value(event)?),
            ("X", ..) if event.pointer("/args/program").is_some() => {
                self.ops.push(serde_json::from_value(event)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Refuses the trace of another plan; one that does not say which is believed.
    ///
    /// # Errors
    /// If it names another.
    pub fn check_plan(&self, digest: &str) -> Result<(), TraceError> {
        match &self.plan {
            Some(mark) if mark.plan != digest => Err(TraceError::Foreign {
                found: mark.plan.clone(),
                expected: digest.into(),
            }),
            _ => Ok(()),
        }
    }

    /// Seconds of the yardstick at a time: the last look before it, or the first of all.
    pub fn yardstick(&self, ts: f64) -> Option<f64> {
        let before = self.yardsticks.iter().rev().find(|(at, _)| *at <= ts);
        before.or(self.yardsticks.first()).map(|(_, s)| *s)
    }
}
