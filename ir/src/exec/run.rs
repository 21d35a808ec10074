//! One run of a program in progress.

use super::Backend;
use super::cache::{Cache, Source, TokenCache};
use super::executor::ExecError;
use super::session::Pending;
use crate::plan::{Buf, Instr, PlanProgram, PlanTemplate};
use crate::slot::{At, Binding, Layout, Op, StateId, TokenMatrix, current_steps};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An instruction as an observer sees it, before and after it runs.
#[derive(Debug)]
pub struct Event<'a, Ct> {
    /// Name of the template.
    pub template: &'a str,
    /// Index of the instruction in it.
    pub index: usize,
    /// The instruction.
    pub instr: &'a Instr,
    /// Layer.
    pub layer: u32,
    /// KV group, inside a group template.
    pub group: Option<u32>,
    /// Before or after.
    pub moment: Moment<'a, Ct>,
}

/// When an event happens.
#[derive(Debug)]
pub enum Moment<'a, Ct> {
    /// The instruction is about to run.
    Before,
    /// It has run.
    After {
        /// Time it took, encoding of its plaintext included; for a loop over groups, all of its body.
        elapsed: Duration,
        /// What it computed.
        results: &'a [Ct],
    },
}

impl<Ct> Event<'_, Ct> {
    /// The site with the layer's number in place of `{i}`.
    pub fn site(&self) -> String {
        self.instr.site.replace("{i}", &self.layer.to_string())
    }
}

pub(super) struct Run<'a, B: Backend> {
    pub(super) program: &'a PlanProgram,
    pub(super) source: Source<'a, B>,
    pub(super) cache: &'a Cache<B>,
    pub(super) token: TokenCache<B>,
    pub(super) pending: Pending<'a, B::Stored>,
    pub(super) position: u32,
    /// Current tokens.
    pub(super) count: u32,
    pub(super) observe: &'a mut dyn FnMut(&Event<'_, B::Ct>) -> ControlFlow<()>,
}

/// A value of a run: one ciphertext, or the diagonals of a matrix.
#[derive(Clone)]
enum Held<Ct> {
    One(Arc<Ct>),
    Matrix(Vec<Arc<Ct>>),
}

type Fallible<B, T> = Result<T, ExecError<<B as Backend>::Error>>;

impl<'a, B: Backend> Run<'a, B> {
    /// Run a template of the program's steps for one layer.
    pub(super) fn step(
        &mut self,
        template: usize,
        layer: u32,
        inputs: Vec<B::Ct>,
    ) -> Fallible<B, Vec<B::Ct>> {
        let binding = Binding {
            layer,
            position: self.position,
            count: self.count,
            group: None,
        };
        let inputs = inputs.into_iter().map(|ct| Held::One(Arc::new(ct)));
        self.template(template, binding, inputs.collect())
    }

    fn template(
        &mut self,
        index: usize,
        binding: Binding,
        inputs: Vec<Held<B::Ct>>,
    ) -> Fallible<B, Vec<B::Ct>> {
        let program = self.program;
        let template = program.templates.get(index);
        let template = template.ok_or_else(|| ExecError::Plan(format!("no template {index}")))?;
        let mut buffers = self.enter(template, binding, inputs)?;
        for (index, instr) in template.instrs.iter().enumerate() {
            let place = Place {
                template,
                index,
                instr,
                binding,
            };
            self.tell(&place, Moment::Before)?;
            let start = Instant::now();
            let results = self.instr(&place, &buffers)?;
            self.check(&place, &results)?;
            let elapsed = start.elapsed();
            let results_seen = Moment::After {
                elapsed,
                results: &results,
            };
            self.tell(&place, results_seen)?;
            for (buf, ct) in instr.dst.iter().zip(results) {
                buffers.put(*buf, Held::One(Arc::new(ct)));
            }
            for buf in &instr.free {
                buffers.drop(*buf)?;
            }
        }
        let mut results = Vec::new();
        for (i, buf) in template.results.iter().enumerate() {
            // The same value may be returned twice.
            let again = template.results[i + 1..].contains(buf);
            results.push(if again {
                buffers.get(*buf)?.clone()
            } else {
                buffers.take(*buf)?
            });
        }
        Ok(results)
    }

    fn enter(
        &self,
        template: &PlanTemplate,
        binding: Binding,
        inputs: Vec<Held<B::Ct>>,
    ) -> Fallible<B, Buffers<B::Ct>> {
        let (expected, found) = (template.params.len(), inputs.len());
        if expected != found {
            return Err(ExecError::Inputs { expected, found });
        }
        let mut buffers = Buffers {
            template: template.name.clone(),
            values: BTreeMap::new(),
        };
        for ((buf, expected, _), held) in template.params.iter().zip(inputs) {
            let parts = match &held {
                Held::One(ct) => std::slice::from_ref(ct),
                Held::Matrix(diagonals) => diagonals,
            };
            let found = parts.iter().map(|ct| self.source.backend.at(ct));
            if let Some(found) = found.into_iter().find(|found| found != expected) {
                return Err(ExecError::At {
                    site: template.name.clone(),
                    layer: binding.layer,
                    what: "a parameter",
                    expected: *expected,
                    found,
                });
            }
            buffers.put(*buf, held);
        }
        Ok(buffers)
    }

    fn tell(&mut self, place: &Place<'_>, moment: Moment<'_, B::Ct>) -> Fallible<B, ()> {
        let event = Event {
            template: &place.template.name,
            index: place.index,
            instr: place.instr,
            layer: place.binding.layer,
            group: place.binding.group,
            moment,
        };
        match (self.observe)(&event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ExecError::Stopped {
                site: place.instr.site.clone(),
                layer: place.binding.layer,
            }),
        }
    }

    fn check(&self, place: &Place<'_>, results: &[B::Ct]) -> Fallible<B, ()> {
        let Instr { dst, at, types, .. } = place.instr;
        let counts = [dst.len(), at.len(), types.len()];
        if counts != [results.len(); 3] {
            return Err(place.plan_error("its number of results"));
        }
        for (ct, expected) in results.iter().zip(at) {
            let found = self.source.backend.at(ct);
            if found != *expected {
                return Err(place.at_error("the result", *expected, found));
            }
        }
        Ok(())
    }

    fn instr(&mut self, place: &Place<'_>, buffers: &Buffers<B::Ct>) -> Fallible<B, Vec<B::Ct>> {
        let binding = place.binding;
        let op = &place.instr.op;
        let backend = self.source.backend;
        let get = |buf: &Buf| buffers.get(*buf);
        let result = match op {
            Op::Rotate { v, by } => backend.rotate(get(v)?, *by),
            Op::Conjugate { v } => backend.conjugate(get(v)?),
            Op::MulI { v } => backend.mul_i(get(v)?),
            Op::Add { a, b } => backend.add(get(a)?, get(b)?),
            Op::Sub { a, b } => backend.sub(get(a)?, get(b)?),
            Op::Neg { v } => backend.neg(get(v)?),
            Op::AddPlain { v, plain } => {
                let v = get(v)?;
                let at = backend.at(v);
                let plain = self
                    .cache
                    .plain(&self.source, *plain, at, binding, &mut self.token)?;
                backend.add_plain(v, &plain)
            }
            Op::MulPlain { v, plain } => {
                let v = get(v)?;
                let level = backend.at(v).level;
                let at = At { level, degree: 1 };
                let plain = self
                    .cache
                    .plain(&self.source, *plain, at, binding, &mut self.token)?;
                backend.mul_plain(v, &plain)
            }
            Op::AddConst { v, c } => backend.add_const(get(v)?, *c),
            Op::MulConst { v, c } => backend.mul_const(get(v)?, *c),
            Op::Mul { a, b } => backend.mul(get(a)?, get(b)?),
            Op::Fold { v, step, count } => backend.fold(get(v)?, *step, *count),
            Op::FoldCurrent { v, count } => {
                let steps = current_steps(binding.position, *count);
                backend.sum_turned(get(v)?, steps)
            }
            Op::Linear { v, matrix } => {
                let v = get(v)?;
                let level = backend.at(v).level;
                let matrix = self
                    .cache
                    .matrix(&self.source, *matrix, level, binding.layer)?;
                backend.linear(v, &matrix)
            }
            Op::Apply {
                matrix,
                v,
                step,
                baby,
                ..
            } => backend.apply(buffers.matrix(*matrix)?, get(v)?, *baby, *step),
            Op::Poly { v, poly } => {
                let poly = self.program.polys.get(poly.0 as usize);
                let poly = poly.ok_or_else(|| place.plan_error("its polynomial"))?;
                backend.poly(get(v)?, &poly.coefficients)
            }
            Op::Append { state, v } => {
                self.append(place, *state, get(v)?)?;
                return Ok(Vec::new());
            }
            Op::SumGroups {
                template,
                states,
                args,
            } => {
                let args: Result<Vec<_>, _> = args.iter().map(|buf| buffers.held(*buf)).collect();
                return self.sum_groups(place, *template, states, &args?);
            }
            Op::Rescale { v } => backend.rescale(get(v)?),
            Op::Drop { v, level } => backend.drop_to(get(v)?, *level),
            Op::Bootstrap { v, kind } => backend.bootstrap(get(v)?, *kind),
        };
        Ok(vec![result.map_err(|cause| place.backend_error(cause))?])
    }

    fn append(&mut self, place: &Place<'_>, state: StateId, v: &B::Ct) -> Fallible<B, ()> {
        let tables = self.source.tables;
        let declared = tables.states.get(state.0 as usize);
        let (Some(declared), Some(tokens)) = (declared, tables.tokens(state)) else {
            return Err(place.plan_error("its state"));
        };
        let backend = self.source.backend;
        let Some(expected) = declared.append_at() else {
            return Err(place.plan_error("the level of its state"));
        };
        let found = backend.at(v);
        if found != expected {
            return Err(place.at_error("the appended value", expected, found));
        }
        let layer = place.binding.layer;
        let each = tables.ciphertexts(state);
        let first = (self.position / tokens) as usize * each;
        let parts = match &declared.ty.layout {
            Layout::Matrix(matrix) if !matrix.fits(tables.slots) => {
                return Err(place.plan_error("the matrix of its state"));
            }
            Layout::Matrix(matrix) => self.parts(place, (state, matrix), v)?,
            _ => vec![v.clone()],
        };
        let count = self.pending.count(state, layer);
        let group = match self.pending.group(state, layer, first..first + each) {
            Some(group) => {
                let sum = |(a, b): (&B::Stored, &B::Ct)| backend.add(&*backend.load(a)?, b);
                let sums = group.iter().zip(&parts).map(sum);
                let sums = sums.collect::<Result<Vec<_>, _>>();
                sums.map_err(|cause| place.backend_error(cause))?
            }
            None if count == first => parts,
            None => {
                return Err(ExecError::Session(format!(
                    "state `{}` of layer {layer} has {count} ciphertexts at position {}",
                    declared.name, self.position
                )));
            }
        };
        let stored = group.into_iter().map(|ct| backend.store(ct, layer));
        let group = stored.collect::<Result<Vec<_>, _>>();
        let group = group.map_err(|cause| place.backend_error(cause))?;
        self.pending.set(state, layer, first, group);
        Ok(())
    }

    /// What a vector adds to each diagonal of a matrix.
    fn parts(
        &mut self,
        place: &Place<'_>,
        (state, matrix): (StateId, &TokenMatrix),
        v: &B::Ct,
    ) -> Fallible<B, Vec<B::Ct>> {
        let backend = self.source.backend;
        let failed = |cause| place.backend_error(cause);
        let step = matrix.step() as i32;
        let turns: Vec<i32> = matrix.turns().iter().map(|turn| turn * step).collect();
        let turned = backend.rotations(v, &turns).map_err(failed)?;
        let mut parts: Vec<Option<B::Ct>> = vec![None; matrix.ciphertexts() as usize];
        for index in 0..matrix.masks() {
            let (at, position) = (backend.at(v), self.position);
            let mask = self
                .token
                .mask(&self.source, (state, matrix), index, position, at)?;
            for (turn, v) in turned.iter().enumerate() {
                let part = backend.mul_plain(v, &mask).map_err(failed)?;
                let part = backend.rescale(&part).map_err(failed)?;
                let diagonal = matrix.diagonal(turn as u32, index) as usize;
                parts[diagonal] = Some(part);
            }
        }
        let all: Option<Vec<B::Ct>> = parts.into_iter().collect();
        all.ok_or_else(|| place.plan_error("the matrix of its state"))
    }

    fn sum_groups(
        &mut self,
        place: &Place<'_>,
        template: usize,
        states: &[StateId],
        args: &[Held<B::Ct>],
    ) -> Fallible<B, Vec<B::Ct>> {
        if place.binding.group.is_some() {
            return Err(place.plan_error("a loop inside a group template"));
        }
        let layer = place.binding.layer;
        let tables = self.source.tables;
        let count = |s: &StateId| self.pending.count(*s, layer) / tables.ciphertexts(*s);
        let groups = states.first().map_or(0, count);
        if groups == 0 || states.iter().any(|s| count(s) != groups) {
            return Err(place.plan_error("the groups of its states"));
        }
        let mut sums: Vec<B::Ct> = Vec::new();
        for group in 0..groups {
            let mut inputs: Vec<Held<B::Ct>> = args.to_vec();
            for state in states {
                let each = tables.ciphertexts(*state);
                let places = group * each..(group + 1) * each;
                let stored = self.pending.group(*state, layer, places);
                let missing = || ExecError::Session(format!("layer {layer} lacks group {group}"));
                let stored = stored.ok_or_else(missing)?.iter();
                let loaded = stored.map(|ct| self.source.backend.load(ct));
                let mut loaded = loaded
                    .collect::<Result<Vec<_>, _>>()
                    .map_err(|cause| place.backend_error(cause))?;
                inputs.push(match loaded.len() {
                    1 => Held::One(loaded.remove(0)),
                    _ => Held::Matrix(loaded),
                });
            }
            let binding = Binding {
                group: Some(group as u32),
                ..place.binding
            };
            let terms = self.template(template, binding, inputs)?;
            if group == 0 {
                sums = terms;
                continue;
            }
            for (sum, term) in sums.iter_mut().zip(&terms) {
                let total = self.source.backend.add(sum, term);
                *sum = total.map_err(|cause| place.backend_error(cause))?;
            }
        }
        Ok(sums)
    }
}

/// Where a run is, for errors and events.
struct Place<'a> {
    template: &'a PlanTemplate,
    index: usize,
    instr: &'a Instr,
    binding: Binding,
}

impl Place<'_> {
    fn backend_error<E: std::error::Error>(&self, cause: E) -> ExecError<E> {
        ExecError::Backend {
            site: self.instr.site.clone(),
            layer: self.binding.layer,
            op: self.instr.op.name(),
            cause,
        }
    }

    fn at_error<E: std::error::Error>(
        &self,
        what: &'static str,
        expected: At,
        found: At,
    ) -> ExecError<E> {
        ExecError::At {
            site: self.instr.site.clone(),
            layer: self.binding.layer,
            what,
            expected,
            found,
        }
    }

    fn plan_error<E: std::error::Error>(&self, what: &str) -> ExecError<E> {
        let (template, index) = (&self.template.name, self.index);
        ExecError::Plan(format!(
            "template `{template}`, instruction {index}: {what}"
        ))
    }
}

/// The buffer table of one run of a template.
struct Buffers<Ct> {
    template: String,
    values: BTreeMap<Buf, Held<Ct>>,
}

impl<Ct: Clone> Buffers<Ct> {
    fn put(&mut self, buf: Buf, held: Held<Ct>) {
        self.values.insert(buf, held);
    }

    fn kind<E: std::error::Error>(&self, buf: Buf) -> ExecError<E> {
        ExecError::Plan(format!(
            "template `{}`: buffer {} holds a matrix where a ciphertext is read, or the reverse",
            self.template, buf.0
        ))
    }

    fn held<E: std::error::Error>(&self, buf: Buf) -> Result<Held<Ct>, ExecError<E>> {
        self.values
            .get(&buf)
            .cloned()
            .ok_or_else(|| self.empty(buf))
    }

    fn matrix<E: std::error::Error>(&self, buf: Buf) -> Result<&[Arc<Ct>], ExecError<E>> {
        match self.values.get(&buf) {
            Some(Held::Matrix(diagonals)) => Ok(diagonals),
            Some(Held::One(_)) => Err(self.kind(buf)),
            None => Err(self.empty(buf)),
        }
    }

    fn drop<E: std::error::Error>(&mut self, buf: Buf) -> Result<(), ExecError<E>> {
        let found = self.values.remove(&buf);
        found.map(|_| ()).ok_or_else(|| self.empty(buf))
    }

    fn empty<E: std::error::Error>(&self, buf: Buf) -> ExecError<E> {
        ExecError::Plan(format!(
            "template `{}`: buffer {} is empty when it is read",
            self.template, buf.0
        ))
    }

    fn get<E: std::error::Error>(&self, buf: Buf) -> Result<&Ct, ExecError<E>> {
        match self.values.get(&buf) {
            Some(Held::One(ct)) => Ok(ct),
            Some(Held::Matrix(_)) => Err(self.kind(buf)),
            None => Err(self.empty(buf)),
        }
    }

    fn take<E: std::error::Error>(&mut self, buf: Buf) -> Result<Ct, ExecError<E>> {
        match self.values.remove(&buf) {
            Some(Held::One(ct)) => Ok(Arc::unwrap_or_clone(ct)),
            Some(Held::Matrix(_)) => Err(self.kind(buf)),
            None => Err(self.empty(buf)),
        }
    }
}
