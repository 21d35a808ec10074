//! Instruction streams.

use crate::slot::{At, DataDecl, Matrix, Op, Plain, Poly, StateDecl, Step, Tables, ValueType};
use crate::text::list;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};

/// A ciphertext slot of the executor's buffer table, reused once its value is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Buf(pub u32);

/// One instruction: an operation on buffers, what each result is, and which buffers are dead afterwards.
///
/// Results go to empty buffers: an operand that dies here is freed after the results are stored, so its buffer serves from the
/// next instruction on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instr {
    /// What to compute.
    pub op: Op<Buf>,
    /// Where results go.
    pub dst: Vec<Buf>,
    /// Level and degree of each result; the executor checks them.
    pub at: Vec<At>,
    /// Type of each result, ranges included.
    pub types: Vec<ValueType>,
    /// Buffers whose values nobody reads again (never a `dst` of this instruction).
    pub free: Vec<Buf>,
    /// Source site, `{i}` for the layer.
    pub site: String,
}

/// A template as an instruction stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanTemplate {
    /// Unique name.
    pub name: String,
    /// Buffers that hold the parameters on entry, with their level and type.
    pub params: Vec<(Buf, At, ValueType)>,
    /// Instructions in order.
    pub instrs: Vec<Instr>,
    /// Buffers that hold the results at the end.
    pub results: Vec<Buf>,
    /// Buffers the template uses: its peak number of live ciphertexts.
    pub buffers: u32,
}

/// One program of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanProgram {
    /// `decode` or `prefill`.
    pub name: String,
    /// Tokens that one run takes.
    pub block: u32,
    /// Declared data; the packed files hold one array per declaration and layer.
    pub data: Vec<DataDecl>,
    /// Plaintext operands.
    pub plains: Vec<Plain>,
    /// Matrices.
    pub matrices: Vec<Matrix>,
    /// Polynomials.
    pub polys: Vec<Poly>,
    /// KV state with storage levels.
    pub states: Vec<StateDecl>,
    /// Templates.
    pub templates: Vec<PlanTemplate>,
    /// Run order.
    pub steps: Vec<Step>,
}

impl PlanProgram {
    /// The tables that instructions name, for ciphertexts of `slots` slots and a KV state of `capacity` tokens.
    pub fn tables(&self, slots: u32, capacity: u32) -> Tables<'_> {
        Tables {
            slots,
            capacity,
            data: &self.data,
            plains: &self.plains,
            matrices: &self.matrices,
            polys: &self.polys,
            states: &self.states,
        }
    }
}

impl Display for Buf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

/// `b1 = mul b0, b0 : periodic 4/4 real range 1.0 unit 1.0 at 16/2  @site  frees [b0]`.
impl Display for Instr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, buf) in self.dst.iter().enumerate() {
            write!(f, "{}{buf}", if i > 0 { ", " } else { "" })?;
        }
        if !self.dst.is_empty() {
            f.write_str(" = ")?;
        }
        write!(f, "{}", self.op)?;
        for (i, (ty, at)) in self.types.iter().zip(&self.at).enumerate() {
            write!(f, "{}{ty} at {at}", if i > 0 { ", " } else { " : " })?;
        }
        write!(f, "  @{}", self.site)?;
        if !self.free.is_empty() {
            write!(f, "  frees {}", list(&self.free))?;
        }
        Ok(())
    }
}
