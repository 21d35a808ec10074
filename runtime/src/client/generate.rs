//! The token loop: one round trip per token, and per block of the prompt where the plan takes blocks.

use super::connection::{Connection, StepAnswer};
use super::error::ClientError;
use super::sample::{Sampler, Sampling};
use super::seal::{Sealer, Tokens};
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
    /// Tokens go up: the first one's position, how many, and how many the prompt has.
    fn begins(&mut self, position: u32, count: u32, prompt: u32);
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
    /// Round trips, the prompt's included.
    pub trips: Vec<Trip>,
    /// Why it stopped.
    pub stop: Stop,
}

/// One round trip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trip {
    /// Tokens of a block of the prompt; None for one token by itself.
    pub block: Option<u32>,
    /// Wall-clock seconds.
    pub seconds: f64,
    /// Bootstraps that the server ran.
    pub bootstraps: u32,
}

impl Generation {
    /// Seconds of the round trips of single tokens.
    pub fn per_token(&self) -> Vec<f64> {
        let single = self.trips.iter().filter(|trip| trip.block.is_none());
        single.map(|trip| trip.seconds).collect()
    }

    /// Tokens of the prompt that went up in blocks, and seconds of those round trips; None if none did.
    pub fn blocks(&self) -> Option<(u32, f64)> {
        let blocks = self
            .trips
            .iter()
            .filter_map(|trip| Some((trip.block?, trip.seconds)));
        blocks.reduce(|(tokens, seconds), (more, longer)| (tokens + more, seconds + longer))
    }

    /// Bootstraps of a single token, or of a block if there was none.
    pub fn bootstraps(&self) -> u32 {
        let of = |single: bool| {
            let trips = self
                .trips
                .iter()
                .filter(move |trip| trip.block.is_none() == single);
            trips.map(|trip| trip.bootstraps).max()
        };
        of(true).or(of(false)).unwrap_or(0)
    }
}

/// What goes up next: a block of the prompt where there are blocks and at least two tokens left of it, else one token.
fn next<'p>(
    prompt: &'p [u32],
    position: u32,
    block: u32,
    chosen: Option<u32>,
) -> Option<Tokens<'p>> {
    let rest = prompt.get(position as usize..).unwrap_or_default();
    match rest {
        [] => chosen.map(Tokens::One),
        [_, _, ..] if block > 1 => Some(Tokens::Block(&rest[..rest.len().min(block as usize)])),
        [token, ..] => Some(Tokens::One(*token)),
    }
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
        trips: Vec::new(),
        stop: Stop::MaxTokens,
    };
    let prompt = request.prompt.len() as u32;
    let (mut position, mut chosen) = (0, None);
    while let Some(tokens) = next(&request.prompt, position, sealer.block(), chosen) {
        if made.tokens.len() as u32 >= request.max_tokens {
            break;
        }
        if position >= connection.capacity() {
            made.stop = Stop::Capacity;
            break;
        }
        listener.begins(position, tokens.count(), prompt);
        let started = Instant::now();
        let round = round_trip(connection, sealer, position, tokens, listener);
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
        made.trips.push(Trip {
            block: Some(tokens.block()).filter(|block| *block > 0),
            seconds: started.elapsed().as_secs_f64(),
            bootstraps: answer.bootstraps,
        });
        position += tokens.count();
        if position < prompt {
            continue;
        }
        let logits = match open(sealer, position - 1, tokens, &answer) {
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
        chosen = Some(next);
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
    tokens: Tokens<'_>,
    listener: &mut dyn Listener,
) -> Result<StepAnswer, ClientError> {
    let sealed = sealer
        .seal(tokens, position)
        .map_err(|cause| ClientError::Seal {
            doing: format!("encrypting token {position}"),
            cause,
        })?;
    connection
        .step(position, tokens.block(), sealed, |progress| {
            listener.progress(progress);
        })
        .await
}

fn open(
    sealer: &dyn Sealer,
    position: u32,
    tokens: Tokens<'_>,
    answer: &StepAnswer,
) -> Result<Vec<f64>, ClientError> {
    sealer
        .open(tokens, &answer.ciphertexts)
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
