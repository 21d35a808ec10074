//! Slot programs: the common body of the `packed` and `leveled` stages.
//!
//! A program is a sequence of *steps*; each step runs a [`Template`] once per layer of a range, feeding the results of one
//! run to the parameters of the next. A template is a list of SSA [`Node`]s over ciphertext values. The two stages are the
//! same type with different annotations: [`Packed`] values carry a [`ValueType`] only, [`Leveled`] values also carry [`At`]
//! (level and degree), and only leveled programs contain [`Op::Rescale`], [`Op::Drop`] and [`Op::Bootstrap`].
//!
//! Weights, rotary tables and masks are never inlined: an operation names a declaration in [`Program::data`],
//! [`Program::plains`], [`Program::matrices`] or [`Program::polys`], and a [`DataSource`] resolves data for a layer.
//!
//! The text form ([`Program`] prints and parses):
//!
//! ```text
//! leveled 3
//! checkpoint "blake3:…"
//! program "decode", slots=32768, block=1, capacity=256
//!
//! data d0 "layers.{i}.attention.q_proj", per_layer, shape=[128, 128], matrix ["model.layers.{i}.self_attn.q_proj.weight" rows …]
//! plain p0 "current token", [current_token 256/128]
//! state s0 "k" : tokens 256/128 real range 1.0 unit 3.2 at 9
//!
//! template t0 "layer"(%0: periodic 128/128 real range 1.0 unit 3.2 at 16/1) -> [%9] {
//!   %1 = mul %0, %0 : periodic 128/128 real range 1.0 unit 10.24 at 16/2  @layers.{i}.attention_norm.square
//!   %2 = rescale %1 : periodic 128/128 real range 1.0 unit 10.24 at 15/1  @layers.{i}.attention_norm.square
//!   …
//! }
//!
//! step t0, first=0, count=4
//! ```

mod data;
mod interp;
mod matrix;
mod memory;
mod op;
mod parse;
mod parse_layout;
mod print;
mod slots;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod text_tests;
mod token_matrix;
mod types;
mod verify;

pub use data::{DataDecl, DataError, DataId, DataSource, FeatureMap, MatrixPart, Recipe, Shift};
pub use interp::{InterpError, Interpreter, Seen, Session};
pub use matrix::{Entries, Form, Matrix, Pairing};
pub use memory::MemoryData;
pub use op::{
    BootstrapKind, MatrixId, Op, Plain, PlainFactor, PlainId, Poly, PolyId, current_steps,
};
pub use parse::ParseNote;
pub use print::{PrintNote, SLOT_VERSION, stage_of};
pub use slots::Slots;
pub use tables::{Binding, Dependence, Tables};
pub use token_matrix::{Side, TokenMatrix, apply};
pub use types::{
    At, Group, Layout, Leveled, Packed, Stage, StateDecl, StateId, ValueId, ValueType,
};
pub use verify::LevelRules;

use serde::{Deserialize, Serialize};

/// One operation with its results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node<S: Stage> {
    /// The values it defines, in order; empty for [`Op::Append`], several only for [`Op::SumGroups`].
    pub results: Vec<ValueId>,
    /// What it computes.
    pub op: Op<ValueId>,
    /// Type of each result.
    pub types: Vec<ValueType>,
    /// Stage annotation of each result.
    pub notes: Vec<S::Note>,
    /// Where it comes from: a checkpoint name with suffixes, `layers.{i}.attention.q_proj`; `{i}` stands for the layer.
    pub site: String,
}

/// A value that a template receives: its identity, type and stage annotation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Param<S: Stage> {
    /// The value's name inside the template.
    pub value: ValueId,
    /// What it holds.
    pub ty: ValueType,
    /// Stage annotation.
    pub note: S::Note,
}

/// A list of nodes with parameters and results, run once per layer or, for a group template, once per KV group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Template<S: Stage> {
    /// Unique name in the program.
    pub name: String,
    /// Inputs. A group template ([`Op::SumGroups`]) receives the op's arguments, then one group ciphertext per state.
    pub params: Vec<Param<S>>,
    /// Body in execution order: every operand is a parameter or an earlier result.
    pub nodes: Vec<Node<S>>,
    /// What it returns. A group template's results are summed over the groups.
    pub results: Vec<ValueId>,
}

/// Runs one template for each layer in `first..first + count`; a step outside the layer stack has `count == 1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Index into [`Program::templates`].
    pub template: usize,
    /// First layer, bound to `{i}` in weight names and to the per-layer KV state.
    pub first: u32,
    /// How many consecutive layers.
    pub count: u32,
}

/// A slot program: what one generated token, or one block of a prompt's tokens, costs the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program<S: Stage> {
    /// `decode` or `prefill`.
    pub name: String,
    /// Digest of the checkpoint whose weights the data declarations name.
    pub model_digest: String,
    /// Slots S of one ciphertext, N/2.
    pub slots: u32,
    /// Tokens that one run takes, a power of two.
    pub block: u32,
    /// Most tokens the KV state may hold.
    pub capacity: u32,
    /// Data that comes from the checkpoint or from the position, by name.
    pub data: Vec<DataDecl>,
    /// Plaintext operands.
    pub plains: Vec<Plain>,
    /// Matrices of [`Op::Linear`].
    pub matrices: Vec<Matrix>,
    /// Polynomials of [`Op::Poly`].
    pub polys: Vec<Poly>,
    /// Declared per-layer KV state.
    pub states: Vec<StateDecl>,
    /// Templates, group templates included.
    pub templates: Vec<Template<S>>,
    /// The run order. The client's ciphertext enters the first step; the last step's results go back to the client.
    pub steps: Vec<Step>,
}

impl<S: Stage> Program<S> {
    /// The tables that operations name.
    pub fn tables(&self) -> Tables<'_> {
        Tables {
            slots: self.slots,
            capacity: self.capacity,
            data: &self.data,
            plains: &self.plains,
            matrices: &self.matrices,
            polys: &self.polys,
            states: &self.states,
        }
    }
}
