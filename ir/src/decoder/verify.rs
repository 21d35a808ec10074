//! What holds of a `decoder` stage. [`Decoder::verify`] reports every violation, each with the printed statement.
//!
//! Facts:
//! - sizes are positive, `heads` is a multiple of `kv_heads`, `head_dim` is even;
//! - `norm_eps` is finite and not negative; a rotary embedding's numbers are finite and positive, llama3's `high_freq_factor` is above
//!   its `low_freq_factor`;
//! - `bos` and `eos` are in the vocabulary.
//!
//! States:
//! - names are unique, sizes positive; every state is appended to exactly once, in `layer`, and attended to only after that.
//!
//! Templates:
//! - `embed` maps a token to `hidden` features, `layer` maps `hidden` to `hidden`, `final` maps `hidden` to `vocab` and its
//!   result is a `linear`'s: the head;
//! - every value is defined once and before it is read; the result is defined;
//! - every statement has a site, and a type that its operation and operands give:
//!   - `embed` and `position` read a token and give any width; everything else reads vectors;
//!   - `linear` gives any width; norms and activations keep it; `mul`, `add` need two equal ones and keep it;
//!   - `rope` needs a multiple of an even `head_dim`, and keeps it;
//!   - `kv_append` needs the state's kv_heads · head_dim, twice;
//!   - `attend` needs heads · head_dim with `heads` a multiple of the state's `kv_heads`, and keeps it;
//! - `rope` stands only where `positions` are rotary, `position` only where they are learned;
//! - `eps` is finite and not negative, `scale` finite;
//! - tensor names and sites in `layer` contain `{i}`, elsewhere they do not; tensor names are not empty.
//!
//! Tying: with `tied`, the head's weight is the embedding's; without, it is another.

use super::{Decoder, Inst, ModelFacts, Op, Positions, RopeScaling, State, Template, Type, Value};
use crate::{Violation, Violations};
use std::collections::{BTreeMap, BTreeSet};

impl Decoder {
    /// Checks everything the module documentation lists.
    pub fn verify(&self) -> Result<(), Violations> {
        let mut violations = Vec::new();
        facts(&self.model, &mut violations);
        states(&self.states, &mut violations);
        let hidden = Type::Vector(self.model.hidden);
        let logits = Type::Vector(self.model.vocab);
        for (name, template, from, to) in [
            ("embed", &self.embed, Type::Token, hidden),
            ("layer", &self.layer, hidden, hidden),
            ("final", &self.final_, hidden, logits),
        ] {
            Check {
                decoder: self,
                name,
                template,
                types: BTreeMap::new(),
                appended: BTreeSet::new(),
                violations: &mut violations,
            }
            .template(from, to);
        }
        self.head(&mut violations);
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Violations {
                subject: "the decoder stage",
                list: violations,
            })
        }
    }

    fn head(&self, violations: &mut Vec<Violation>) {
        let head = self.final_.definition(self.final_.result);
        let Some(Inst {
            op: Op::Linear { weight, .. },
            ..
        }) = head
        else {
            violations.push(violation(
                "final",
                head,
                "the result is not a linear's, so there is no head",
            ));
            return;
        };
        let mut embeddings = self.embed.insts.iter().filter_map(|inst| match &inst.op {
            Op::Embed { weight, .. } => Some(weight),
            _ => None,
        });
        if embeddings.any(|embedding| embedding == weight) != self.model.tied {
            let message = if self.model.tied {
                "the model is tied, but the head's weight is not the embedding's"
            } else {
                "the model is untied, but the head's weight is the embedding's"
            };
            violations.push(violation("final", head, message));
        }
    }
}

fn violation(place: &str, statement: Option<&Inst>, message: impl Into<String>) -> Violation {
    Violation {
        place: place.into(),
        statement: statement.map(Inst::to_string),
        message: message.into(),
    }
}

fn facts(model: &ModelFacts, violations: &mut Vec<Violation>) {
    let mut require = |holds: bool, message: &str| {
        if !holds {
            violations.push(violation("model", None, message));
        }
    };
    let sizes = [
        ("hidden", model.hidden),
        ("layers", model.layers),
        ("heads", model.heads),
        ("kv_heads", model.kv_heads),
        ("head_dim", model.head_dim),
        ("intermediate", model.intermediate),
        ("vocab", model.vocab),
        ("max_positions", model.max_positions),
    ];
    for (name, size) in sizes {
        require(size > 0, &format!("{name} is 0"));
    }
    let (heads, kv_heads) = (model.heads, model.kv_heads);
    require(
        grouped(heads, kv_heads),
        &format!("heads = {heads} is not a multiple of kv_heads = {kv_heads}"),
    );
    require(
        model.head_dim.is_multiple_of(2),
        &format!("head_dim = {} is odd", model.head_dim),
    );
    require(
        not_negative(model.norm_eps),
        &format!("norm_eps = {} is not a number ≥ 0", model.norm_eps),
    );
    if let Positions::Rotary(rope) = &model.positions {
        require(
            positive(rope.theta),
            &format!("rope theta = {} is not a number > 0", rope.theta),
        );
        require(
            scaling(&rope.scaling),
            &format!("rope, {rope}: a number is not > 0, or the factors are not in order"),
        );
    }
    for &token in model.bos.iter().chain(&model.eos) {
        require(
            (token as usize) < model.vocab,
            &format!("token {token} is not in the vocabulary of {}", model.vocab),
        );
    }
}

fn grouped(heads: usize, kv_heads: usize) -> bool {
    kv_heads > 0 && heads.is_multiple_of(kv_heads)
}

fn positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

fn not_negative(x: f64) -> bool {
    x.is_finite() && x >= 0.0
}

fn scaling(scaling: &RopeScaling) -> bool {
    match *scaling {
        RopeScaling::None => true,
        RopeScaling::Linear { factor } => positive(factor),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => {
            [factor, low_freq_factor, high_freq_factor]
                .into_iter()
                .all(positive)
                && low_freq_factor < high_freq_factor
                && original_max_positions > 0
        }
    }
}

fn states(states: &[State], violations: &mut Vec<Violation>) {
    let mut names = BTreeSet::new();
    for state in states {
        if !names.insert(&state.name) {
            violations.push(violation(
                "state",
                None,
                format!("{state}: the name is taken"),
            ));
        }
        if state.kv_heads == 0 || state.head_dim == 0 {
            violations.push(violation("state", None, format!("{state}: a size is 0")));
        }
    }
}

/// One template's check.
struct Check<'c> {
    decoder: &'c Decoder,
    name: &'static str,
    template: &'c Template,
    /// Values defined so far.
    types: BTreeMap<Value, Type>,
    /// States appended to so far.
    appended: BTreeSet<&'c str>,
    violations: &'c mut Vec<Violation>,
}

impl<'c> Check<'c> {
    fn fail(&mut self, inst: Option<&Inst>, message: impl Into<String>) {
        self.violations.push(violation(self.name, inst, message));
    }

    fn template(mut self, from: Type, to: Type) {
        let (param, ty) = self.template.param;
        if ty != from {
            self.fail(
                None,
                format!("the argument is a {ty}, the model needs a {from}"),
            );
        }
        self.types.insert(param, ty);
        for inst in &self.template.insts {
            self.inst(inst);
        }
        let result = self.template.result;
        match self.types.get(&result) {
            None => self.fail(None, format!("the result {result} is not defined")),
            Some(&ty) if ty != to => self.fail(
                None,
                format!("the result {result} is a {ty}, the model needs a {to}"),
            ),
            Some(_) => {}
        }
        let unused = self
            .decoder
            .states
            .iter()
            .filter(|state| !self.appended.contains(state.name.as_str()));
        if self.name == "layer" {
            let unused: Vec<_> = unused
                .map(|state| format!("nothing is appended to {state}"))
                .collect();
            unused
                .into_iter()
                .for_each(|message| self.fail(None, message));
        }
    }

    fn inst(&mut self, inst: &'c Inst) {
        self.names(inst);
        let operands: Option<Vec<Type>> = inst
            .op
            .operands()
            .into_iter()
            .map(|value| self.types.get(&value).copied())
            .collect();
        match operands {
            None => {
                let missing = inst
                    .op
                    .operands()
                    .into_iter()
                    .filter(|value| !self.types.contains_key(value));
                let missing: Vec<_> = missing.map(|value| value.to_string()).collect();
                self.fail(
                    Some(inst),
                    format!("{} is read before it is defined", missing.join(" and ")),
                );
            }
            Some(operands) => {
                if let Err(message) = self.types_of(inst, &operands) {
                    self.fail(Some(inst), message);
                }
            }
        }
        if let Some((value, ty)) = inst.result
            && self.types.insert(value, ty).is_some()
        {
            self.fail(Some(inst), format!("{value} is defined twice"));
        }
    }

    fn names(&mut self, inst: &Inst) {
        let rolled = self.name == "layer";
        let names = inst.op.tensors().into_iter().chain([inst.site.as_str()]);
        let empty = names.clone().any(str::is_empty);
        let wrong = names.filter(|name| !name.is_empty() && name.contains("{i}") != rolled);
        let wrong: Vec<_> = wrong.map(String::from).collect();
        if empty {
            self.fail(Some(inst), "a tensor name or the site is empty");
        }
        if inst.site.chars().any(char::is_whitespace) {
            self.fail(Some(inst), "the site contains a blank");
        }
        for name in wrong {
            let message = if rolled {
                "does not name its layer as {i}"
            } else {
                "names a layer outside of one"
            };
            self.fail(Some(inst), format!("`{name}` {message}"));
        }
    }

    fn state(&self, name: &str) -> Result<&'c State, String> {
        let state = self.decoder.states.iter().find(|state| state.name == name);
        state.ok_or_else(|| format!("no state \"{name}\" is declared"))
    }

    /// Checks operand types against the operation, and the result's type against both.
    fn types_of(&mut self, inst: &'c Inst, operands: &[Type]) -> Result<(), String> {
        let op = &inst.op;
        let expected = match op {
            Op::Embed { .. } | Op::Position { .. } => {
                self.positions(op)?;
                if operands[0] != Type::Token {
                    return Err(format!("the operand is a {}, not a token", operands[0]));
                }
                None
            }
            _ => {
                let widths: Option<Vec<usize>> = operands.iter().map(|ty| width(*ty)).collect();
                let widths = widths.ok_or("an operand is a token, not a vector")?;
                self.positions(op)?;
                self.widths(op, &widths)?
            }
        };
        match (inst.result, op) {
            (None, Op::KvAppend { .. }) => Ok(()),
            (Some(_), Op::KvAppend { .. }) => Err("kv_append has no result".into()),
            (None, _) => Err("the result is missing".into()),
            (Some((_, ty)), _) => match (width(ty), expected) {
                (None | Some(0), _) => Err(format!("the result is a {ty}, not a vector")),
                (Some(found), Some(expected)) if found != expected => Err(format!(
                    "the result is a {ty}, its operands give a [{expected}]"
                )),
                _ => Ok(()),
            },
        }
    }

    /// Checks that an operation knows positions the way the model does.
    fn positions(&self, op: &Op) -> Result<(), String> {
        let learned = self.decoder.model.positions == Positions::Learned;
        match op {
            Op::Position { .. } => require(learned, || "the model's positions are rotary".into()),
            Op::Rope { .. } => require(!learned, || "the model's positions are learned".into()),
            _ => Ok(()),
        }
    }

    /// Checks the operands' widths; the result's width, if they determine it.
    fn widths(&mut self, op: &'c Op, widths: &[usize]) -> Result<Option<usize>, String> {
        let first = widths[0];
        match op {
            Op::Embed { .. } | Op::Position { .. } | Op::Linear { .. } => return Ok(None),
            Op::Activate { .. } => {}
            Op::RmsNorm { eps, .. } | Op::LayerNorm { eps, .. } => {
                require(not_negative(*eps), || {
                    format!("eps = {eps} is not a number ≥ 0")
                })?
            }
            Op::Mul { .. } | Op::Add { .. } => require(first == widths[1], || {
                format!("the widths {first} and {} differ", widths[1])
            })?,
            Op::Rope { head_dim, .. } => {
                let even = *head_dim > 0 && head_dim.is_multiple_of(2);
                require(even && first.is_multiple_of(*head_dim), || {
                    format!("width {first} is not made of heads of an even {head_dim}")
                })?;
            }
            Op::KvAppend { state: name, .. } => {
                let state = self.state(name)?;
                let needed = state.kv_heads * state.head_dim;
                require(self.name == "layer", || "state belongs to layers".into())?;
                require(widths.iter().all(|&width| width == needed), || {
                    format!("the widths {widths:?} are not both {needed}: {state}")
                })?;
                require(self.appended.insert(name), || {
                    format!("\"{name}\" is appended to twice")
                })?;
            }
            Op::Attend {
                state: name,
                heads,
                scale,
                ..
            } => {
                let state = self.state(name)?;
                require(self.appended.contains(name.as_str()), || {
                    format!("\"{name}\" is attended to before this token is in it")
                })?;
                require(*heads > 0 && grouped(*heads, state.kv_heads), || {
                    format!("heads = {heads} is not a multiple of kv_heads: {state}")
                })?;
                require(first == heads * state.head_dim, || {
                    format!("width {first} is not {heads} heads: {state}")
                })?;
                require(scale.is_finite(), || {
                    format!("scale = {scale} is not finite")
                })?;
            }
        }
        Ok(Some(first))
    }
}

fn require(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}

fn width(ty: Type) -> Option<usize> {
    match ty {
        Type::Token => None,
        Type::Vector(width) => Some(width),
    }
}
