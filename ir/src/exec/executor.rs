//! The one executor: it drives every backend through a plan's instruction streams.

use super::cache::{Cache, Source};
use super::run::{Event, Run};
use super::session::Pending;
use super::{Backend, Session};
use crate::plan::{Plan, PlanProgram};
use crate::slot::{At, DataError, DataSource};
use miette::Diagnostic;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Why a run stopped. The session is as it was before it.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum ExecError<E: std::error::Error + 'static> {
    /// The KV state is full.
    #[error(
        "the session holds {capacity} tokens, all that the plan provides for; compile with a larger --context"
    )]
    #[diagnostic(code(execute::capacity))]
    Capacity {
        /// Tokens the plan holds.
        capacity: u32,
    },
    /// The plan has no prefill program.
    #[error(
        "the plan takes a prompt token by token; compile with --block for a program that takes several at once"
    )]
    #[diagnostic(code(execute::no_prefill))]
    NoPrefill,
    /// Tokens that are no block.
    #[error(
        "{count} tokens at position {position} are no block: blocks have 1 to {block} tokens, begin at multiples of {block}, and come before any token is decoded"
    )]
    #[diagnostic(code(execute::block))]
    Block {
        /// Tokens asked for.
        count: u32,
        /// Tokens cached.
        position: u32,
        /// Tokens of a block.
        block: u32,
    },
    /// The number of input ciphertexts differs from the program's.
    #[error("{found} input ciphertexts, the plan's program takes {expected}")]
    #[diagnostic(code(execute::inputs))]
    Inputs {
        /// Taken.
        expected: usize,
        /// Given.
        found: usize,
    },
    /// A value is not at the level and degree that the plan states.
    #[error("at {site}, layer {layer}: {what} is at level {}, degree {}, the plan says level {}, degree {}",
        found.level, found.degree, expected.level, expected.degree)]
    #[diagnostic(code(execute::at))]
    At {
        /// Site.
        site: String,
        /// Layer.
        layer: u32,
        /// Which value.
        what: &'static str,
        /// Stated.
        expected: At,
        /// Found.
        found: At,
    },
    /// The backend refused an operation.
    #[error("at {site}, layer {layer}: {op}: {cause}")]
    #[diagnostic(code(execute::backend))]
    Backend {
        /// Site.
        site: String,
        /// Layer.
        layer: u32,
        /// Operation.
        op: &'static str,
        /// Its reason.
        #[source]
        cause: E,
    },
    /// The backend could not encode a plaintext.
    #[error("encoding `{what}`: {cause}")]
    #[diagnostic(code(execute::encode))]
    Encode {
        /// Name of the plaintext or matrix.
        what: String,
        /// Its reason.
        #[source]
        cause: E,
    },
    /// Packed data could not be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Data(#[from] DataError),
    /// The session does not fit the plan.
    #[error("the session does not fit the plan: {0}; start a new session")]
    #[diagnostic(code(execute::session))]
    Session(String),
    /// The plan breaks a rule that the plan checker states.
    #[error("the plan is inconsistent: {0}; run `sottoc verify` on it")]
    #[diagnostic(code(execute::plan))]
    Plan(String),
    /// The observer asked to stop.
    #[error("stopped at {site}, layer {layer}")]
    #[diagnostic(code(execute::stopped))]
    Stopped {
        /// Site.
        site: String,
        /// Layer.
        layer: u32,
    },
}

/// Drives a backend through a plan.
pub struct Executor<B: Backend> {
    plan: Arc<Plan>,
    data: Arc<dyn DataSource + Send + Sync>,
    backend: B,
    cache: Cache<B>,
}

impl<B: Backend> Executor<B> {
    /// An executor that keeps encoded plaintexts up to `cache_bytes`; the rest is encoded at each use.
    ///
    /// The plan must have passed its checker; one that has not gives errors, or values that mean nothing, but no panic.
    pub fn new(
        plan: Arc<Plan>,
        data: Arc<dyn DataSource + Send + Sync>,
        backend: B,
        cache_bytes: usize,
    ) -> Self {
        Self {
            plan,
            data,
            backend,
            cache: Cache::new(cache_bytes),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Bytes of plaintexts kept encoded so far.
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Where a program's plaintexts come from.
    pub(super) fn source<'a>(&'a self, program: &'a PlanProgram) -> Source<'a, B> {
        Source {
            backend: &self.backend,
            tables: program.tables(self.plan.slots(), self.plan.capacity),
            data: &*self.data,
            program: u32::from(program.block > 1),
        }
    }

    /// What stays encoded.
    pub(super) fn cache(&self) -> &Cache<B> {
        &self.cache
    }

    /// A session that was restored may come from another plan, or be damaged.
    fn fits(&self, session: &Session<B::Stored>) -> Result<(), ExecError<B::Error>> {
        let widest = self.plan.widest();
        let tables = widest.tables(self.plan.slots(), self.plan.capacity);
        for (state, layer, groups) in session.states() {
            let tokens = tables.tokens(state);
            let expected = tokens.map(|tokens| {
                let groups = session.position().div_ceil(tokens);
                tables.ciphertexts(state) * groups as usize
            });
            if expected != Some(groups.len()) {
                return Err(ExecError::Session(format!(
                    "state s{} of layer {layer} has {} ciphertexts at position {}, not {}",
                    state.0,
                    groups.len(),
                    session.position(),
                    expected.unwrap_or(0)
                )));
            }
        }
        Ok(())
    }

    /// One decode step: `inputs` enter the first step of the program, the last step's results come back, and the session has
    /// grown by one token. On an error the session is as it was.
    ///
    /// `observe` sees every instruction before and after it runs, and may stop the step.
    pub fn decode(
        &self,
        session: &mut Session<B::Stored>,
        inputs: Vec<B::Ct>,
        observe: &mut dyn FnMut(&Event<'_, B::Ct>) -> ControlFlow<()>,
    ) -> Result<Vec<B::Ct>, ExecError<B::Error>> {
        self.run(&self.plan.decode, session, inputs, 1, observe)
    }

    /// One block of a prompt's tokens, `count` of them that count: like [`Executor::decode`], and the session has grown by `count`.
    pub fn prefill(
        &self,
        session: &mut Session<B::Stored>,
        inputs: Vec<B::Ct>,
        count: u32,
        observe: &mut dyn FnMut(&Event<'_, B::Ct>) -> ControlFlow<()>,
    ) -> Result<Vec<B::Ct>, ExecError<B::Error>> {
        let prefill = self.plan.prefill.as_ref().ok_or(ExecError::NoPrefill)?;
        let (program, position) = (&prefill.program, session.position());
        let block = program.block;
        // the states that decode does not have tell whether only blocks came before
        let own = program.states.len() > self.plan.decode.states.len();
        let last = program.states.len().saturating_sub(1) as u32;
        let only_blocks = position == 0 || !own || session.states().any(|(s, ..)| s.0 == last);
        if !(1..=block).contains(&count) || !position.is_multiple_of(block) || !only_blocks {
            return Err(ExecError::Block {
                count,
                position,
                block,
            });
        }
        self.run(program, session, inputs, count, observe)
    }

    fn run(
        &self,
        program: &PlanProgram,
        session: &mut Session<B::Stored>,
        inputs: Vec<B::Ct>,
        count: u32,
        observe: &mut dyn FnMut(&Event<'_, B::Ct>) -> ControlFlow<()>,
    ) -> Result<Vec<B::Ct>, ExecError<B::Error>> {
        let capacity = self.plan.capacity;
        if count > capacity.saturating_sub(session.position()) {
            return Err(ExecError::Capacity { capacity });
        }
        self.fits(session)?;
        let source = self.source(program);
        let mut run = Run {
            program,
            source,
            cache: &self.cache,
            token: Default::default(),
            pending: Pending::new(session),
            position: session.position(),
            count,
            observe,
        };
        let mut values = inputs;
        for step in &program.steps {
            for layer in step.first..step.first.saturating_add(step.count) {
                values = run.step(step.template, layer, values)?;
            }
        }
        let changes = run.pending.into_changes();
        changes.commit(session, count, program.states.len());
        Ok(values)
    }
}

/// An observer that sees nothing.
pub fn ignore<Ct>(_: &Event<'_, Ct>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
