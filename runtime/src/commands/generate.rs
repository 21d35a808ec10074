//! `sotto generate`.

use super::screen::Screen;
use super::{Consent, Failure, human_bytes, on_interrupt, runtime};
use crate::client::{
    CkksSealer, ClientModel, Connection, Generation, Keyring, Request, Sampling, Stop,
    check_prompt, generate,
};
use crate::plan::PlanDir;
use sotto_ckks::Context;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the end of a session may take.
const PARTING: Duration = Duration::from_secs(2);

/// Continue a prompt under encryption, with a server that `sotto serve` runs.
///
/// One round trip per token, and per block of prompt tokens where the plan takes a prompt in blocks. Ctrl-C stops and keeps the text.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sotto generate --plan tiny.plan --keys keys --server 127.0.0.1:7411 --prompt \"Once upon a time\"
  sotto generate --plan tiny.plan --keys keys --server 127.0.0.1:7411 --prompt \"The fox\" --temperature 0.8 --top-p 0.9 --seed 7")]
pub struct Args {
    /// The plan directory.
    #[arg(long)]
    plan: PathBuf,
    /// The key folder that `sotto keygen` made.
    #[arg(long)]
    keys: PathBuf,
    /// Address of the server, as it prints it.
    #[arg(long, value_name = "ADDR")]
    server: String,
    /// Text to continue.
    #[arg(long)]
    prompt: String,
    /// Most tokens to add.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    consent: Consent,
}

/// How tokens are chosen.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct SamplingArgs {
    /// Softmax temperature; 0 takes the most likely token.
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    temperature: f64,
    /// Sample from the most likely tokens that together have this probability.
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    top_p: f64,
    /// Seed of the sampler.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
}

impl SamplingArgs {
    /// The checked choice.
    fn checked(self) -> Result<Sampling, Failure> {
        let Self {
            temperature,
            top_p,
            seed,
        } = self;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(Failure::Input(format!(
                "--temperature {temperature}: give a number from 0 up"
            )));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Failure::Input(format!(
                "--top-p {top_p}: give a number above 0 and up to 1"
            )));
        }
        Ok(Sampling {
            temperature,
            top_p,
            seed,
        })
    }
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let sampling = args.sampling.checked()?;
    check_text(&args.prompt)?;
    let dir = PlanDir::open(&args.plan).map_err(Failure::input)?;
    args.consent.check(dir.plan())?;
    let client = Client::load(&dir, &args.keys)?;
    let asked = Asked {
        text: args.prompt.clone(),
        prompt: client.model.prompt(&args.prompt).map_err(Failure::input)?,
        max_tokens: args.max_tokens,
        sampling,
    };
    let made = runtime()?
        .block_on(async { client.generate(&args.server, asked, on_interrupt()).await })?;
    finish(made)
}

/// Refuses a prompt without text: nothing to continue, and what a model makes of nothing is rarely meant.
pub(super) fn check_text(prompt: &str) -> Result<(), Failure> {
    if prompt.is_empty() {
        return Err(Failure::Input(
            "--prompt is empty: give it some text to continue".into(),
        ));
    }
    Ok(())
}

/// Says how a generation went, and why it ended.
fn finish(made: Generation) -> Result<(), Failure> {
    let why = match made.stop {
        Stop::EndOfText => "the model ended the text",
        Stop::MaxTokens => "--max-tokens reached",
        Stop::Capacity => "the session is full; compile with a larger --context for longer texts",
        Stop::Interrupted => {
            return Err(Failure::Interrupted(summary(&made, "interrupted")));
        }
        Stop::Failed(error) => return Err(error.into()),
    };
    eprintln!("{}", summary(&made, why));
    Ok(())
}

fn summary(made: &Generation, why: &str) -> String {
    let trips = made.trips.len();
    let tokens = match made.tokens.len() {
        1 => "1 token".to_string(),
        tokens => format!("{tokens} tokens"),
    };
    if trips == 0 {
        return format!("{tokens}; {why}");
    }
    let blocks = made.blocks().map_or(String::new(), |(count, seconds)| {
        format!("; {seconds:.1} s for {count} tokens of the prompt together")
    });
    let each = made.per_token();
    let each = match each.len() {
        0 => String::new(),
        count => {
            let mean = each.iter().sum::<f64>() / count as f64;
            format!("; {mean:.1} s a token")
        }
    };
    format!("{tokens}{blocks}{each}; {why}")
}

/// What a user asks for.
pub(super) struct Asked {
    /// The prompt as it was typed, and as tokens.
    pub text: String,
    pub prompt: Vec<u32>,
    pub max_tokens: u32,
    pub sampling: Sampling,
}

/// Everything the client has: model ends, secret key, evaluation keys to send.
pub(super) struct Client {
    pub model: Arc<ClientModel>,
    sealer: CkksSealer,
    plan_digest: String,
    capacity: u32,
    evaluation: PathBuf,
}

impl Client {
    /// Loads the client's part of a plan and a key folder.
    pub fn load(dir: &PlanDir, keys: &Path) -> Result<Self, Failure> {
        let model = Arc::new(ClientModel::load(dir).map_err(Failure::input)?);
        let context = Context::new(dir.plan().params.clone()).map_err(Failure::input)?;
        let keyring = Keyring::at(keys);
        let secret = keyring.secret(&context).map_err(Failure::input)?;
        Ok(Self {
            sealer: CkksSealer::new(context, secret, model.clone()),
            model,
            plan_digest: dir.digest(),
            capacity: dir.plan().capacity,
            evaluation: keyring.evaluation(),
        })
    }

    /// Generates, streaming text to standard output and progress to standard error. Nothing is shown or sent of a prompt that
    /// does not fit.
    pub async fn generate(
        &self,
        server: &str,
        asked: Asked,
        interrupt: watch::Receiver<bool>,
    ) -> Result<Generation, Failure> {
        check_prompt(&asked.prompt, self.model.vocabulary(), self.capacity)?;
        let tokenizer = self.model.tokenizer().map_err(Failure::input)?;
        let (quit, interrupt) = either(interrupt);
        let mut screen = Screen::new(tokenizer, &asked.text, quit);
        let made = self.converse(server, asked, &mut screen, interrupt).await;
        // However it ended, what is said of it comes after the text.
        match (made, screen.end()) {
            // What could not be shown is why it was interrupted.
            (Ok(_) | Err(Failure::Interrupted(_)), Err(lost)) => Err(lost),
            (made, _) => made,
        }
    }

    async fn converse(
        &self,
        server: &str,
        asked: Asked,
        screen: &mut Screen<'_>,
        mut interrupt: watch::Receiver<bool>,
    ) -> Result<Generation, Failure> {
        let mut connection = tokio::select! {
            biased;
            () = told(&mut interrupt) => {
                return Err(Failure::Interrupted("interrupted before the first token".into()));
            }
            connection = self.connect(server, screen) => connection?,
        };
        let request = Request {
            prompt: asked.prompt,
            max_tokens: asked.max_tokens,
            sampling: asked.sampling,
            end: self.model.end().to_vec(),
        };
        screen.meter.in_steps();
        let made = generate(&mut connection, &self.sealer, &request, screen, interrupt).await;
        // However it ended, others wait for the place. A server that does not answer drops the session after it has idled.
        let _unanswered = tokio::time::timeout(PARTING, connection.close()).await;
        Ok(made?)
    }

    async fn connect(&self, server: &str, screen: &mut Screen<'_>) -> Result<Connection, Failure> {
        screen.meter.in_bytes();
        screen.meter.say("sending evaluation keys");
        let sent = screen
            .meter
            .reporter(|bytes| format!("sending {} of evaluation keys", human_bytes(bytes)));
        Ok(Connection::open(server, &self.plan_digest, &self.evaluation, sent).await?)
    }
}

/// A sender and a receiver of its own: true when either the sender or `interrupt` says so.
fn either(mut interrupt: watch::Receiver<bool>) -> (watch::Sender<bool>, watch::Receiver<bool>) {
    let (sender, receiver) = watch::channel(false);
    let ours = sender.clone();
    tokio::spawn(async move {
        told(&mut interrupt).await;
        ours.send_replace(true);
    });
    (sender, receiver)
}

/// Completes when the channel says true.
async fn told(interrupt: &mut watch::Receiver<bool>) {
    if interrupt.wait_for(|&now| now).await.is_err() {
        // Nobody can say so any more.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Trip;

    fn generation(trips: Vec<Trip>, stop: Stop) -> Generation {
        Generation {
            tokens: vec![],
            logits: vec![],
            trips,
            stop,
        }
    }

    #[test]
    fn round_trips_are_told_if_there_were_any() {
        let words = |trips| {
            finish(generation(trips, Stop::Interrupted))
                .unwrap_err()
                .to_string()
        };
        let trip = |block, seconds| Trip {
            block,
            seconds,
            bootstraps: 0,
        };
        assert_eq!(words(vec![]), "0 tokens; interrupted");
        assert_eq!(
            words(vec![trip(None, 1.0), trip(None, 2.0)]),
            "0 tokens; 1.5 s a token; interrupted"
        );
        assert_eq!(
            words(vec![trip(Some(7), 3.0), trip(None, 2.0)]),
            "0 tokens; 3.0 s for 7 tokens of the prompt together; 2.0 s a token; interrupted"
        );
    }

    #[test]
    fn an_interrupted_generation_is_no_success() {
        let failure = finish(generation(vec![], Stop::Interrupted)).unwrap_err();
        assert!(matches!(failure, Failure::Interrupted(_)));
        finish(generation(vec![], Stop::MaxTokens)).unwrap();
    }
}
