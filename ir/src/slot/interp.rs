//! The meaning of slot programs: interpretation on cleartext slot vectors.
//!
//! Every operation does what its documentation says, in float64; [`Op::Rescale`] and [`Op::Drop`] change nothing, and
//! [`Op::Bootstrap`] of a real kind forgets imaginary parts. So both stages can be run and compared value by value.
//!
//! A run takes one token, or as many as the program's block holds, at [`Session::position`] through the program's steps in order,
//! then advances the position. A run that fails leaves the session as it was.

use super::{
    Binding, DataError, DataSource, Layout, MatrixId, Op, Program, Slots, Stage, StateId, Template,
    ValueId, ValueType, apply, current_steps,
};
use miette::Diagnostic;
use num_complex::Complex64;
use std::collections::{BTreeMap, HashMap};

/// One computed value, as an observer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Template that computes it.
    pub template: &'a str,
    /// Site of its node; for a template's parameter, `param`.
    pub site: &'a str,
    /// The layer.
    pub layer: u32,
    /// The KV group, inside a group template.
    pub group: Option<u32>,
    /// Identity inside the template.
    pub value: ValueId,
    /// Declared type.
    pub ty: &'a ValueType,
    /// Content.
    pub slots: &'a Slots,
}

/// The KV cache of one conversation.
#[derive(Clone, Debug, Default)]
pub struct Session {
    position: u32,
    groups: BTreeMap<(StateId, u32), Vec<Slots>>,
}

impl Session {
    /// Tokens cached so far, and so the index of the next token.
    pub fn position(&self) -> u32 {
        self.position
    }

    /// The ciphertexts of a state in a layer, group by group.
    pub fn groups(&self, state: StateId, layer: u32) -> &[Slots] {
        self.groups
            .get(&(state, layer))
            .map_or(&[], |groups| &groups[..])
    }
}

/// Why interpretation stopped.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum InterpError {
    /// Data could not be resolved.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// The KV state is full.
    #[error("the program holds {capacity} tokens and all are used; compile with a larger context")]
    #[diagnostic(code(interpret_slots::capacity))]
    Capacity {
        /// Tokens the program holds.
        capacity: u32,
    },
    /// The program breaks a rule that its verifier states.
    #[error("template `{template}` at `{site}`: {what}; verify the program")]
    #[diagnostic(code(interpret_slots::malformed))]
    Malformed {
        /// Where.
        template: String,
        /// Where.
        site: String,
        /// Which rule.
        what: String,
    },
}

/// Runs a slot program in the clear.
pub struct Interpreter<'p, S: Stage> {
    program: &'p Program<S>,
    data: &'p dyn DataSource,
}

impl<'p, S: Stage> Interpreter<'p, S> {
    /// An interpreter of `program` that resolves data from `data`.
    pub fn new(program: &'p Program<S>, data: &'p dyn DataSource) -> Self {
        Self { program, data }
    }

    /// One run for one token: the client's values in, the last step's results out; `observe` sees every value once, in order, and of a
    /// matrix every diagonal.
    pub fn decode(
        &self,
        session: &mut Session,
        inputs: Vec<Slots>,
        observe: &mut dyn FnMut(&Seen<'_>),
    ) -> Result<Vec<Slots>, InterpError> {
        self.run(session, inputs, 1, observe)
    }

    /// One run for `count` tokens, of at most the program's block.
    pub fn run(
        &self,
        session: &mut Session,
        inputs: Vec<Slots>,
        count: u32,
        observe: &mut dyn FnMut(&Seen<'_>),
    ) -> Result<Vec<Slots>, InterpError> {
        let Program {
            capacity, block, ..
        } = *self.program;
        if count > capacity.saturating_sub(session.position) {
            return Err(InterpError::Capacity { capacity });
        }
        if !(1..=block).contains(&count) || !session.position.is_multiple_of(block) {
            let at = session.position;
            let what = format!("{count} tokens at position {at} are no block of {block}");
            return Err(malformed("", "", what));
        }
        let mut next = session.clone();
        let mut values = inputs;
        for step in &self.program.steps {
            for layer in step.first..step.first + step.count {
                let at = Binding {
                    layer,
                    position: session.position,
                    count,
                    group: None,
                };
                let mut run = Run {
                    interpreter: self,
                    session: &mut next,
                    observe,
                    at,
                };
                let inputs = values.into_iter().map(Held::One).collect();
                values = run.template(step.template, inputs)?;
            }
        }
        next.position += count;
        *session = next;
        Ok(values)
    }
}

/// A value in a run.
#[derive(Clone)]
enum Held {
    One(Slots),
    /// The diagonals of a matrix.
    Matrix(Vec<Slots>),
}

/// One run of one template.
struct Run<'a, 'p, S: Stage> {
    interpreter: &'a Interpreter<'p, S>,
    session: &'a mut Session,
    observe: &'a mut dyn FnMut(&Seen<'_>),
    at: Binding,
}

impl<S: Stage> Run<'_, '_, S> {
    fn template(&mut self, index: usize, inputs: Vec<Held>) -> Result<Vec<Slots>, InterpError> {
        let program = self.interpreter.program;
        let template = program.templates.get(index).ok_or_else(|| {
            malformed(
                "",
                "",
                format!("a step names template {index}, which is not there"),
            )
        })?;
        if inputs.len() != template.params.len() {
            let (want, got) = (template.params.len(), inputs.len());
            return Err(malformed(
                &template.name,
                "param",
                format!("{want} parameters, {got} values"),
            ));
        }
        let last_use = last_uses(template);
        let mut values = HashMap::new();
        for (param, held) in template.params.iter().zip(inputs) {
            let seen = match &held {
                Held::One(slots) => std::slice::from_ref(slots),
                Held::Matrix(diagonals) => diagonals,
            };
            for slots in seen {
                self.show(template, "param", param.value, &param.ty, slots);
            }
            values.insert(param.value, held);
        }
        for (i, node) in template.nodes.iter().enumerate() {
            let wrong = |what: String| malformed(&template.name, &node.site, what);
            let results = self.op(&node.op, &values, &wrong)?;
            if results.len() != node.results.len() {
                return Err(wrong(format!("{} results", results.len())));
            }
            for ((&value, slots), ty) in node.results.iter().zip(results).zip(&node.types) {
                self.show(template, &node.site, value, ty, &slots);
                values.insert(value, Held::One(slots));
            }
            for operand in node.op.operands() {
                if last_use.get(operand) == Some(&i) {
                    values.remove(operand);
                }
            }
        }
        let result = |value| {
            let missing = || malformed(&template.name, "results", format!("no value {value:?}"));
            match values.get(value) {
                Some(Held::One(slots)) => Ok(slots.clone()),
                _ => Err(missing()),
            }
        };
        template.results.iter().map(result).collect()
    }

    fn show(
        &mut self,
        template: &Template<S>,
        site: &str,
        value: ValueId,
        ty: &ValueType,
        slots: &Slots,
    ) {
        (self.observe)(&Seen {
            template: &template.name,
            site,
            layer: self.at.layer,
            group: self.at.group,
            value,
            ty,
            slots,
        });
    }

    fn op(
        &mut self,
        op: &Op<ValueId>,
        values: &HashMap<ValueId, Held>,
        wrong: &dyn Fn(String) -> InterpError,
    ) -> Result<Vec<Slots>, InterpError> {
        let get = |v: &ValueId| match values.get(v) {
            Some(Held::One(slots)) => Ok(slots),
            Some(Held::Matrix(_)) => Err(wrong(format!("%{} is a matrix", v.0))),
            None => Err(wrong(format!("%{} is not defined", v.0))),
        };
        let one = match op {
            Op::Rotate { v, by } => get(v)?.rotate(*by),
            Op::Conjugate { v } => get(v)?.map(|x| x.conj()),
            Op::MulI { v } => get(v)?.map(|x| Complex64::new(-x.im, x.re)),
            Op::Add { a, b } => get(a)?.zip(get(b)?, |a, b| a + b),
            Op::Sub { a, b } => get(a)?.zip(get(b)?, |a, b| a - b),
            Op::Neg { v } => get(v)?.map(|x| -x),
            Op::AddPlain { v, plain } => get(v)?.zip(&self.plain(plain.0, wrong)?, |a, b| a + b.re),
            Op::MulPlain { v, plain } => get(v)?.zip(&self.plain(plain.0, wrong)?, |a, b| a * b.re),
            Op::AddConst { v, c } => get(v)?.map(|x| x + c),
            Op::MulConst { v, c } => get(v)?.map(|x| x * c),
            Op::Mul { a, b } => get(a)?.zip(get(b)?, |a, b| a * b),
            Op::Fold { v, step, count } => get(v)?.fold(*step, *count),
            Op::FoldCurrent { v, count } => {
                let turn = |sum: Slots, by| sum.zip(&sum.rotate(by), |a, b| a + b);
                current_steps(self.at.position, *count).fold(get(v)?.clone(), turn)
            }
            Op::Linear { v, matrix } => self.linear(get(v)?, *matrix, wrong)?,
            Op::Apply {
                matrix,
                v,
                step,
                baby,
                ..
            } => match values.get(matrix) {
                Some(Held::Matrix(diagonals)) => apply(diagonals, get(v)?, *baby, *step),
                _ => return Err(wrong(format!("%{} is no matrix", matrix.0))),
            },
            Op::Poly { v, poly } => {
                let poly = self.interpreter.program.polys.get(poly.0 as usize);
                let poly = poly.ok_or_else(|| wrong("no such polynomial".into()))?;
                get(v)?.chebyshev(&poly.coefficients)
            }
            Op::Append { state, v } => {
                let v = get(v)?.clone();
                self.append(*state, v, wrong)?;
                return Ok(Vec::new());
            }
            Op::SumGroups {
                template,
                states,
                args,
            } => {
                let args = args.iter().map(|v| get(v).cloned());
                let args = args.collect::<Result<Vec<_>, _>>()?;
                return self.sum_groups(*template, states, &args, wrong);
            }
            Op::Rescale { v } | Op::Drop { v, .. } => get(v)?.clone(),
            Op::Bootstrap { v, kind } if kind.complex => get(v)?.clone(),
            Op::Bootstrap { v, .. } => get(v)?.map(|x| x.re.into()),
        };
        Ok(vec![one])
    }

    fn plain(&self, id: u32, wrong: &dyn Fn(String) -> InterpError) -> Result<Slots, InterpError> {
        let Interpreter { program, data } = self.interpreter;
        let plain = program.plains.get(id as usize);
        let plain = plain.ok_or_else(|| wrong(format!("no plaintext {id}")))?;
        let values = program.tables().plain(*data, plain, self.at)?;
        let length = values.len();
        Slots::real(&values).ok_or_else(|| {
            wrong(format!(
                "plaintext `{}` has {length} slots, not a power of two",
                plain.name
            ))
        })
    }

    fn linear(
        &self,
        v: &Slots,
        matrix: MatrixId,
        wrong: &dyn Fn(String) -> InterpError,
    ) -> Result<Slots, InterpError> {
        let Interpreter { program, data } = self.interpreter;
        let matrix = program.matrices.get(matrix.0 as usize);
        let matrix = matrix.ok_or_else(|| wrong("no such matrix".into()))?;
        let entries = program.tables().entries(*data, matrix, self.at.layer)?;
        let step = matrix.step();
        let slot = |p: usize| {
            let term = |k| entries.at(p as u32, k) * v.at(p + (k * step) as usize);
            (0..matrix.diagonals()).map(term).sum()
        };
        let period = v.period().max(matrix.period() as usize);
        Slots::new((0..period).map(slot).collect())
            .ok_or_else(|| wrong(format!("matrix `{}` is not a power of two", matrix.name)))
    }

    fn append(
        &mut self,
        state: StateId,
        v: Slots,
        wrong: &dyn Fn(String) -> InterpError,
    ) -> Result<(), InterpError> {
        let tables = self.interpreter.program.tables();
        let tokens = tables.tokens(state);
        let tokens = tokens.ok_or_else(|| wrong(format!("state {} holds no tokens", state.0)))?;
        let layout = &tables.states[state.0 as usize].ty.layout;
        let current = (self.at.position / tokens * layout.ciphertexts()) as usize;
        let groups = self.session.groups.entry((state, self.at.layer));
        let groups = groups.or_default();
        if let Layout::Matrix(matrix) = layout {
            if !matrix.fits(tables.slots) {
                return Err(wrong(format!("`{layout}` is no matrix")));
            }
            let count = matrix.ciphertexts() as usize;
            if groups.len() == current {
                groups.resize(current + count, Slots::splat(Complex64::ZERO));
            }
            let group = groups.get_mut(current..current + count);
            let group = group.ok_or_else(|| wrong("a group was never opened".into()))?;
            matrix.append(group, &v, self.at.position);
            return Ok(());
        }
        match groups.len().cmp(&current) {
            std::cmp::Ordering::Equal => groups.push(v),
            std::cmp::Ordering::Greater => groups[current] = groups[current].zip(&v, |a, b| a + b),
            std::cmp::Ordering::Less => return Err(wrong("a group was never opened".into())),
        }
        Ok(())
    }

    fn sum_groups(
        &mut self,
        template: usize,
        states: &[StateId],
        args: &[Slots],
        wrong: &dyn Fn(String) -> InterpError,
    ) -> Result<Vec<Slots>, InterpError> {
        if self.at.group.is_some() {
            return Err(wrong("a group template loops over groups".into()));
        }
        let layer = self.at.layer;
        let tables = self.interpreter.program.tables();
        let each = |state: &StateId| tables.ciphertexts(*state);
        let count = |state: &StateId| self.session.groups(*state, layer).len() / each(state);
        let groups = states.first().map_or(0, count);
        if groups == 0 || states.iter().any(|s| count(s) != groups) {
            return Err(wrong("states with no or unequal numbers of groups".into()));
        }
        let mut sums: Option<Vec<Slots>> = None;
        for group in 0..groups {
            self.at.group = Some(group as u32);
            let stored = states.iter().map(|s| {
                let (each, groups) = (each(s), self.session.groups(*s, layer));
                match &groups[group * each..(group + 1) * each] {
                    [one] => Held::One(one.clone()),
                    several => Held::Matrix(several.to_vec()),
                }
            });
            let args = args.iter().cloned().map(Held::One);
            let inputs = args.chain(stored).collect();
            let terms = self.template(template, inputs)?;
            sums = Some(match sums {
                None => terms,
                Some(sums) => {
                    let pairs = sums.iter().zip(&terms);
                    pairs.map(|(a, b)| a.zip(b, |a, b| a + b)).collect()
                }
            });
        }
        self.at.group = None;
        Ok(sums.unwrap_or_default())
    }
}

/// The last node that reads each value; values the template returns are not in the map.
fn last_uses<S: Stage>(template: &Template<S>) -> HashMap<ValueId, usize> {
    let mut last = HashMap::new();
    for (i, node) in template.nodes.iter().enumerate() {
        for operand in node.op.operands() {
            last.insert(*operand, i);
        }
    }
    for result in &template.results {
        last.remove(result);
    }
    last
}

fn malformed(template: &str, site: &str, what: String) -> InterpError {
    InterpError::Malformed {
        template: template.into(),
        site: site.into(),
        what,
    }
}
