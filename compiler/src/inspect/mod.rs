//! A plan or a stage as something to look at: pages of programs, templates and operations, of which parts can be asked for.
//!
//! Weights never appear: data is named, with its shape and where it comes from, and a plan's arrays by digest.

mod build;
mod dot;
mod narrow;
mod text;

pub use build::{page, stage_name};
pub use dot::dot;
pub use narrow::{NotThere, Wanted, narrow};
pub use text::text;

use serde::Serialize;

/// All that can be seen of a plan or a stage.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// `decoder`, `packed`, `leveled` or `plan`.
    pub stage: &'static str,
    /// What describes the whole, as (name, value).
    pub header: Vec<(String, String)>,
    /// Its programs.
    pub programs: Vec<ProgramPage>,
    /// Whether something was left out because something else was asked for.
    pub narrowed: bool,
}

/// A program.
#[derive(Clone, Debug, Serialize)]
pub struct ProgramPage {
    /// `decode` or `prefill`; `decoder` for the decoder stage.
    pub name: String,
    /// Tokens of one run.
    pub block: u32,
    /// Its data.
    pub data: Vec<DataRow>,
    /// Its KV states, in words.
    pub states: Vec<String>,
    /// Its templates.
    pub templates: Vec<TemplatePage>,
}

/// An array, without its numbers.
#[derive(Clone, Debug, Serialize)]
pub struct DataRow {
    /// Its name.
    pub name: String,
    /// Extents.
    pub shape: Vec<u32>,
    /// Where the numbers come from.
    pub from: String,
    /// What a plan stores of it: one digest for each layer.
    pub digests: Vec<String>,
    /// Bytes of all of it in the plan.
    pub bytes: u64,
}

/// A template.
#[derive(Clone, Debug, Serialize)]
pub struct TemplatePage {
    /// Its name.
    pub name: String,
    /// When it runs, in words.
    pub runs: String,
    /// First and last layer that it runs for; None where that has no meaning, or is another template's to say.
    pub layers: Option<(u32, u32)>,
    /// What it receives.
    pub params: Vec<ValueRow>,
    /// Its operations, or those asked for.
    pub rows: Vec<Row>,
    /// What it returns.
    pub results: Vec<String>,
}

/// An operation.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Index in the template.
    pub index: usize,
    /// Its name.
    pub op: String,
    /// Operands and parameters, as the text form prints them.
    pub text: String,
    /// Values it reads.
    pub operands: Vec<String>,
    /// The table entry it refers to.
    pub entry: Option<String>,
    /// What it defines.
    pub results: Vec<ValueRow>,
    /// Where it comes from.
    pub site: String,
}

/// A value.
#[derive(Clone, Debug, Serialize)]
pub struct ValueRow {
    /// `%n`.
    pub id: String,
    /// How features lie.
    pub layout: String,
    /// Whether imaginary parts carry data.
    pub complex: bool,
    /// Declared bound of a slot; none in the decoder stage.
    pub range: Option<f64>,
    /// Real-world value of a slot that is 1; none in the decoder stage.
    pub unit: Option<f64>,
    /// Level, from the leveled stage on.
    pub level: Option<u32>,
    /// Degree, from the leveled stage on.
    pub degree: Option<u8>,
}
