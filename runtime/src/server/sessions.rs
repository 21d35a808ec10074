//! Sessions: KV state under one set of keys, changed by whole tokens only.
//!
//! All open sessions are under the same set, since memory holds one. A session that has been idle for long gives way.

use super::engine::{Engine, StepOutput, Watch};
use super::held::Turn;
use super::lock;
use crate::proto::{Fault, FaultCode};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::OwnedMutexGuard;

/// What one step returns to the client.
#[derive(Clone)]
pub(super) struct StepReply {
    pub output: Arc<StepOutput>,
    pub elapsed: Duration,
}

/// The reply to the last token or block, kept so that a client whose connection broke while it was on its way can ask again.
struct LastReply {
    block: u32,
    request: blake3::Hash,
    reply: StepReply,
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
    fingerprint: String,
    progress: Arc<tokio::sync::Mutex<Progress<E>>>,
}

impl<E: Engine> Session<E> {
    fn new(name: String, fingerprint: String, state: E::State) -> Self {
        Self {
            name,
            fingerprint,
            progress: Arc::new(tokio::sync::Mutex::new(Progress {
                state,
                position: 0,
                last: None,
                used: Instant::now(),
            })),
        }
    }

    /// The session for one token; refused while another token has it.
    pub fn claim(&self) -> Result<Claim<E>, Fault> {
        let Ok(mut progress) = self.progress.clone().try_lock_owned() else {
            return Err(Fault::new(
                FaultCode::SessionBusy,
                format!("session {} is computing a token", self.name),
                "wait for its reply before sending the next token",
            ));
        };
        progress.used = Instant::now();
        Ok(Claim {
            session: self.name.clone(),
            fingerprint: self.fingerprint.clone(),
            progress,
        })
    }

    /// How long nothing has happened; None while a token is computed or waits for its turn.
    fn idle(&self) -> Option<Duration> {
        let progress = self.progress.try_lock().ok()?;
        Some(progress.used.elapsed())
    }
}

/// A session that one token has to itself.
pub(super) struct Claim<E: Engine> {
    session: String,
    fingerprint: String,
    progress: OwnedMutexGuard<Progress<E>>,
}

impl<E: Engine> Claim<E> {
    /// The last reply, if the request is the last one again; refuses a token for another position than the next.
    pub fn known(
        &self,
        engine: &E,
        position: u32,
        block: u32,
        ciphertext: &[u8],
    ) -> Result<Option<StepReply>, Fault> {
        let count = block.max(1);
        if let Some(last) = &self.progress.last
            && last.block == block
            && position.checked_add(count) == Some(self.progress.position)
            && last.request == blake3::hash(ciphertext)
        {
            return Ok(Some(last.reply.clone()));
        }
        check_position(position, count, self.progress.position, engine.capacity())?;
        Ok(None)
    }

    /// Computes the next token, whose position [`Self::known`] has checked. State and position change only when the whole token
    /// has been computed.
    pub fn compute(
        mut self,
        engine: &E,
        turn: Turn<E>,
        block: u32,
        ciphertext: &[u8],
        watch: &dyn Watch,
    ) -> Result<StepReply, Fault> {
        // A session that ended while its token waited may have lost its keys to another client's.
        let keys = turn
            .keys(&self.fingerprint)
            .ok_or_else(|| unknown(&self.session))?;
        let progress = &mut *self.progress;
        let started = Instant::now();
        let output = engine.step(keys, &mut progress.state, block, ciphertext, watch);
        progress.used = Instant::now();
        let reply = StepReply {
            output: Arc::new(output?),
            elapsed: started.elapsed(),
        };
        progress.position += block.max(1);
        progress.last = Some(LastReply {
            block,
            request: blake3::hash(ciphertext),
            reply: reply.clone(),
        });
        Ok(reply)
    }
}

fn check_position(asked: u32, count: u32, expected: u32, capacity: u32) -> Result<(), Fault> {
    if count > capacity.saturating_sub(expected) {
        return Err(Fault::new(
            FaultCode::Capacity,
            format!(
                "the session holds {expected} tokens, its plan allows {capacity}, and {count} more were sent"
            ),
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

type Open<E> = HashMap<String, Arc<Session<E>>>;

/// All sessions.
pub(super) struct Sessions<E: Engine> {
    open: Mutex<Open<E>>,
    patience: Duration,
}

impl<E: Engine> Sessions<E> {
    /// No sessions; later ones may be idle for `patience` before they give way.
    pub fn new(patience: Duration) -> Self {
        Self {
            open: Mutex::new(HashMap::new()),
            patience,
        }
    }

    /// Begins a session under the keys of a fingerprint. It ends with what is returned unless that is kept.
    pub fn begin(self: &Arc<Self>, engine: &E, fingerprint: &str) -> Result<Beginning<E>, Fault> {
        let name = random_name()?;
        let session = Session::new(name.clone(), fingerprint.into(), engine.empty_state());
        let mut open = lock(&self.open);
        self.make_way_for_keys(&mut open, fingerprint)?;
        self.make_way_for_state(&mut open, engine.most_sessions())?;
        open.insert(name.clone(), Arc::new(session));
        Ok(Beginning {
            sessions: self.clone(),
            name: Some(name),
        })
    }

    /// Ends the sessions under other keys, all of which must have been idle for long.
    fn make_way_for_keys(&self, open: &mut Open<E>, fingerprint: &str) -> Result<(), Fault> {
        let others = open.values().any(|s| s.fingerprint != fingerprint);
        if !others {
            return Ok(());
        }
        if !open.values().all(|session| self.expired(session)) {
            return Err(self.full(
                "the server computes for a client with other evaluation keys, and its memory holds one set".into(),
            ));
        }
        open.clear();
        Ok(())
    }

    /// Ends the session that has been idle longest, if there are as many as may be and it has been idle for long.
    fn make_way_for_state(&self, open: &mut Open<E>, most: usize) -> Result<(), Fault> {
        if open.len() < most {
            return Ok(());
        }
        let longest = open
            .values()
            .filter(|session| self.expired(session))
            .max_by_key(|session| session.idle())
            .map(|session| session.name.clone());
        let Some(name) = longest else {
            return Err(self.full(format!(
                "the server has {most} open sessions, all that its memory is for"
            )));
        };
        open.remove(&name);
        Ok(())
    }

    fn expired(&self, session: &Session<E>) -> bool {
        session.idle().is_some_and(|idle| idle >= self.patience)
    }

    fn full(&self, thing: String) -> Fault {
        Fault::new(
            FaultCode::Memory,
            thing,
            format!(
                "try again when a session has ended; one that idles for {} minutes gives way (`sotto serve --idle-minutes`)",
                self.patience.as_secs() / 60
            ),
        )
    }

    /// Fingerprint of the keys that the open sessions are under.
    pub fn fingerprint(&self) -> Option<String> {
        let open = lock(&self.open);
        open.values().next().map(|s| s.fingerprint.clone())
    }

    /// The session of that name.
    pub fn find(&self, name: &str) -> Result<Arc<Session<E>>, Fault> {
        lock(&self.open)
            .get(name)
            .cloned()
            .ok_or_else(|| unknown(name))
    }

    /// Ends a session.
    pub fn end(&self, name: &str) -> Result<(), Fault> {
        let ended = lock(&self.open).remove(name);
        ended.map(drop).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> Fault {
    Fault::new(
        FaultCode::UnknownSession,
        format!("no session `{name}`"),
        "begin a new session; this one was ended, gave way after idling, or the server was restarted",
    )
}

fn random_name() -> Result<String, Fault> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|cause| {
        Fault::new(
            FaultCode::Internal,
            format!("the system gives no randomness: {cause}"),
            "try again",
        )
    })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A session whose keys are still to be loaded. Dropping it ends the session: its client has gone, or its keys are refused.
pub(super) struct Beginning<E: Engine> {
    sessions: Arc<Sessions<E>>,
    name: Option<String>,
}

impl<E: Engine> Beginning<E> {
    /// The session has begun; returns its name.
    pub fn keep(mut self) -> String {
        self.name.take().unwrap_or_default()
    }
}

impl<E: Engine> Drop for Beginning<E> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // It may have given way already.
            let _ended = self.sessions.end(name);
        }
    }
}
