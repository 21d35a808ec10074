//! The meaning of the stage: float64 evaluation, several tokens at a time, with the keys and values of earlier ones.
//!
//! One pass over T tokens and T passes over one token each do the same arithmetic on every token, in another order over
//! tokens: the layer's statements run for all tokens of a pass before the next layer's.

use super::kernels::{centred, dot, linear, mean_square, rms_norm, softmax, turn};
use super::{Decoder, Op, Template, Tensor, Value, WeightError, WeightSource, instantiate};
use crate::Violations;
use miette::Diagnostic;
use std::collections::HashMap;
use std::sync::Arc;

/// One vector of the same width per token.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    width: usize,
    data: Vec<f64>,
}

impl Rows {
    /// `count` rows of `width`, entry by entry from (row, column).
    pub fn from_fn(count: usize, width: usize, entry: impl Fn(usize, usize) -> f64) -> Self {
        let data = (0..count).flat_map(|row| (0..width).map(move |column| (row, column)));
        Self {
            width,
            data: data.map(|(row, column)| entry(row, column)).collect(),
        }
    }

    /// No rows yet.
    fn empty(width: usize) -> Self {
        Self {
            width,
            data: Vec::new(),
        }
    }

    /// One row per row of `self`, made by `f` from its index and content.
    fn map(&self, width: usize, mut f: impl FnMut(usize, &[f64]) -> Vec<f64>) -> Self {
        let data = self
            .iter()
            .enumerate()
            .flat_map(|(t, row)| f(t, row))
            .collect();
        Self { width, data }
    }

    /// Entries of one row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.data.len() / self.width
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.width..(i + 1) * self.width]
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.data.chunks_exact(self.width)
    }

    /// All entries, row after row.
    pub fn as_slice(&self) -> &[f64] {
        &self.data
    }

    /// Adds `rows` after the last.
    fn extend(&mut self, rows: &Rows) {
        self.data.extend_from_slice(&rows.data);
    }
}

/// Keys and values of the tokens so far, per layer and declared state; starts empty.
#[derive(Clone, Debug, PartialEq)]
pub struct KvCache {
    /// `[layer][state]`: keys and values.
    layers: Vec<Vec<(Rows, Rows)>>,
    positions: usize,
}

impl KvCache {
    /// An empty cache for `decoder`.
    pub fn new(decoder: &Decoder) -> Self {
        let pair = |width| (Rows::empty(width), Rows::empty(width));
        let layer: Vec<_> = decoder
            .states
            .iter()
            .map(|state| pair(state.kv_heads * state.head_dim))
            .collect();
        Self {
            layers: vec![layer; decoder.model.layers],
            positions: 0,
        }
    }

    /// Tokens held; also the next token's position.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Forgets all tokens from `positions` on.
    pub fn truncate(&mut self, positions: usize) {
        for (keys, values) in self.layers.iter_mut().flatten() {
            keys.data.truncate(positions * keys.width);
            values.data.truncate(positions * values.width);
        }
        self.positions = self.positions.min(positions);
    }

    /// Keys of a layer in its first state: a row of kv_heads · head_dim features per token.
    pub fn keys(&self, layer: usize) -> &Rows {
        &self.layers[layer][0].0
    }

    /// Values of a layer in its first state, like [`Self::keys`].
    pub fn values(&self, layer: usize) -> &Rows {
        &self.layers[layer][0].1
    }
}

/// A vector that the interpreter came by.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The statement's site, `{i}` still in it.
    pub site: &'a str,
    /// Which of its vectors: empty for the result, else one of
    /// - `input` (norms, activations), the operand, of a layernorm less its mean;
    /// - `mean_square` (norms) of the `input`, one entry, without eps;
    /// - `scores` (attend), scaled q·k of query head h and token p at h·(position+1) + p;
    /// - `probabilities` (attend), their softmax, in the same order.
    pub part: &'static str,
    /// The layer, for statements of the layer template.
    pub layer: Option<usize>,
    /// The token's position in the sequence, from 0.
    pub position: usize,
    /// The vector.
    pub values: &'a [f64],
}

impl Observation<'_> {
    /// The site with the layer in place of `{i}`, and `.part` if it is not the result: `layers.3.attention.attend.scores`.
    pub fn name(&self) -> String {
        let site = self
            .layer
            .map_or_else(|| self.site.into(), |layer| instantiate(self.site, layer));
        if self.part.is_empty() {
            site
        } else {
            format!("{site}.{}", self.part)
        }
    }
}

/// What a pass over T tokens computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// Layers + 1 times T rows: the input of each layer, then the input of the head (after the final norm).
    pub hidden: Vec<Rows>,
    /// T rows over the vocabulary.
    pub logits: Rows,
}

/// Why a pass was not made. The cache is as it was before.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum InterpretError {
    /// The stage is malformed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Verify(#[from] Violations),
    /// A tensor is missing, misshapen or unreadable.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Weight(#[from] WeightError),
    /// A token id outside the vocabulary.
    #[error(
        "token {token} at position {position} is not in the vocabulary of {vocab} tokens: was the text tokenized for another model?"
    )]
    #[diagnostic(code(interpret::token))]
    Token {
        /// The id.
        token: u32,
        /// Its position.
        position: usize,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// More tokens than the model was made for.
    #[error("{needed} positions exceed the model's context of {capacity}: shorten the input")]
    #[diagnostic(code(interpret::capacity))]
    Capacity {
        /// Positions the pass would fill.
        needed: usize,
        /// The model's `max_positions`.
        capacity: usize,
    },
    /// A pass over no tokens.
    #[error("there are no tokens to interpret")]
    #[diagnostic(code(interpret::empty))]
    Empty,
}

/// Where observations go.
pub type Observer<'o> = dyn FnMut(Observation<'_>) + 'o;

/// Evaluates a verified decoder on a checkpoint's weights.
pub struct Interpreter<'a> {
    decoder: &'a Decoder,
    weights: &'a dyn WeightSource,
}

impl<'a> Interpreter<'a> {
    /// Verifies `decoder` and checks that `weights` has every tensor it names, with the right shape.
    pub fn new(
        decoder: &'a Decoder,
        weights: &'a dyn WeightSource,
    ) -> Result<Self, InterpretError> {
        decoder.verify()?;
        for (name, shape) in decoder.tensors() {
            weights.check_shape(&name, &shape)?;
        }
        Ok(Self { decoder, weights })
    }

    /// The stage.
    pub fn decoder(&self) -> &'a Decoder {
        self.decoder
    }

    /// Index of the state called `name`; the verifier has seen that it is declared.
    fn state(&self, name: &str) -> usize {
        let states = &self.decoder.states;
        states
            .iter()
            .position(|state| state.name == name)
            .expect("verified")
    }

    /// Continues the sequence in `cache` by `tokens`, and reports every vector on the way.
    pub fn pass(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        observe: &mut Observer<'_>,
    ) -> Result<Pass, InterpretError> {
        self.check(cache, tokens)?;
        let first = cache.positions;
        let pass = self.run(cache, tokens, observe);
        match pass {
            Ok(_) => cache.positions += tokens.len(),
            Err(_) => cache.truncate(first),
        }
        pass
    }

    fn check(&self, cache: &KvCache, tokens: &[u32]) -> Result<(), InterpretError> {
        let model = &self.decoder.model;
        if tokens.is_empty() {
            return Err(InterpretError::Empty);
        }
        let needed = cache.positions + tokens.len();
        if needed > model.max_positions {
            return Err(InterpretError::Capacity {
                needed,
                capacity: model.max_positions,
            });
        }
        match tokens
            .iter()
            .position(|&token| token as usize >= model.vocab)
        {
            Some(t) => Err(InterpretError::Token {
                token: tokens[t],
                position: cache.positions + t,
                vocab: model.vocab,
            }),
            None => Ok(()),
        }
    }

    fn run(
        &self,
        cache: &mut KvCache,
        tokens: &[u32],
        observe: &mut Observer<'_>,
    ) -> Result<Pass, InterpretError> {
        let Decoder {
            embed,
            layer: layer_template,
            final_,
            ..
        } = self.decoder;
        let first = cache.positions;
        let mut frame = Frame {
            interpreter: self,
            first,
            layer: None,
            kv: &mut [],
            values: HashMap::new(),
        };
        let ids = Rows::from_fn(tokens.len(), 1, |t, _| f64::from(tokens[t]));
        let mut stream = frame.call(embed, ids, observe)?;
        let mut hidden = Vec::with_capacity(cache.layers.len() + 1);
        for (i, kv) in cache.layers.iter_mut().enumerate() {
            hidden.push(stream.clone());
            let mut frame = Frame {
                interpreter: self,
                first,
                layer: Some(i),
                kv,
                values: HashMap::new(),
            };
            stream = frame.call(layer_template, stream, observe)?;
        }
        let logits = frame.call(final_, stream, observe)?;
        let head = final_
            .definition(final_.result)
            .map(|inst| inst.op.operands()[0]);
        hidden.extend(head.and_then(|x| frame.values.remove(&x)));
        Ok(Pass { hidden, logits })
    }
}

/// One template's evaluation in one layer.
struct Frame<'f, 'a> {
    interpreter: &'f Interpreter<'a>,
    /// Position of the pass's first token.
    first: usize,
    layer: Option<usize>,
    /// The layer's states.
    kv: &'f mut [(Rows, Rows)],
    values: HashMap<Value, Rows>,
}

/// Reports one vector per token.
struct Report<'r, 'o> {
    site: &'r str,
    layer: Option<usize>,
    first: usize,
    observe: &'r mut Observer<'o>,
}

impl Report<'_, '_> {
    fn vector(&mut self, part: &'static str, t: usize, values: &[f64]) {
        let (site, layer, position) = (self.site, self.layer, self.first + t);
        (self.observe)(Observation {
            site,
            part,
            layer,
            position,
            values,
        });
    }

    fn rows(&mut self, part: &'static str, rows: &Rows) {
        rows.iter()
            .enumerate()
            .for_each(|(t, row)| self.vector(part, t, row));
    }
}

impl Frame<'_, '_> {
    fn call(
        &mut self,
        template: &Template,
        argument: Rows,
        observe: &mut Observer<'_>,
    ) -> Result<Rows, InterpretError> {
        self.values.clear();
        self.values.insert(template.param.0, argument);
        for inst in &template.insts {
            let mut report = Report {
                site: &inst.site,
                layer: self.layer,
                first: self.first,
                observe: &mut *observe,
            };
            let rows = self.inst(&inst.op, &mut report)?;
            if let (Some((value, _)), Some(rows)) = (inst.result, rows) {
                report.rows("", &rows);
                self.values.insert(value, rows);
            }
        }
        Ok(self.values[&template.result].clone())
    }

    fn tensor(&self, name: &str) -> Result<Arc<Tensor>, InterpretError> {
        let weights = self.interpreter.weights;
        Ok(match self.layer {
            Some(layer) => weights.tensor(&instantiate(name, layer))?,
            None => weights.tensor(name)?,
        })
    }

    /// A row of the table per token, or per whatever else its rows are numbered by.
    fn embed(&self, tokens: &Rows, table: &str) -> Result<Rows, InterpretError> {
        let weights = self.interpreter.weights;
        let mut found = Rows::empty(weights.shape(table)?[1]);
        for id in tokens.iter() {
            let id = id[0] as usize;
            let row = weights.rows(table, id..id + 1)?;
            found.data.extend(row.data.into_iter().map(f64::from));
        }
        Ok(found)
    }

    fn inst(
        &mut self,
        op: &Op,
        report: &mut Report<'_, '_>,
    ) -> Result<Option<Rows>, InterpretError> {
        let rows = |value: &Value| &self.values[value];
        Ok(Some(match op {
            Op::Embed { token, weight } => self.embed(rows(token), weight)?,
            Op::Position { token, weight } => {
                let first = self.first as f64;
                let at = Rows::from_fn(rows(token).len(), 1, |t, _| first + t as f64);
                self.embed(&at, weight)?
            }
            Op::Linear { x, weight, bias } => {
                let bias = bias.as_ref().map(|bias| self.tensor(bias)).transpose()?;
                linear(rows(x), &*self.tensor(weight)?, bias.as_deref())
            }
            Op::RmsNorm { x, weight, eps } => {
                let (x, weight) = (rows(x), self.tensor(weight)?);
                report.rows("input", x);
                x.map(x.width(), |t, x| {
                    let mean_square = mean_square(x);
                    report.vector("mean_square", t, &[mean_square]);
                    rms_norm(x, mean_square, &weight, *eps)
                })
            }
            Op::LayerNorm {
                x,
                weight,
                bias,
                eps,
            } => {
                let (weight, bias) = (self.tensor(weight)?, self.tensor(bias)?);
                let x = rows(x).map(rows(x).width(), |_, x| centred(x));
                report.rows("input", &x);
                x.map(x.width(), |t, x| {
                    let variance = mean_square(x);
                    report.vector("mean_square", t, &[variance]);
                    let scaled = rms_norm(x, variance, &weight, *eps).into_iter();
                    let pairs = scaled.zip(&bias.data);
                    pairs.map(|(y, &b)| y + f64::from(b)).collect()
                })
            }
            Op::Rope { x, head_dim } => {
                let rope = self.interpreter.decoder.model.positions.rope();
                // the verifier lets no rope pass where positions are learned
                let frequencies = rope.expect("verified").frequencies(*head_dim);
                let x = rows(x);
                x.map(x.width(), |t, x| turn(x, &frequencies, self.first + t))
            }
            Op::KvAppend { state, k, v } => {
                let index = self.interpreter.state(state);
                self.kv[index].0.extend(&self.values[k]);
                self.kv[index].1.extend(&self.values[v]);
                return Ok(None);
            }
            Op::Attend {
                q,
                state,
                heads,
                scale,
            } => {
                let index = self.interpreter.state(state);
                let attention = Attention {
                    keys: &self.kv[index].0,
                    values: &self.kv[index].1,
                    heads: *heads,
                    kv_heads: self.interpreter.decoder.states[index].kv_heads,
                    scale: *scale,
                };
                let q = rows(q);
                q.map(q.width(), |t, q| {
                    let scores = attention.scores(q, self.first + t + 1);
                    report.vector("scores", t, &scores);
                    let probabilities = attention.probabilities(&scores);
                    report.vector("probabilities", t, &probabilities);
                    attention.mix(&probabilities)
                })
            }
            Op::Activate { x, function } => {
                let x = rows(x);
                report.rows("input", x);
                x.map(x.width(), |_, x| {
                    x.iter().map(|&x| function.value(x)).collect()
                })
            }
            Op::Mul { a, b } => zip(rows(a), rows(b), |a, b| a * b),
            Op::Add { a, b } => zip(rows(a), rows(b), |a, b| a + b),
        }))
    }
}

fn zip(a: &Rows, b: &Rows, f: impl Fn(f64, f64) -> f64) -> Rows {
    let data = a.data.iter().zip(&b.data).map(|(&a, &b)| f(a, b)).collect();
    Rows {
        width: a.width,
        data,
    }
}

/// One layer's attention for one query.
struct Attention<'s> {
    keys: &'s Rows,
    values: &'s Rows,
    heads: usize,
    kv_heads: usize,
    scale: f64,
}

impl Attention<'_> {
    fn head_dim(&self) -> usize {
        self.keys.width() / self.kv_heads
    }

    /// The features of `row` that query head `head` reads.
    fn slice<'r>(&self, row: &'r [f64], head: usize) -> &'r [f64] {
        let start = head / (self.heads / self.kv_heads) * self.head_dim();
        &row[start..start + self.head_dim()]
    }

    /// Scaled products with the first `tokens` keys, head after head.
    fn scores(&self, q: &[f64], tokens: usize) -> Vec<f64> {
        let heads = q.chunks_exact(self.head_dim()).enumerate();
        heads
            .flat_map(|(head, q)| {
                (0..tokens).map(move |p| dot(q, self.slice(self.keys.row(p), head)) * self.scale)
            })
            .collect()
    }

    /// Softmax over the tokens of each head.
    fn probabilities(&self, scores: &[f64]) -> Vec<f64> {
        scores
            .chunks_exact(scores.len() / self.heads)
            .flat_map(softmax)
            .collect()
    }

    /// Values weighted by probabilities, head after head.
    fn mix(&self, probabilities: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; self.heads * self.head_dim()];
        let heads = probabilities.chunks_exact(probabilities.len() / self.heads);
        for (head, (out, probabilities)) in
            out.chunks_exact_mut(self.head_dim()).zip(heads).enumerate()
        {
            for (p, probability) in probabilities.iter().enumerate() {
                for (out, value) in out.iter_mut().zip(self.slice(self.values.row(p), head)) {
                    *out += probability * value;
                }
            }
        }
        out
    }
}
