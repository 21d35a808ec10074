//! What a trace file holds: the times of a server's operations, in the Trace Event Format that Perfetto and chrome://tracing open.
//!
//! The runtime writes it, an event a line, so that a file that ends in the middle loses its last event and nothing else; [`read`] takes
//! such files, and those that a viewer has saved again. [`measured`] holds them against what a plan predicts. A trace has sites, levels
//! and times: nothing that depends on a text or on a key but its length and the times of its tokens.
//!
//! | event | `ph` | what it is |
//! |---|---|---|
//! | `plan` | `i` | which plan ran: [`PlanMark`] |
//! | `yardstick` | `C` | seconds of one transform before a token, for normalizing: [`Yardstick`] |
//! | `token 3`, `tokens 0 to 4` | `X` | one run of a program: [`RunArgs`], category [`RUN`] |
//! | a site | `X` | one operation: [`OpArgs`], category the operation's name |

mod measured;
mod read;
#[cfg(test)]
mod tests;

pub use measured::{ClassTimes, Measured, ProgramTimes, SectionTimes, measured};
pub use read::{Trace, TraceError, read};

use serde::{Deserialize, Serialize};

/// Category of an event that spans one run of a program.
pub const RUN: &str = "run";
/// Name of the event that says which plan ran.
pub const PLAN: &str = "plan";
/// Name of the events with the yardstick.
pub const YARDSTICK: &str = "yardstick";

/// An event. Times are microseconds since the trace began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event<A> {
    /// The site, or what else happened.
    pub name: String,
    /// The operation's name, or [`RUN`].
    #[serde(default)]
    pub cat: String,
    /// Kind: `X` for a span, `C` for a counter, `i` for a moment.
    pub ph: String,
    /// When it began.
    #[serde(default)]
    pub ts: f64,
    /// How long it took.
    #[serde(default)]
    pub dur: f64,
    /// Always 1: one server.
    #[serde(default)]
    pub pid: u32,
    /// Always 1: one token at a time.
    #[serde(default)]
    pub tid: u32,
    /// What more there is to say.
    pub args: A,
}

/// Of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpArgs {
    /// `decode` or `prefill`.
    pub program: String,
    /// The template, which may be a loop's body.
    pub template: String,
    /// Index of the instruction in it.
    pub index: u32,
    /// The layer; 0 for what is in none.
    pub layer: u32,
    /// The group of cached tokens, in a loop's body.
    pub group: Option<u32>,
    /// Position of the token, or of the block's first.
    pub position: u32,
    /// Level of the result.
    pub level: Option<u32>,
}

/// Of a run of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunArgs {
    /// `decode` or `prefill`.
    pub program: String,
    /// Position of the token, or of the block's first.
    pub position: u32,
    /// Tokens that it took.
    pub tokens: u32,
}

/// Which plan ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanMark {
    /// Digest of the plan.
    pub plan: String,
    /// Name of the model.
    pub model: String,
    /// Threads that computed.
    pub threads: u32,
}

/// How fast the machine was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Yardstick {
    /// Milliseconds of one transform of 2^16 points on one thread.
    pub milliseconds: f64,
}
