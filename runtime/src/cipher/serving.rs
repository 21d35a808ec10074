//! A plan on ciphertexts, as the server runs it.

use super::{
    CipherError, Ciphers, Demand, Residence, Room, Stored, needed_keys, parameters_digest, request,
};
use crate::follow::Follow;
use crate::keys::{KEY_FILE, NeededKey};
use crate::proto::{Fault, FaultCode};
use crate::server::{self, StepOutput, Watch};
use crate::trace::Trace;
use miette::Diagnostic;
use sotto_ckks::engine::{Cpu, Engine, Keep};
use sotto_ckks::serialize::EvaluationKeyFile;
use sotto_ckks::{Ciphertext, CkksError, Context, KeyKind};
use sotto_ir::exec::{Event, ExecError, Executor, Session};
use sotto_ir::plan::Plan;
use sotto_ir::slot::DataSource;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Most sessions, however much memory there is.
const MOST_SESSIONS: u64 = 16;
/// More than what a key takes in a key file beside its residues: index entry, header, seed and checksum.
const KEY_OVERHEAD: u64 = 256;

/// How an engine runs.
#[derive(Default)]
pub struct EngineOptions {
    /// Bytes the server may use where the engine computes; None for what is free.
    pub memory: Option<u64>,
    /// What is free; None for this machine's memory.
    pub room: Option<Room>,
    /// How matrices lie; None for what fits.
    pub matrices: Option<Keep>,
    /// Where per-op times go.
    pub trace: Option<Trace>,
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum EngineError {
    /// The plan's parameters are refused.
    #[error("the plan's parameters are refused: {0}")]
    #[diagnostic(code(engine::parameters))]
    Parameters(#[from] CkksError),
    /// The plan needs more memory than it may use.
    #[error(
        "the plan needs {needed} bytes at its peak and {allowed} are {}; {}",
        if *.stated { "allowed by --memory" } else { "free" },
        if *.stated { "raise --memory or compile with a smaller --context" } else { "free memory, compile with a smaller --context, or insist with --memory" }
    )]
    #[diagnostic(code(engine::memory))]
    Memory {
        /// Peak that the plan states.
        needed: u64,
        /// What may be used.
        allowed: u64,
        /// Whether the user stated it.
        stated: bool,
    },
}

/// Runs a plan on real ciphertexts, on an engine of the scheme.
pub struct PlanEngine<E: Engine = Cpu> {
    plan: Arc<Plan>,
    plan_digest: String,
    data: Arc<dyn DataSource + Send + Sync>,
    engine: E,
    parameters_digest: String,
    needed: Vec<NeededKey>,
    key_bytes: u64,
    residence: Residence,
    most_sessions: usize,
    trace: Option<Trace>,
}

impl PlanEngine {
    /// A checked plan and its packed data on the processor.
    ///
    /// # Errors
    /// If the parameters are refused, or the plan's peak exceeds the memory it may use.
    pub fn new(
        plan: Arc<Plan>,
        plan_digest: String,
        data: Arc<dyn DataSource + Send + Sync>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let engine = Cpu::new(&Context::new(plan.params.clone())?);
        Self::on(engine, plan, plan_digest, data, options)
    }
}

impl<E: Engine> PlanEngine<E> {
    /// A checked plan and its packed data on an engine with the plan's parameters.
    ///
    /// # Errors
    /// If the plan's peak exceeds the memory it may use.
    pub fn on(
        engine: E,
        plan: Arc<Plan>,
        plan_digest: String,
        data: Arc<dyn DataSource + Send + Sync>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let (room, stated) = match (options.room, options.memory) {
            // a card has what it has
            (Some(room), Some(most)) if most < room.here => (Room { here: most, ..room }, true),
            (Some(room), _) => (room, false),
            // this machine may have more than it says
            (None, Some(memory)) => (Room::one(memory), true),
            (None, None) => {
                let free = crate::process::available_memory();
                (Room::one(free.unwrap_or(u64::MAX)), false)
            }
        };
        let demand = Demand::of(&plan);
        let residence = Residence::within(demand, room, options.matrices);
        let residence = residence.map_err(|short| EngineError::Memory {
            needed: short.needed,
            allowed: short.allowed,
            stated,
        })?;
        Ok(Self {
            plan_digest,
            data,
            parameters_digest: parameters_digest(&plan.params),
            needed: needed_keys(&plan.keys, engine.context()),
            key_bytes: key_file_bytes(&plan, engine.context()),
            most_sessions: most_sessions(&plan, residence.left),
            residence,
            trace: options.trace.map(|trace| trace.by(engine.yardstick())),
            engine,
            plan,
        })
    }

    /// Level of what is sent for one token, or for a block.
    fn input_level(&self, block: u32) -> u32 {
        match &self.plan.prefill {
            Some(prefill) if block > 0 => prefill.input.level,
            _ => self.plan.client.input.level,
        }
    }

    /// What is wrong with the engine's device, which no client can help.
    fn device_fault(&self) -> Option<Fault> {
        const REMEDY: &str = "whoever runs the server starts it again, with a smaller --memory, or with --backend cpu";
        let error = self.engine.check().err()?;
        let thing = error.to_string();
        Some(Fault::new(FaultCode::Internal, thing, REMEDY))
    }

    fn read(
        &self,
        keys: &Executor<Ciphers<E>>,
        block: u32,
        bytes: &[u8],
    ) -> Result<Ciphertext, Fault> {
        const REMEDY: &str =
            "encrypt with the key that belongs to this session, at the plan's input level";
        let rejected = |thing: String| Fault::new(FaultCode::CiphertextRejected, thing, REMEDY);
        let ct = Ciphertext::from_bytes(self.engine.context(), bytes)
            .map_err(|cause| rejected(format!("the ciphertext: {cause}")))?;
        let level = self.input_level(block) as usize;
        if ct.level() != level || ct.degree() != 1 {
            return Err(rejected(format!(
                "a ciphertext at level {}, degree {}, where the plan takes level {level}, degree 1",
                ct.level(),
                ct.degree()
            )));
        }
        if ct.key() != keys.backend().key() {
            return Err(rejected(format!(
                "a ciphertext of key {}, where the session's evaluation keys belong to {}",
                ct.key(),
                keys.backend().key()
            )));
        }
        Ok(ct)
    }
}

impl<E: Engine> server::Engine for PlanEngine<E> {
    type Keys = Executor<Ciphers<E>>;
    type State = Session<Stored<E>>;

    fn plan_digest(&self) -> &str {
        &self.plan_digest
    }

    fn parameters_digest(&self) -> &str {
        &self.parameters_digest
    }

    fn capacity(&self) -> u32 {
        self.plan.capacity
    }

    fn needed_keys(&self) -> &[NeededKey] {
        &self.needed
    }

    fn key_bytes(&self) -> u64 {
        self.key_bytes
    }

    fn most_sessions(&self) -> usize {
        self.most_sessions
    }

    fn load_keys(
        &self,
        dir: &Path,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Executor<Ciphers<E>>, Fault> {
        let load = |progress: &mut dyn FnMut(usize, usize)| -> Result<Ciphers<E>, CipherError> {
            let mut file = EvaluationKeyFile::open(self.engine.context(), dir.join(KEY_FILE))?;
            let wanted = request(&self.plan.keys, self.engine.context());
            let keys = file.load(Some(&wanted), &mut *progress)?;
            let backend = Ciphers::on(&self.engine, &self.plan, keys, |_, _| {})?;
            let backend = backend.residing(self.residence);
            if self.trace.is_some() {
                backend.wait_for_each();
            }
            Ok(backend)
        };
        let backend = load(progress).map_err(|error| {
            if let Some(fault) = self.device_fault() {
                return fault;
            }
            let code = match &error {
                CipherError::Scheme(CkksError::MissingKey { .. }) => FaultCode::KeyMissing,
                _ => FaultCode::KeyDamaged,
            };
            Fault::new(
                code,
                error.to_string(),
                "generate keys for this plan with `sotto keygen`, or send them again",
            )
        })?;
        let executor = Executor::new(
            self.plan.clone(),
            self.data.clone(),
            backend,
            usize::try_from(self.residence.cache_bytes).unwrap_or(usize::MAX),
        );
        // The first client is not to wait for what the server can do before it comes.
        executor
            .warm(progress)
            .map_err(|error| self.device_fault().unwrap_or_else(|| step_fault(error)))?;
        Ok(executor)
    }

    fn empty_state(&self) -> Session<Stored<E>> {
        Session::default()
    }

    fn step(
        &self,
        keys: &Executor<Ciphers<E>>,
        session: &mut Session<Stored<E>>,
        block: u32,
        ciphertext: &[u8],
        watch: &dyn Watch,
    ) -> Result<StepOutput, Fault> {
        let evaluator = keys.backend().evaluator();
        let input = evaluator.upload(self.read(keys, block, ciphertext)?);
        let position = session.position();
        let mut follow = Follow::new(&self.plan, self.trace.as_ref(), position, block);
        let mut observe = |event: &Event<'_, Ciphertext<E::Poly>>| {
            watch.progress(follow.hear(event));
            if watch.cancelled() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let outputs = match block {
            0 => keys.decode(session, vec![input], &mut observe),
            count => keys.prefill(session, vec![input], count, &mut observe),
        };
        let failed = |error| self.device_fault().unwrap_or_else(|| step_fault(error));
        let outputs = outputs.map_err(failed)?;
        let bytes = |ct: &Ciphertext<E::Poly>| {
            let ct = evaluator.download(ct);
            let failed = |error| self.device_fault().unwrap_or_else(|| internal(error));
            Ok(ct.map_err(failed)?.to_bytes(self.engine.context()))
        };
        Ok(StepOutput {
            ciphertexts: outputs.iter().map(bytes).collect::<Result<_, Fault>>()?,
            bootstraps: follow.end(),
        })
    }
}

/// Bytes of the file that holds a plan's keys. The uniform half of a key is a seed there.
fn key_file_bytes(plan: &Plan, context: &Context) -> u64 {
    let params = context.params();
    let residues = |(kind, level)| {
        let primes = params.key_primes(level);
        let special = match (kind, &params.ephemeral) {
            (KeyKind::ToEphemeral, Some(ephemeral)) => ephemeral.p_primes.len(),
            _ => params.p_primes.len(),
        };
        params.digits_of(&primes).len() * (primes.len() + special) * params.n()
    };
    let keys = request(&plan.keys, context).kinds().into_iter();
    keys.map(|key| KEY_OVERHEAD + (residues(key) * size_of::<u32>()) as u64)
        .sum()
}

/// Sessions whose KV state there is memory for: the one that the plan's peak counts, and as many as fit into what is left.
fn most_sessions(plan: &Plan, left: u64) -> usize {
    let more = left / plan.session_bytes().max(1);
    more.saturating_add(1).min(MOST_SESSIONS) as usize
}

fn step_fault(error: ExecError<CipherError>) -> Fault {
    match error {
        ExecError::Capacity { .. } => Fault::new(
            FaultCode::Capacity,
            error.to_string(),
            "compile with a larger --context or begin a new session",
        ),
        ExecError::Block { .. } | ExecError::NoPrefill => Fault::new(
            FaultCode::PositionMismatch,
            error.to_string(),
            "send a prompt's blocks in order, or its tokens one by one",
        ),
        other => internal(other),
    }
}

fn internal(error: impl std::error::Error) -> Fault {
    Fault::new(
        FaultCode::Internal,
        error.to_string(),
        "check the plan with `sottoc verify`",
    )
}
