//! What each operation makes of activations: the parts that decoder blocks consist of.
//!
//! A rule looks at its operands only. Whether the parts make blocks is for [`super::llama`] and [`super::gpt2`] to see; a further
//! family of decoders needs its own parts here (another norm, another activation) and its own module of blocks.

use super::activation;
use super::array::{Array, broadcast, count, zip};
use super::attention;
use super::call::Call;
use super::error::{Refusal, Step};
use super::graph::Format;
use super::norm;
use super::rotary::{self, Positions};
use super::value::{Entry, Rows, Term, TermId, Terms, Value};
use super::weight::Weight;
use super::words;
use sotto_ir::decoder::Activation;

/// What the rules work with.
pub(super) struct Rules<'r> {
    pub(super) terms: &'r mut Terms,
    /// How many tokens came before those at hand.
    pub(super) past: usize,
    /// Rotary frequencies found in another evaluation.
    pub(super) known: Option<&'r [f64]>,
    /// The node that made each operand, if one did.
    pub(super) makers: Vec<Option<usize>>,
}

impl Rules<'_> {
    /// The result of an operation at least one of whose operands is an activation.
    pub(super) fn apply(&mut self, call: &Call<'_>) -> Step<Vec<Value>> {
        let value = match call.node.op.as_str() {
            "Cast" => self.cast(call)?,
            "Gather" => self.embed(call)?,
            "Add" => self.add(call)?,
            "Mul" => self.multiply(call)?,
            "Div" => self.divide(call)?,
            "Neg" => scaled(call.act(0)?, -1.0),
            "Pow" => self.power(call)?,
            "ReduceMean" => norm::mean(self, call)?,
            "Sqrt" => norm::root(self, call)?,
            "Reciprocal" => norm::inverse(self, call)?,
            "RMSNormalization" => norm::rms_norm(self, call)?,
            "LayerNormalization" => norm::layer_norm(self, call)?,
            "MatMul" => match call.value(1)? {
                Value::Act(_) => attention::multiplied(self, call)?,
                _ => {
                    let weight = call.weight(1)?.transpose();
                    self.linear(call, weight, None)?
                }
            },
            "Gemm" => self.gemm(call)?,
            "Sigmoid" => activation::sigmoid(self, call)?,
            "Swish" => activation::swish(self, call)?,
            "Gelu" => activation::gelu(self, call)?,
            "Tanh" | "Erf" => activation::gelu_gate(self, call)?,
            "RotaryEmbedding" => self.rotary(call)?,
            "Softmax" => attention::softmax(self, call)?,
            "IsNaN" => attention::nan_test(self, call)?,
            "Where" => attention::chosen(self, call)?,
            "Attention" => return attention::operation(self, call),
            op => return Err(self.unknown(call, op)),
        };
        Ok(vec![value])
    }

    fn unknown(&self, call: &Call<'_>, op: &str) -> Refusal {
        let operand = call.inputs.iter().find_map(|x| match x {
            Value::Act(array) => array.data.first(),
            _ => None,
        });
        let family = self.terms.family();
        match operand.map(|entry| self.terms.get(entry.term)) {
            Some(term) => Refusal::new(
                format!(
                    "{op} of {} is no part of {}",
                    term.describe(),
                    words::decoder(family)
                ),
                term.continuation(family),
            ),
            None => Refusal::new(format!("{op} of nothing"), "an operand with entries"),
        }
    }

    /// An operation whose operands are known parts, but not so put together.
    pub(super) fn misused(&self, call: &Call<'_>) -> Refusal {
        self.unknown(call, &call.node.op)
    }

    /// Operand `i` as whole rows of a term; whoever made it otherwise is blamed.
    pub(super) fn rows(&self, call: &Call<'_>, i: usize) -> Step<Rows> {
        let array = call.act(i)?;
        if let Some(rows) = self.terms.rows(array) {
            return Ok(rows);
        }
        let refusal = match array.data.first().map(|entry| self.terms.get(entry.term)) {
            Some(term) => Refusal::new(
                format!(
                    "it makes of {} a tensor of shape {:?} whose rows are not the features of tokens as they are",
                    term.describe(),
                    array.shape
                ),
                term.continuation(self.terms.family()),
            ),
            None => Refusal::new("it leaves nothing", "an operand with entries"),
        };
        Err(match self.makers.get(i).copied().flatten() {
            Some(maker) => refusal.blaming(maker),
            None => refusal,
        })
    }

    /// Operand `i` as rows of a term that is no unfinished part of another.
    pub(super) fn whole(&self, call: &Call<'_>, i: usize) -> Step<Rows> {
        let rows = self.rows(call, i)?;
        match self.terms.whole(call.act(i)?) {
            Some(rows) => Ok(rows),
            None => {
                let term = self.terms.get(rows.term);
                let found = format!(
                    "its result ({}) is used by {}",
                    term.describe(),
                    call.node.op
                );
                let refusal = Refusal::new(found, term.continuation(self.terms.family()));
                Err(refusal.blaming(self.terms.node(rows.term)))
            }
        }
    }

    /// The rows of a new term, for the tokens of others.
    pub(super) fn made(
        &mut self,
        call: &Call<'_>,
        term: Term,
        width: usize,
        like: &Rows,
    ) -> Step<Value> {
        let id = self.terms.add(term, width, call.number);
        let mut shape = like.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = width;
        }
        self.terms.entries(id, &like.tokens, &shape)
    }

    /// A cast that keeps what an activation is: floats stay floats, token ids whole numbers.
    fn cast(&self, call: &Call<'_>) -> Step<Value> {
        let array = call.act(0)?;
        let to = Format::numbered(call.int_attribute("to", 0) as i32);
        let ids = matches!(self.first(array), Some((_, Term::Tokens)));
        match (ids, to) {
            (true, Format::I64 | Format::I32) => Ok(Value::Act(array.clone())),
            (false, to) if to.is_float() => Ok(Value::Act(array.clone())),
            _ => Err(self.misused(call)),
        }
    }

    /// Rows of the embedding table.
    fn embed(&mut self, call: &Call<'_>) -> Step<Value> {
        let table = call.weight(0)?;
        let ids = call.act(1)?;
        let (&[vocab, hidden], 0) = (&table.shape()[..], call.int_attribute("axis", 0)) else {
            return Err(Refusal::new(
                format!("a table of shape {:?}", table.shape()),
                "rows of an embedding table [vocab, hidden]",
            ));
        };
        let is_id =
            |entry: &Entry| *self.terms.get(entry.term) == Term::Tokens && entry.factor == 1.0;
        if !ids.data.iter().all(is_id) || vocab == 0 || hidden == 0 {
            return Err(self.misused(call));
        }
        let tokens: Vec<u32> = ids.data.iter().map(|entry| entry.token).collect();
        let term = self.terms.add(Term::Embed(table), hidden, call.number);
        let shape = [&ids.shape[..], &[hidden]].concat();
        self.terms.entries(term, &tokens, &shape)
    }

    fn linear(&mut self, call: &Call<'_>, weight: Weight, bias: Option<Weight>) -> Step<Value> {
        let rows = self.whole(call, 0)?;
        let &[out, input] = &weight.shape()[..] else {
            return Err(Refusal::new(
                format!("a constant of shape {:?}", weight.shape()),
                "a projection's weight matrix",
            ));
        };
        if input != self.terms.width(rows.term) || out == 0 {
            return Err(call.misfit());
        }
        if bias.as_ref().is_some_and(|bias| bias.shape() != [out]) {
            return Err(call.misfit());
        }
        let x = rows.term;
        self.made(call, Term::Linear { x, weight, bias }, out, &rows)
    }

    fn gemm(&mut self, call: &Call<'_>) -> Step<Value> {
        let plain = call.float_attribute("alpha", 1.0) == 1.0
            && call.float_attribute("beta", 1.0) == 1.0
            && call.int_attribute("transA", 0) == 0;
        if !plain {
            return Err(Refusal::new(
                "a scaled or transposed operand",
                "Gemm with alpha = beta = 1 and transA = 0",
            ));
        }
        let weight = call.weight(1)?;
        let weight = match call.int_attribute("transB", 0) {
            0 => weight.transpose(),
            _ => weight,
        };
        let bias = call.has(2).then(|| call.weight(2)).transpose()?;
        self.linear(call, weight, bias)
    }

    fn add(&mut self, call: &Call<'_>) -> Step<Value> {
        let (Value::Act(a), Value::Act(b)) = (call.value(0)?, call.value(1)?) else {
            let (act, constant) = match call.value(0)? {
                Value::Act(_) => (0, 1),
                _ => (1, 0),
            };
            return self.add_constant(call, act, constant);
        };
        let (a, b) = (a.clone(), b.clone());
        if let Some(made) = activation::gelu_argument(self, call, &a, &b) {
            return made;
        }
        if let (Some(a), Some(b)) = (self.terms.whole(&a), self.terms.whole(&b))
            && let Some(both) = a.beside(&b)
            && self.terms.width(a.term) == self.terms.width(b.term)
        {
            let width = self.terms.width(a.term);
            return self.made(call, Term::Sum(a.term, b.term), width, &both);
        }
        let positions = Positions {
            first: self.past,
            known: self.known,
        };
        if let Some(rotated) = rotary::rotated(self.terms, call.number, (&a, &b), &positions) {
            return rotated;
        }
        // One of them is no sum's part: say which, and why.
        self.whole(call, 0)?;
        self.whole(call, 1)?;
        Err(self.misused(call))
    }

    /// A bias, learned positions, a norm's eps, a GELU's 1, or a mask.
    fn add_constant(&mut self, call: &Call<'_>, act: usize, constant: usize) -> Step<Value> {
        let array = call.act(act)?;
        let first = array.data.first().map(|entry| entry.term);
        let Some(term) = first.map(|term| self.terms.get(term).clone()) else {
            return Err(self.misused(call));
        };
        match term {
            Term::Scores { .. } => attention::masked(self, call, act, constant),
            Term::MeanSquare(x) => norm::shifted(self, call, x, act, constant),
            Term::GeluGate(x, function) if call.scalar(constant) == Some(1.0) => {
                let rows = self.rows(call, act)?;
                let width = self.terms.width(rows.term);
                self.made(call, Term::GeluShare(x, function), width, &rows)
            }
            Term::Embed(_) => self.position(call, act, constant),
            Term::Linear {
                x,
                weight,
                bias: None,
            } => {
                let rows = self.rows(call, act)?;
                let bias = call.weight(constant)?;
                let width = self.terms.width(rows.term);
                if bias.shape() != [width] {
                    return Err(Refusal::new(
                        format!("a constant of shape {:?} is added", bias.shape()),
                        format!("a bias of shape [{width}], or the residual stream"),
                    ));
                }
                let bias = Some(bias);
                self.made(call, Term::Linear { x, weight, bias }, width, &rows)
            }
            _ => Err(self.misused(call)),
        }
    }

    /// Learned positions: to each token's embedding, the row of a table for its position.
    fn position(&mut self, call: &Call<'_>, act: usize, constant: usize) -> Step<Value> {
        let rows = self.rows(call, act)?;
        let (x, width) = (rows.term, self.terms.width(rows.term));
        let added = call.weight(constant)?;
        let in_order = (0..).zip(&rows.tokens).all(|(i, &token)| i == token);
        // Row by row: broadcasting adds an extent of 1 to either at most.
        let shape = broadcast(&rows.shape, &added.shape()).ok_or_else(|| call.misfit())?;
        let entries = [&shape, &rows.shape, &added.shape()].map(|shape| count(shape));
        let same = entries == [Some(rows.tokens.len() * width); 3];
        let table = added.table(self.past, width).filter(|_| in_order && same);
        let table = table.ok_or_else(|| {
            let (first, last) = (self.past, self.past + rows.tokens.len());
            Refusal::new(
                format!("{} is added to the embedding", added.name()),
                format!(
                    "rows {first} to {} of a table of positions [positions, {width}]: those of the tokens' positions, as they are",
                    last.saturating_sub(1)
                ),
            )
        })?;
        let rows = Rows { shape, ..rows };
        self.made(call, Term::Positioned { x, table }, width, &rows)
    }

    fn multiply(&mut self, call: &Call<'_>) -> Step<Value> {
        match (call.value(0)?, call.value(1)?) {
            (Value::Act(a), Value::Act(b)) => {
                let (a, b) = (a.clone(), b.clone());
                match activation::gelu_product(self, call, &a, &b) {
                    Some(made) => made,
                    None => self.product(call),
                }
            }
            (Value::Act(_), _) => self.multiply_constant(call, 0, 1),
            _ => self.multiply_constant(call, 1, 0),
        }
    }

    /// A norm's weight, a scale, or a table of cosines.
    fn multiply_constant(&mut self, call: &Call<'_>, act: usize, constant: usize) -> Step<Value> {
        let array = call.act(act)?.clone();
        let first = array.data.first().map(|entry| entry.term);
        if let Some(&Term::Normed(x, eps)) = first.map(|term| self.terms.get(term)) {
            let rows = self.rows(call, act)?;
            let weight = call.weight(constant)?;
            let width = self.terms.width(x);
            if weight.shape() != [width] {
                return Err(call.misfit());
            }
            return self.made(call, Term::Norm { x, eps, weight }, width, &rows);
        }
        if let Some(factor) = call.scalar(constant) {
            return Ok(scaled(&array, factor));
        }
        let factors = call.floats(constant)?;
        let result = zip(&*array, &*factors, |entry, factor| Entry {
            factor: entry.factor * factor,
            ..*entry
        });
        result.map(Value::act).ok_or_else(|| call.misfit())
    }

    /// The product of two activations: a square or cube, what a norm divides, a SiLU, or the gated MLP's.
    fn product(&mut self, call: &Call<'_>) -> Step<Value> {
        let (a, b) = (self.rows(call, 0)?, self.rows(call, 1)?);
        let both = a.beside(&b).ok_or_else(|| call.misfit())?;
        let pair = |one: &Rows, other: &Rows| match *self.terms.get(other.term) {
            Term::InverseRoot(x, eps) if x == one.term => Some(Term::Normed(x, eps)),
            Term::Sigmoid(x) if x == one.term => Some(Term::Activated(x, Activation::Silu)),
            Term::Square(x) if x == one.term => Some(Term::Cube(x)),
            _ => None,
        };
        let width = self.terms.width(a.term).max(self.terms.width(b.term));
        if let Some(term) = pair(&a, &b).or_else(|| pair(&b, &a)) {
            return self.made(call, term, width, &both);
        }
        let (a, b) = (self.whole(call, 0)?, self.whole(call, 1)?);
        if self.terms.width(a.term) != self.terms.width(b.term) {
            return Err(call.misfit());
        }
        let term = match a.term == b.term {
            true => Term::Square(a.term),
            false => Term::Product(a.term, b.term),
        };
        self.made(call, term, width, &both)
    }

    fn divide(&mut self, call: &Call<'_>) -> Step<Value> {
        if let Value::Act(array) = call.value(0)?
            && let Some(divisor) = call.scalar(1)
            && divisor != 0.0
        {
            return Ok(scaled(array, divisor.recip()));
        }
        if !matches!(call.value(1)?, Value::Act(_)) {
            return Err(self.misused(call));
        }
        let root = self.rows(call, 1)?;
        let Term::Root(x, eps) = *self.terms.get(root.term) else {
            return Err(self.misused(call));
        };
        if call.scalar(0) == Some(1.0) {
            return self.made(call, Term::InverseRoot(x, eps), 1, &root);
        }
        let rows = self.rows(call, 0)?;
        let both = rows.beside(&root).filter(|_| rows.term == x);
        let both = both.ok_or_else(|| self.misused(call))?;
        let width = self.terms.width(x);
        self.made(call, Term::Normed(x, eps), width, &both)
    }

    /// Powers on the way to a norm or a GELU.
    fn power(&mut self, call: &Call<'_>) -> Step<Value> {
        let exponent = match call.value(1)? {
            Value::Int(x) => x.single().map(|&x| x as f64),
            _ => call.scalar(1),
        };
        if exponent == Some(-0.5) {
            return norm::inverse_root(self, call);
        }
        let rows = self.whole(call, 0)?;
        let term = match exponent {
            Some(2.0) => Term::Square(rows.term),
            Some(3.0) => Term::Cube(rows.term),
            _ => return Err(self.misused(call)),
        };
        let width = self.terms.width(rows.term);
        self.made(call, term, width, &rows)
    }

    fn rotary(&mut self, call: &Call<'_>) -> Step<Value> {
        let array = call.act(0)?.clone();
        let (mut cos, mut sin) = (call.floats(1)?, call.floats(2)?);
        if call.int_attribute("interleaved", 0) != 0 {
            return Err(Refusal::new(
                "neighbouring features are turned (interleaved)",
                "rotary embedding of a head's two halves",
            ));
        }
        if call.has(3) {
            // Tables over all positions, and which of them.
            let ids = call.ints(3)?;
            let pick = |table: &Array<f64>| {
                let places = ids.data.iter().map(|&id| usize::try_from(id).ok());
                table.pick(0, &places.collect::<Option<Vec<_>>>()?)
            };
            let (Some(c), Some(s)) = (pick(&cos), pick(&sin)) else {
                return Err(call.misfit());
            };
            (cos, sin) = (c.into(), s.into());
        }
        let positions = Positions {
            first: self.past,
            known: self.known,
        };
        rotary::operated(self.terms, call.number, &array, (&cos, &sin), &positions)
    }

    /// The term of an activation's first entry.
    pub(super) fn first(&self, array: &Array<Entry>) -> Option<(TermId, &Term)> {
        let id = array.data.first()?.term;
        Some((id, self.terms.get(id)))
    }
}

/// Every entry times a number.
pub(super) fn scaled(array: &Array<Entry>, factor: f64) -> Value {
    Value::act(array.map(|entry| Entry {
        factor: entry.factor * factor,
        ..*entry
    }))
}
