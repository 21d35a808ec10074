//! Sessions: KV state under one set of keys, changed by whole tokens only.

use super::engine::{Engine, StepOutput, Watch};
use crate::proto::{Fault, FaultCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Most sessions at a time; each holds a KV cache. The longest idle one gives way to a new one.
const MAX_SESSIONS: usize = 16;

/// The reply to the last token, kept so that a client whose connection broke while it was on its way can ask again.
struct LastReply {
    request: blake3::Hash,
    reply: StepReply,
}

/// What one step returns to the client.
#[derive(Clone)]
pub(super) struct StepReply {
    pub output: Arc<StepOutput>,
    pub elapsed: Duration,
}

/// The part of a session that a token changes.
struct Progress<E: Engine> {
    state: E::State,
    position: u32,
    last: Option<LastReply>,
    used: Instant,
}

/// One session.
pub(super) struct Session<E: Engine> {
    name: String,
    keys: Arc<E::Keys>,
    progress: Mutex<Progress<E>>,
}

impl<E: Engine> Session<E> {
    /// Runs the token at `position`. State and position change only when the whole token has been computed; a repeat of the
    /// last request gets the last reply again.
    pub fn step(
        &self,
        engine: &E,
        position: u32,
        ciphertext: &[u8],
        watch: &dyn Watch,
    ) -> Result<StepReply, Fault> {
        // A poisoned lock is a token that failed half-way: it changed nothing.
        let mut progress = match self.progress.try_lock() {
            Ok(progress) => progress,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Fault::new(
                    FaultCode::SessionBusy,
                    format!("session {} is computing a token", self.name),
                    "wait for its reply before sending the next token",
                ));
            }
        };
        let request = blake3::hash(ciphertext);
        if let Some(last) = &progress.last
            && position.checked_add(1) == Some(progress.position)
            && last.request == request
        {
            return Ok(last.reply.clone());
        }
        check_position(position, progress.position, engine.capacity())?;
        let started = Instant::now();
        let output = engine.step(&self.keys, &mut progress.state, ciphertext, watch)?;
        let reply = StepReply {
            output: Arc::new(output),
            elapsed: started.elapsed(),
        };
        progress.position += 1;
        progress.used = Instant::now();
        progress.last = Some(LastReply {
            request,
            reply: reply.clone(),
        });
        Ok(reply)
    }

    /// When the session last moved; None while it computes.
    fn idle_since(&self) -> Option<Instant> {
        self.progress.try_lock().ok().map(|progress| progress.used)
    }
}

fn check_position(asked: u32, expected: u32, capacity: u32) -> Result<(), Fault> {
    if expected >= capacity {
        return Err(Fault::new(
            FaultCode::Capacity,
            format!("the session holds {expected} tokens, all that its plan allows"),
            "compile with a larger --context or begin a new session",
        ));
    }
    if asked != expected {
        return Err(Fault::new(
            FaultCode::PositionMismatch,
            format!("a token for position {asked} where the session is at {expected}"),
            "send tokens in order",
        ));
    }
    Ok(())
}

/// All sessions.
pub(super) struct Sessions<E: Engine> {
    open: Mutex<HashMap<String, Arc<Session<E>>>>,
}

impl<E: Engine> Sessions<E> {
    pub fn new() -> Self {
        Self {
            open: Mutex::new(HashMap::new()),
        }
    }

    /// Begins a session under `keys`; returns its name.
    pub fn begin(&self, engine: &E, keys: Arc<E::Keys>) -> Result<String, Fault> {
        let mut open = lock(&self.open);
        if open.len() >= MAX_SESSIONS {
            let idle = open
                .values()
                .filter_map(|session| Some((session.idle_since()?, session.name.clone())))
                .min();
            let Some((_, name)) = idle else {
                return Err(Fault::new(
                    FaultCode::Memory,
                    format!("{MAX_SESSIONS} sessions are computing"),
                    "try again when one of them ends",
                ));
            };
            open.remove(&name);
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|cause| {
            Fault::new(
                FaultCode::Internal,
                format!("the system gives no randomness: {cause}"),
                "try again",
            )
        })?;
        let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        open.insert(
            name.clone(),
            Arc::new(Session {
                name: name.clone(),
                keys,
                progress: Mutex::new(Progress {
                    state: engine.empty_state(),
                    position: 0,
                    last: None,
                    used: Instant::now(),
                }),
            }),
        );
        Ok(name)
    }

    /// The session of that name.
    pub fn find(&self, name: &str) -> Result<Arc<Session<E>>, Fault> {
        lock(&self.open).get(name).cloned().ok_or_else(|| {
            Fault::new(
                FaultCode::UnknownSession,
                format!("no session `{name}`"),
                "begin a new session; the server may have been restarted",
            )
        })
    }

    /// Ends a session.
    pub fn end(&self, name: &str) -> Result<(), Fault> {
        self.find(name)?;
        lock(&self.open).remove(name);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
