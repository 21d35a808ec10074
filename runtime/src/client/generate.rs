//! The token loop: one round trip per token, prompt tokens included.

use super::connection::{Connection, StepAnswer};
use super::error::ClientError;
use super::sample::{Sampler, Sampling};
use super::seal::Sealer;
use crate::proto::wire;
use std::time::Instant;
use tokio::sync::watch;

/// What to generate.
#[derive(Clone, Debug)]
pub struct Request {
    /// Token ids to begin with, the beginning-of-text token included where the model has one.
    pub prompt: Vec<u32>,
    /// Most tokens to add.
    pub max_tokens: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Tokens that end the text.
    pub end: Vec<u32>,
}

/// Hears what happens during a generation.
pub trait Listener {
    /// A token goes up: its position, and how many the prompt has.
    fn begins(&mut self, position: u32, prompt: u32);
    /// The server is this far with the token.
    fn progress(&mut self, progress: &wire::Progress);
    /// A new token was chosen.
    fn token(&mut self, id: u32);
}

/// Why a generation stopped.
#[derive(Debug)]
pub enum Stop {
    /// The model ended the text.
    EndOfText,
    /// As many tokens as asked.
    MaxTokens,
    /// The session is full.
    Capacity,
    /// Ctrl-C.
    Interrupted,
    /// Something failed; the tokens so far stand.
    Failed(ClientError),
}

/// What a generation came to.
#[derive(Debug)]
pub struct Generation {
    /// New tokens, the end token included if it came.
    pub tokens: Vec<u32>,
    /// Logits from which each new token was chosen.
    pub logits: Vec<Vec<f64>>,
    /// Wall-clock seconds of each round trip, prompt tokens included.
    pub seconds: Vec<f64>,
    /// Bootstraps of each round trip.
    pub bootstraps: Vec<u32>,
    /// Why it stopped.
    pub stop: Stop,
}

/// Generates until the end token, `max_tokens`, capacity, or `interrupt`.
///
/// Whatever the answers decrypt to, the server sees the same: the next token's ciphertext or, when the text ends, nothing.
/// The client never sends a decrypted value, and never repeats a request because of one.
pub async fn generate(
    connection: &mut Connection,
    sealer: &dyn Sealer,
    request: &Request,
    listener: &mut dyn Listener,
    mut interrupt: watch::Receiver<bool>,
) -> Result<Generation, ClientError> {
    check_prompt(&request.prompt, sealer.vocabulary(), connection.capacity())?;
    let mut sampler = Sampler::new(request.sampling);
    let mut made = Generation {
        tokens: Vec::new(),
        logits: Vec::new(),
        seconds: Vec::new(),
        bootstraps: Vec::new(),
        stop: Stop::MaxTokens,
    };
    let prompt = request.prompt.len() as u32;
    let mut input = request.prompt.first().copied();
    let mut position = 0;
    while let Some(token) = input {
        if made.tokens.len() as u32 >= request.max_tokens {
            break;
        }
        if position >= connection.capacity() {
            made.stop = Stop::Capacity;
            break;
        }
        listener.begins(position, prompt);
        let started = Instant::now();
        let round = round_trip(connection, sealer, position, token, listener);
        let answer = tokio::select! {
            biased;
            () = interrupted(&mut interrupt) => {
                made.stop = Stop::Interrupted;
                break;
            }
            answer = round => answer,
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                made.stop = Stop::Failed(error);
                break;
            }
        };
        made.seconds.push(started.elapsed().as_secs_f64());
        made.bootstraps.push(answer.bootstraps);
        position += 1;
        if position < prompt {
            input = request.prompt.get(position as usize).copied();
            continue;
        }
        let logits = match open(sealer, position - 1, &answer) {
            Ok(logits) => logits,
            Err(error) => {
                made.stop = Stop::Failed(error);
                break;
            }
        };
        let next = sampler.choose(&logits);
        made.logits.push(logits);
        made.tokens.push(next);
        listener.token(next);
        if request.end.contains(&next) {
            made.stop = Stop::EndOfText;
            break;
        }
        input = Some(next);
    }
    Ok(made)
}

async fn interrupted(interrupt: &mut watch::Receiver<bool>) {
    if interrupt.wait_for(|&now| now).await.is_err() {
        // Nobody can interrupt any more.
        std::future::pending::<()>().await;
    }
}

async fn round_trip(
    connection: &mut Connection,
    sealer: &dyn Sealer,
    position: u32,
    token: u32,
    listener: &mut dyn Listener,
) -> Result<StepAnswer, ClientError> {
    let sealed = sealer.seal(token).map_err(|cause| ClientError::Seal {
        doing: format!("encrypting token {position}"),
        cause,
    })?;
    connection
        .step(position, sealed, |progress| listener.progress(progress))
        .await
}

fn open(sealer: &dyn Sealer, position: u32, answer: &StepAnswer) -> Result<Vec<f64>, ClientError> {
    sealer
        .open(&answer.ciphertexts)
        .map_err(|cause| ClientError::Seal {
            doing: format!("decrypting the answer to token {position}"),
            cause,
        })
}

/// Refuses a prompt that is empty, too long, or has an id outside the vocabulary.
pub fn check_prompt(prompt: &[u32], vocabulary: u32, capacity: u32) -> Result<(), ClientError> {
    if prompt.is_empty() {
        return Err(ClientError::input(
            "the prompt is empty and the model has no beginning-of-text token",
            "give --prompt some text",
        ));
    }
    if prompt.len() as u64 > u64::from(capacity) {
        return Err(ClientError::input(
            format!(
                "the prompt has {} tokens, the plan holds {capacity}",
                prompt.len()
            ),
            "shorten it, or compile with a larger --context",
        ));
    }
    if let Some(id) = prompt.iter().find(|&&id| id >= vocabulary) {
        return Err(ClientError::input(
            format!("token id {id} is outside the vocabulary of {vocabulary}"),
            "use the tokenizer that belongs to the plan's model",
        ));
    }
    Ok(())
}
