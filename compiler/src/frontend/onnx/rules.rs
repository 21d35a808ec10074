//! What each operation makes of activations: the parts that decoder blocks consist of.
//!
//! A rule looks at its operands only. Whether the parts make blocks is for [`super::llama`] to see; a further family of decoders
//! needs its own parts here (another norm, another activation) and its own module of blocks.

use super::array::{Array, zip};
use super::attention;
use super::call::Call;
use super::error::{Refusal, Step};
use super::graph::Format;
use super::rotary::{self, Positions};
use super::value::{Entry, Rows, Term, TermId, Terms, Value, Weight};

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
            "ReduceMean" => self.mean(call)?,
            "Sqrt" => self.step(call, |term| match *term {
                Term::Shifted(x, eps) => Some(Term::Root(x, eps)),
                _ => None,
            })?,
            "Reciprocal" => self.step(call, |term| match *term {
                Term::Root(x, eps) => Some(Term::InverseRoot(x, eps)),
                _ => None,
            })?,
            "RMSNormalization" => self.rms_norm(call)?,
            "MatMul" => match call.value(1)? {
                Value::Act(_) => attention::multiplied(self, call)?,
                _ => {
                    let weight = call.weight(1)?.transpose();
                    self.linear(call, weight, None)?
                }
            },
            "Gemm" => self.gemm(call)?,
            "Sigmoid" => self.sigmoid(call)?,
            "Swish" => self.swish(call)?,
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
        match operand.map(|entry| self.terms.get(entry.term)) {
            Some(term) => Refusal::new(
                format!("{op} of {} is no part of a Llama decoder", term.describe()),
                term.continuation(),
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
                term.continuation(),
            ),
            None => Refusal::new("it leaves nothing", "an operand with entries"),
        };
        Err(match self.makers.get(i).copied().flatten() {
            Some(maker) => refusal.blaming(maker),
            None => refusal,
        })
    }

    /// Operand `i` as rows of a term that is no unfinished part of another.
    fn whole(&self, call: &Call<'_>, i: usize) -> Step<Rows> {
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
                let refusal = Refusal::new(found, term.continuation());
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

    /// A step of a norm that keeps the shape.
    fn step(&mut self, call: &Call<'_>, next: impl Fn(&Term) -> Option<Term>) -> Step<Value> {
        let rows = self.rows(call, 0)?;
        match next(self.terms.get(rows.term)) {
            Some(term) => {
                let width = self.terms.width(rows.term);
                self.made(call, term, width, &rows)
            }
            None => Err(self.misused(call)),
        }
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
        if let (Some(a), Some(b)) = (self.terms.whole(&a), self.terms.whole(&b))
            && a.tokens == b.tokens
            && a.shape.last() == b.shape.last()
        {
            let width = self.terms.width(a.term);
            return self.made(call, Term::Sum(a.term, b.term), width, &a);
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

    /// A bias, a norm's eps, or a mask.
    fn add_constant(&mut self, call: &Call<'_>, act: usize, constant: usize) -> Step<Value> {
        let array = call.act(act)?;
        let first = array.data.first().map(|entry| entry.term);
        let Some(term) = first.map(|term| self.terms.get(term).clone()) else {
            return Err(self.misused(call));
        };
        match term {
            Term::Scores { .. } => attention::masked(self, call, act, constant),
            Term::MeanSquare(x) => {
                let rows = self.rows(call, act)?;
                let eps = call.scalar(constant).ok_or_else(|| call.misfit())?;
                self.made(call, Term::Shifted(x, decimal(eps)), 1, &rows)
            }
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

    fn multiply(&mut self, call: &Call<'_>) -> Step<Value> {
        match (call.value(0)?, call.value(1)?) {
            (Value::Act(_), Value::Act(_)) => self.product(call),
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

    /// The product of two activations: a square, what a norm divides, a SiLU, or the gated MLP's.
    fn product(&mut self, call: &Call<'_>) -> Step<Value> {
        let (a, b) = (self.rows(call, 0)?, self.rows(call, 1)?);
        if a.tokens != b.tokens {
            return Err(call.misfit());
        }
        let pair = |one: &Rows, other: &Rows| match *self.terms.get(other.term) {
            Term::InverseRoot(x, eps) if x == one.term => Some(Term::Normed(x, eps)),
            Term::Sigmoid(x) if x == one.term => Some(Term::Silu(x)),
            _ => None,
        };
        let width = self.terms.width(a.term).max(self.terms.width(b.term));
        let like = if a.shape.last() == Some(&width) {
            &a
        } else {
            &b
        };
        if let Some(term) = pair(&a, &b).or_else(|| pair(&b, &a)) {
            return self.made(call, term, width, like);
        }
        let (a, b) = (self.whole(call, 0)?, self.whole(call, 1)?);
        if self.terms.width(a.term) != self.terms.width(b.term) {
            return Err(call.misfit());
        }
        let term = match a.term == b.term {
            true => Term::Square(a.term),
            false => Term::Product(a.term, b.term),
        };
        self.made(call, term, width, &a)
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
        if rows.term != x || rows.tokens != root.tokens {
            return Err(self.misused(call));
        }
        let width = self.terms.width(x);
        self.made(call, Term::Normed(x, eps), width, &rows)
    }

    fn power(&mut self, call: &Call<'_>) -> Step<Value> {
        let exponent = match call.value(1)? {
            Value::Int(x) => x.single().map(|&x| x as f64),
            _ => call.scalar(1),
        };
        if exponent == Some(-0.5) {
            return self.step(call, |term| match *term {
                Term::Shifted(x, eps) => Some(Term::InverseRoot(x, eps)),
                _ => None,
            });
        }
        let rows = self.whole(call, 0)?;
        if exponent != Some(2.0) {
            return Err(self.misused(call));
        }
        let width = self.terms.width(rows.term);
        self.made(call, Term::Square(rows.term), width, &rows)
    }

    fn mean(&mut self, call: &Call<'_>) -> Step<Value> {
        let rows = self.rows(call, 0)?;
        let rank = rows.shape.len();
        let axes = call.list_or(1, "axes")?.unwrap_or_default();
        let last = axes.len() == 1 && call.axis_of(axes[0], rank)? == rank - 1;
        match *self.terms.get(rows.term) {
            Term::Square(x) if last && call.int_attribute("keepdims", 1) == 1 => {
                self.made(call, Term::MeanSquare(x), 1, &rows)
            }
            _ => Err(self.misused(call)),
        }
    }

    fn rms_norm(&mut self, call: &Call<'_>) -> Step<Value> {
        let rows = self.whole(call, 0)?;
        let weight = call.weight(1)?;
        let width = self.terms.width(rows.term);
        let rank = rows.shape.len();
        if call.axis(-1, rank)? != rank - 1 || weight.shape() != [width] {
            return Err(Refusal::new(
                format!(
                    "a norm from axis {} with a weight of shape {:?}",
                    call.int_attribute("axis", -1),
                    weight.shape()
                ),
                format!("a norm over the last axis with a weight of shape [{width}]"),
            ));
        }
        let eps = decimal(f64::from(call.float_attribute("epsilon", 1e-5)));
        let x = rows.term;
        self.made(call, Term::Norm { x, eps, weight }, width, &rows)
    }

    fn sigmoid(&mut self, call: &Call<'_>) -> Step<Value> {
        let rows = self.whole(call, 0)?;
        let width = self.terms.width(rows.term);
        self.made(call, Term::Sigmoid(rows.term), width, &rows)
    }

    fn swish(&mut self, call: &Call<'_>) -> Step<Value> {
        let rows = self.whole(call, 0)?;
        if call.float_attribute("alpha", 1.0) != 1.0 {
            return Err(self.misused(call));
        }
        let width = self.terms.width(rows.term);
        self.made(call, Term::Silu(rows.term), width, &rows)
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
fn scaled(array: &Array<Entry>, factor: f64) -> Value {
    Value::act(array.map(|entry| Entry {
        factor: entry.factor * factor,
        ..*entry
    }))
}

/// The number a person wrote, of which the file holds the nearest f32.
fn decimal(x: f64) -> f64 {
    (x as f32).to_string().parse().unwrap_or(x)
}
