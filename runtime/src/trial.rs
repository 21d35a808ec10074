//! A plan run in this process, token by token, on either backend: what checks and tests do. The real-ciphertext trial holds both
//! ends, so it is for people who test their own plan; a deployment is [`crate::server`] and [`crate::client`].

use crate::StepProgress;
use crate::cipher::{CipherError, Ciphers, Residence, Stored, request};
use crate::client::{CkksSealer, ClientModel, ModelError, SealError, Tokens};
use crate::follow::Follow;
use crate::plan::PlanDir;
use crate::trace::Trace;
use miette::Diagnostic;
use sotto_ckks::engine::{Cpu, Engine};
use sotto_ckks::{Ciphertext, CkksError, Context, KeyGenerator, SecretKey};
use sotto_ir::exec::{
    Clear, ClearCt, ClearError, Event, ExecError, Executor, NoiseModel, RangeWatch, Session,
};
use sotto_ir::plan::{PlanError, Wire};
use sotto_ir::slot::Slots;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Why a trial cannot go on.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum TrialError {
    /// A file of the plan.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(#[from] PlanError),
    /// The client's part of the plan.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Model(#[from] ModelError),
    /// Keys or contexts.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Scheme(#[from] CkksError),
    /// Setting up a backend on ciphertexts.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cipher(#[from] CipherError),
    /// Encrypting or decrypting.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Seal(#[from] SealError),
    /// A cleartext input.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Clear(#[from] ClearError),
    /// A step in the clear.
    #[error(transparent)]
    #[diagnostic(transparent)]
    ClearStep(#[from] ExecError<ClearError>),
    /// A step on ciphertexts.
    #[error(transparent)]
    #[diagnostic(transparent)]
    CipherStep(#[from] ExecError<CipherError>),
    /// The input cannot be spread over the slots.
    #[error("the plan's input width {0} is no power of two; compile again")]
    #[diagnostic(code(trial::width))]
    Width(usize),
}

/// A plan on cleartext slots under the scheme's rules.
pub struct ClearTrial {
    executor: Executor<Clear>,
    session: Session<Arc<ClearCt>>,
    model: Arc<ClientModel>,
    ranges: RangeWatch,
}

impl ClearTrial {
    /// At the first token. With a seed, operations add the noise that they have under the plan's parameters.
    ///
    /// # Errors
    /// Missing or damaged plan files.
    pub fn new(
        dir: &PlanDir,
        model: Arc<ClientModel>,
        noise: Option<u64>,
    ) -> Result<Self, TrialError> {
        let plan = dir.plan();
        let mut backend = Clear::for_plan(plan);
        if let Some(seed) = noise {
            backend = backend.with_noise(NoiseModel::for_plan(plan), plan.slots(), seed);
        }
        Ok(Self {
            executor: Executor::new(plan.clone(), dir.data()?, backend, usize::MAX),
            session: Session::default(),
            model,
            ranges: RangeWatch::default(),
        })
    }

    /// Logits after the next token.
    ///
    /// # Errors
    /// A token outside the vocabulary, a full session, and whatever breaks the scheme's rules.
    pub fn step(&mut self, token: u32) -> Result<Vec<f64>, TrialError> {
        self.run(Tokens::One(token))
    }

    /// Logits after the next tokens, together.
    ///
    /// # Errors
    /// As [`ClearTrial::step`], and more tokens than a block takes.
    pub fn run(&mut self, tokens: Tokens<'_>) -> Result<Vec<f64>, TrialError> {
        let backend = self.executor.backend();
        let slots = self.model.input(tokens, self.session.position())?;
        let count = slots.len();
        let slots = Slots::new(slots).ok_or(TrialError::Width(count))?;
        let input = backend.encrypt(slots, self.model.input_wire(tokens)?.level)?;
        let ranges = &mut self.ranges;
        let mut observe = |event: &Event<'_, ClearCt>| {
            ranges.observe(backend, event);
            ControlFlow::Continue(())
        };
        let (session, input) = (&mut self.session, vec![input]);
        let answer = match tokens {
            Tokens::One(_) => self.executor.decode(session, input, &mut observe),
            Tokens::Block(tokens) => {
                let count = tokens.len() as u32;
                self.executor.prefill(session, input, count, &mut observe)
            }
        }?;
        self.model.check_count(tokens, answer.len())?;
        let period = |(ct, wire): (&ClearCt, &Wire)| {
            let slots = 0..wire.period();
            slots.map(|slot| ct.slots.at(slot).re).collect()
        };
        let vectors: Vec<Vec<f64>> = answer
            .iter()
            .zip(self.model.outputs(tokens))
            .map(period)
            .collect();
        Ok(self.model.logits(tokens, &vectors)?)
    }

    /// Most tokens of a block.
    pub fn block(&self) -> u32 {
        self.executor.plan().block()
    }

    /// Begins another conversation; what has left its range so far is forgotten.
    pub fn restart(&mut self) {
        self.session = Session::default();
        self.ranges = RangeWatch::default();
    }

    /// The values that left their declared range so far.
    pub fn ranges(&self) -> &RangeWatch {
        &self.ranges
    }
}

/// A plan on real ciphertexts, with keys made for this run and forgotten after it.
pub struct CipherTrial<E: Engine = Cpu> {
    executor: Executor<Ciphers<E>>,
    session: Session<Stored<E>>,
    sealer: CkksSealer,
    trace: Option<Trace>,
}

impl CipherTrial {
    /// A trial on the processor (see [`Self::on`]).
    ///
    /// # Errors
    /// As [`Self::on`].
    pub fn new(
        dir: &PlanDir,
        model: Arc<ClientModel>,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self, TrialError> {
        let engine = Cpu::new(&Context::new(dir.plan().params.clone())?);
        Self::on(&engine, dir, model, Residence::READY, progress)
    }
}

impl<E: Engine> CipherTrial<E> {
    /// Generates keys for exactly the plan's list; `progress` hears how many of how many are done.
    ///
    /// # Errors
    /// Missing or damaged plan files, no entropy.
    pub fn on(
        engine: &E,
        dir: &PlanDir,
        model: Arc<ClientModel>,
        residence: Residence,
        progress: impl FnMut(usize, usize),
    ) -> Result<Self, TrialError> {
        let plan = dir.plan();
        let context = engine.context().clone();
        let secret = SecretKey::generate(&context)?;
        let wanted = request(&plan.keys, &context);
        let keys = KeyGenerator::new(&secret).evaluation_keys(&wanted, progress)?;
        let backend = Ciphers::on(engine, plan, keys, |_, _| {})?;
        let backend = backend.residing(residence);
        let cache = usize::try_from(residence.cache_bytes).unwrap_or(usize::MAX);
        Ok(Self {
            executor: Executor::new(plan.clone(), dir.data()?, backend, cache),
            session: Session::default(),
            sealer: CkksSealer::new(context, secret, model),
            trace: None,
        })
    }

    /// The same, with the times of its operations written to a trace.
    pub fn traced(mut self, trace: Trace) -> Self {
        let backend = self.executor.backend();
        backend.wait_for_each();
        self.trace = Some(trace.by(backend.evaluator().engine().yardstick()));
        self
    }

    /// Logits after the next token, decrypted.
    ///
    /// # Errors
    /// A token outside the vocabulary, a full session.
    pub fn step(&mut self, token: u32) -> Result<Vec<f64>, TrialError> {
        self.run(Tokens::One(token))
    }

    /// Logits after the next tokens, together, decrypted.
    ///
    /// # Errors
    /// As [`CipherTrial::step`], and more tokens than a block takes.
    pub fn run(&mut self, tokens: Tokens<'_>) -> Result<Vec<f64>, TrialError> {
        self.run_heard(tokens, &mut |_| ())
    }

    /// As [`CipherTrial::run`], while `hear` is told how far it is.
    ///
    /// # Errors
    /// As [`CipherTrial::run`].
    pub fn run_heard(
        &mut self,
        tokens: Tokens<'_>,
        hear: &mut dyn FnMut(&StepProgress),
    ) -> Result<Vec<f64>, TrialError> {
        let (plan, session) = (self.executor.plan(), &mut self.session);
        let position = session.position();
        let evaluator = self.executor.backend().evaluator();
        let input = vec![evaluator.upload(self.sealer.encrypt(tokens, position)?)];
        let mut follow = Follow::new(plan, self.trace.as_ref(), position, tokens.block());
        let mut observe = |event: &Event<'_, Ciphertext<E::Poly>>| {
            hear(follow.hear(event));
            ControlFlow::Continue(())
        };
        let answer = match tokens {
            Tokens::One(_) => self.executor.decode(session, input, &mut observe),
            Tokens::Block(tokens) => {
                let count = tokens.len() as u32;
                self.executor.prefill(session, input, count, &mut observe)
            }
        }?;
        follow.end();
        let answer = answer.iter().map(|ct| evaluator.download(ct));
        let answer: Vec<Ciphertext> = answer.collect::<Result<_, _>>()?;
        Ok(self.sealer.decrypt(tokens, &answer)?)
    }

    /// Most tokens of a block.
    pub fn block(&self) -> u32 {
        self.executor.plan().block()
    }

    /// Begins another conversation under the same keys.
    pub fn restart(&mut self) {
        self.session = Session::default();
    }

    /// The executor, for what it has recorded.
    pub fn executor(&self) -> &Executor<Ciphers<E>> {
        &self.executor
    }
}
