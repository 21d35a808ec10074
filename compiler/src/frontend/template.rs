//! What the templates of every family are built with.

use sotto_ir::decoder::{Inst, ModelFacts, Op, State, Template, Type, Value};

/// Name of the one declared state.
pub(super) const KV: &str = "kv";

/// The one declared state.
pub(super) fn state(facts: &ModelFacts) -> State {
    State {
        name: KV.into(),
        kv_heads: facts.kv_heads,
        head_dim: facts.head_dim,
    }
}

/// A template in the making; its argument is `%0`.
pub(super) struct Builder {
    param: Type,
    insts: Vec<Inst>,
    next: u32,
}

impl Builder {
    pub(super) fn new(param: Type) -> Self {
        Self {
            param,
            insts: Vec::new(),
            next: 1,
        }
    }

    pub(super) fn returning(self, result: Value) -> Template {
        Template {
            param: (Value(0), self.param),
            insts: self.insts,
            result,
        }
    }

    pub(super) fn effect(&mut self, site: &str, op: Op) {
        self.insts.push(Inst {
            result: None,
            op,
            site: site.into(),
        });
    }

    pub(super) fn vector(&mut self, site: &str, width: usize, op: Op) -> Value {
        let value = Value(self.next);
        self.next += 1;
        self.insts.push(Inst {
            result: Some((value, Type::Vector(width))),
            op,
            site: site.into(),
        });
        value
    }

    /// `module` is the tensors' common prefix.
    pub(super) fn linear(
        &mut self,
        site: &str,
        x: Value,
        out: usize,
        module: &str,
        bias: bool,
    ) -> Value {
        let bias = bias.then(|| format!("{module}.bias"));
        self.vector(
            site,
            out,
            Op::Linear {
                x,
                weight: format!("{module}.weight"),
                bias,
            },
        )
    }
}
