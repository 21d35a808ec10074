//! The evaluation of a graph at chosen sizes: constants are computed, activations are told by [`Term`]s.

use super::array::Array;
use super::attention;
use super::call::{Call, constant};
use super::error::{OnnxError, Place, Refusal, Step};
use super::fold::fold;
use super::graph::{Graph, Port};
use super::moves::moved;
use super::rules::Rules;
use super::value::{Entry, Term, TermId, Terms, Value};
use std::collections::HashMap;
use std::path::Path;

/// Sizes for what a graph leaves open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Tokens at hand.
    pub(super) tokens: usize,
    /// Tokens before them, where the graph takes keys and values of such.
    pub(super) past: usize,
}

/// Two choices of sizes. With the first, some token stands at position 1, whose angles are the rotary frequencies; the second
/// sees that nothing fitted the first by accident.
pub(super) const SIZES: [Sizes; 2] = [Sizes { tokens: 4, past: 1 }, Sizes { tokens: 6, past: 5 }];

/// A graph made for so many tokens would take long, and such a number is a mistake anyway.
const MOST_FIXED: usize = 1024;

/// What an evaluation found.
pub(super) struct Evaluation {
    pub(super) terms: Terms,
    /// The logits.
    pub(super) logits: TermId,
    /// Tokens the graph is made for, if it is made for so many only.
    pub(super) fixed_tokens: Option<usize>,
    /// Whether it takes keys and values of earlier tokens.
    pub(super) has_past: bool,
    /// Inputs that were taken to be what they must be here: mask, positions.
    pub(super) assumed: Vec<String>,
}

/// Evaluates `graph`, read from `path`.
pub(super) fn evaluate(
    graph: &Graph,
    path: &Path,
    sizes: Sizes,
    known: Option<&[f64]>,
) -> Result<Evaluation, OnnxError> {
    let mut evaluator = Evaluator {
        graph,
        path,
        known,
        terms: Terms::default(),
        values: HashMap::new(),
        makers: HashMap::new(),
        tokens: sizes.tokens,
        past: 0,
        assumed: Vec::new(),
    };
    let fixed_tokens = evaluator.bind(sizes)?;
    evaluator.run()?;
    let logits = evaluator.logits()?;
    Ok(Evaluation {
        terms: evaluator.terms,
        logits,
        fixed_tokens,
        has_past: evaluator.past > 0,
        assumed: evaluator.assumed,
    })
}

/// What an input of the graph is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Tokens,
    Mask,
    Positions,
    Past,
}

struct Evaluator<'g> {
    graph: &'g Graph,
    path: &'g Path,
    known: Option<&'g [f64]>,
    terms: Terms,
    values: HashMap<&'g str, Value>,
    /// The node that made each value.
    makers: HashMap<&'g str, usize>,
    tokens: usize,
    past: usize,
    assumed: Vec<String>,
}

impl<'g> Evaluator<'g> {
    fn refuse(&self, found: String, remedy: &str) -> OnnxError {
        OnnxError::Model {
            path: self.path.into(),
            found,
            remedy: remedy.into(),
        }
    }

    /// Gives every input a value; says how many tokens the graph is made for, if it says that.
    fn bind(&mut self, sizes: Sizes) -> Result<Option<usize>, OnnxError> {
        let mut roles = Vec::new();
        for port in &self.graph.inputs {
            roles.push((port, self.role(port)?));
        }
        let fixed = |role: Role, axis: usize| {
            let of_role = roles.iter().filter(|(_, found)| *found == role);
            of_role
                .filter_map(|(port, _)| port.shape.as_ref()?.get(axis).copied()?)
                .next()
        };
        let fixed_tokens = fixed(Role::Tokens, 1);
        let has_past = roles.iter().any(|(_, role)| *role == Role::Past);
        let past = if has_past { sizes.past } else { 0 };
        self.tokens = fixed_tokens.unwrap_or(sizes.tokens);
        self.past = fixed(Role::Past, 2).unwrap_or(past);
        if !(1..=MOST_FIXED).contains(&self.tokens) || self.past > MOST_FIXED {
            return Err(self.refuse(
                format!("it is made for {} tokens after {}", self.tokens, self.past),
                "export with dynamic numbers of tokens (dynamic_shapes), or at most 1024",
            ));
        }
        if !roles.iter().any(|(_, role)| *role == Role::Tokens) {
            return Err(self.refuse(
                "no input holds token ids".into(),
                "export with an INT64 input [batch, tokens]",
            ));
        }
        for (number, (port, role)) in roles.into_iter().enumerate() {
            let value = self.input(number, port, role)?;
            self.values.insert(&port.name, value);
        }
        Ok(fixed_tokens)
    }

    fn role(&self, port: &Port) -> Result<Role, OnnxError> {
        use super::graph::Format;
        let rank = port.shape.as_ref().map(Vec::len);
        let whole = matches!(port.format, Format::I64 | Format::I32);
        let called = |part: &str| port.name.to_lowercase().contains(part);
        match rank {
            Some(2) if (whole || port.format == Format::Bool) && called("mask") => Ok(Role::Mask),
            Some(1 | 2) if whole && called("position") => Ok(Role::Positions),
            Some(2) if whole => Ok(Role::Tokens),
            Some(4) if port.format.is_float() && !called("mask") => Ok(Role::Past),
            _ => Err(self.refuse(
                format!("its input `{}` is not understood", port.name),
                "inputs are token ids [batch, tokens], earlier keys and values [batch, heads, positions, head_dim], and \
                 attention_mask and position_ids [batch, …]",
            )),
        }
    }

    fn input(&mut self, number: usize, port: &Port, role: Role) -> Result<Value, OnnxError> {
        let (tokens, past) = (self.tokens, self.past);
        let shape = match (role, port.shape.as_deref()) {
            (Role::Tokens, _) => vec![1, tokens],
            (Role::Mask, _) => vec![1, past + tokens],
            (Role::Positions, Some([_])) => vec![tokens],
            (Role::Positions, _) => vec![1, tokens],
            (Role::Past, Some(&[_, Some(heads), _, Some(head_dim)])) if heads * head_dim > 0 => {
                vec![1, heads, past, head_dim]
            }
            (Role::Past, _) => {
                return Err(self.refuse(
                    format!("its input `{}` leaves heads or head_dim open", port.name),
                    "export with these two fixed",
                ));
            }
        };
        let given = port.shape.iter().flatten();
        if given
            .zip(&shape)
            .any(|(given, &bound)| given.is_some_and(|given| given != bound))
        {
            return Err(self.refuse(
                format!(
                    "its input `{}` has shape {:?}, which does not go with the others",
                    port.name, port.shape
                ),
                "export with batch 1 and one number of tokens",
            ));
        }
        let entry = |term, token: usize, feature: usize| Entry {
            term,
            token: token as u32,
            feature: feature as u32,
            factor: 1.0,
        };
        if matches!(role, Role::Mask | Role::Positions) {
            self.assumed.push(port.name.clone());
        }
        let bool_mask = port.format == super::graph::Format::Bool;
        let value = match role {
            Role::Tokens => {
                let term = self.terms.add(Term::Tokens, 1, 0);
                Array::from_fn(&shape, |index| entry(term, index[1], 0)).map(Value::act)
            }
            Role::Mask if bool_mask => Array::filled(&shape, true).map(Value::bool),
            Role::Mask => Array::filled(&shape, 1).map(Value::int),
            Role::Positions => {
                let position = |index: &[usize]| (past + index[index.len() - 1]) as i64;
                Array::from_fn(&shape, position).map(Value::int)
            }
            Role::Past => {
                let (heads, head_dim) = (shape[1], shape[3]);
                let term = self.terms.add(Term::Past(number), heads * head_dim, 0);
                let feature = |index: &[usize]| index[1] * head_dim + index[3];
                Array::from_fn(&shape, |index| entry(term, index[2], feature(index)))
                    .map(Value::act)
            }
        };
        value.ok_or_else(|| {
            self.refuse(
                format!("its input `{}` is too large", port.name),
                "export it smaller",
            )
        })
    }

    fn run(&mut self) -> Result<(), OnnxError> {
        let last_use = self.last_use();
        for (number, node) in self.graph.nodes.iter().enumerate() {
            let outputs = self
                .node(number)
                .map_err(|refusal| self.named(number, refusal))?;
            for (name, value) in node.outputs.iter().zip(outputs) {
                self.makers.insert(name, number);
                self.values.insert(name, value);
            }
            for name in &node.inputs {
                if last_use.get(name.as_str()) == Some(&number) {
                    self.values.remove(name.as_str());
                }
            }
        }
        Ok(())
    }

    /// The last node that reads each value; outputs are read by the caller.
    fn last_use(&self) -> HashMap<&'g str, usize> {
        let mut last = HashMap::new();
        for (number, node) in self.graph.nodes.iter().enumerate() {
            last.extend(node.inputs.iter().map(|name| (name.as_str(), number)));
        }
        for name in &self.graph.outputs {
            last.remove(name.as_str());
        }
        last
    }

    fn node(&mut self, number: usize) -> Step<Vec<Value>> {
        let node = &self.graph.nodes[number];
        let inputs = node.inputs.iter().map(|name| self.value(name));
        let call = Call {
            node,
            number,
            inputs: inputs.collect::<Step<_>>()?,
            path: self.path,
        };
        if matches!(node.op.as_str(), "Shape" | "Size") {
            return extents(&call).map(|value| vec![value]);
        }
        // Rows of a table that tokens choose are no constant place.
        let chosen = matches!(call.inputs.get(1), Some(Value::Act(_)));
        if !(node.op == "Gather" && chosen)
            && let Some(values) = moved(&call)?
        {
            return Ok(values);
        }
        if !call.is_active() {
            return fold(&call, self.past + self.tokens);
        }
        let makers = node
            .inputs
            .iter()
            .map(|name| self.makers.get(name.as_str()).copied())
            .collect();
        let mut rules = Rules {
            terms: &mut self.terms,
            past: self.past,
            known: self.known,
            makers,
        };
        rules.apply(&call)
    }

    fn value(&self, name: &str) -> Step<Value> {
        if name.is_empty() {
            return Ok(Value::Absent);
        }
        if let Some(value) = self.values.get(name) {
            return Ok(value.clone());
        }
        match self.graph.initializers.get(name) {
            Some(stored) => constant(stored, self.path),
            None => Err(Refusal::new(
                format!("its operand `{name}` is not defined before it, nor stored in the file"),
                "a value that an earlier node, an input or an initializer defines",
            )),
        }
    }

    /// A refusal with the node it is about.
    fn named(&self, number: usize, refusal: Refusal) -> OnnxError {
        if let Some(error) = refusal.error {
            return *error;
        }
        OnnxError::Node {
            path: self.path.into(),
            place: place(self.graph, refusal.blame.unwrap_or(number)).into(),
            found: refusal.found,
            expected: refusal.expected,
        }
    }

    /// The output that holds logits: the one of that name, or the first.
    fn logits(&self) -> Result<TermId, OnnxError> {
        let named = self.graph.outputs.iter().find(|name| *name == "logits");
        let Some(name) = named.or(self.graph.outputs.first()) else {
            return Err(self.refuse(
                "it has no outputs".into(),
                "export the model with its logits",
            ));
        };
        let rows = match self.values.get(name.as_str()) {
            Some(Value::Act(array)) => self.terms.rows(array),
            _ => None,
        };
        match rows {
            Some(rows) if attention::logits(&rows, self.tokens) => Ok(rows.term),
            _ => Err(self.refuse(
                format!("its output `{name}` does not hold the logits of the last token"),
                "export the model with logits as the first output",
            )),
        }
    }
}

/// A node's place, for errors.
pub(super) fn place(graph: &Graph, number: usize) -> Place {
    let node = graph.nodes.get(number);
    Place {
        name: node.map(|node| node.name.clone()).unwrap_or_default(),
        op: node.map(|node| node.op.clone()).unwrap_or_default(),
        number: number + 1,
        nodes: graph.nodes.len(),
        output: node
            .and_then(|node| node.outputs.first().cloned())
            .unwrap_or_default(),
    }
}

/// Shape and Size, of anything.
fn extents(call: &Call<'_>) -> Step<Value> {
    let shape = call.value(0)?.shape();
    if call.node.op == "Size" {
        return Ok(Value::int(Array::scalar(
            shape.iter().product::<usize>() as i64
        )));
    }
    let rank = shape.len() as i64;
    let place = |given: i64| {
        let from_front = if given < 0 {
            given.saturating_add(rank)
        } else {
            given
        };
        from_front.clamp(0, rank) as usize
    };
    let (start, end) = (
        place(call.int_attribute("start", 0)),
        place(call.int_attribute("end", rank)),
    );
    let list = shape.get(start..end).unwrap_or_default();
    Ok(Value::int(Array::vector(
        list.iter().map(|&n| n as i64).collect(),
    )))
}
