//! `sotto generate`.

use super::{Consent, Failure, Meter, on_interrupt, runtime};
use crate::client::{
    CkksSealer, ClientModel, Connection, Generation, Keyring, Listener, Request, Sampling, Stop,
    TextStream, check_prompt, generate,
};
use crate::plan::PlanDir;
use crate::proto::wire;
use sotto_ckks::Context;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long the end of a session may take.
const PARTING: Duration = Duration::from_secs(2);

/// Continue a prompt under encryption, with a server that `sotto serve` runs.
///
/// One round trip per token, prompt tokens included. Ctrl-C stops and keeps the text.
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
    #[arg(long, value_name = "N", default_value_t = 32)]
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
    let dir = PlanDir::open(&args.plan).map_err(Failure::input)?;
    args.consent.check(dir.plan())?;
    let client = Client::load(&dir, &args.keys)?;
    let asked = Asked {
        prompt: client.model.prompt(&args.prompt).map_err(Failure::input)?,
        max_tokens: args.max_tokens,
        sampling,
    };
    show(&args.prompt).map_err(Failure::Input)?;
    let made = runtime()?
        .block_on(async { client.generate(&args.server, asked, on_interrupt()).await })?;
    println!();
    if let Some(line) = summary(&made) {
        eprintln!("{line}");
    }
    match made.stop {
        Stop::Failed(error) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes text to standard output at once.
pub(super) fn show(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout();
    write!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|cause| format!("writing text: {cause}"))
}

fn summary(made: &Generation) -> Option<String> {
    let why = match &made.stop {
        Stop::EndOfText => "the model ended the text",
        Stop::MaxTokens => "--max-tokens reached",
        Stop::Capacity => "the session is full; compile with a larger --context for longer texts",
        Stop::Interrupted => "interrupted",
        Stop::Failed(_) => return None,
    };
    let trips = made.seconds.len().max(1) as f64;
    let mean = made.seconds.iter().sum::<f64>() / trips;
    Some(format!(
        "{} tokens; {mean:.1} s a round trip; {why}",
        made.tokens.len()
    ))
}

/// What a user asks for.
pub(super) struct Asked {
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

    /// Generates, streaming text to standard output and progress to standard error.
    pub async fn generate(
        &self,
        server: &str,
        asked: Asked,
        interrupt: watch::Receiver<bool>,
    ) -> Result<Generation, Failure> {
        check_prompt(&asked.prompt, self.model.vocabulary(), self.capacity)?;
        let tokenizer = self.model.tokenizer().map_err(Failure::input)?;
        let meter = Meter::bytes("sending evaluation keys");
        let mut connection = Connection::open(
            server,
            &self.plan_digest,
            &self.evaluation,
            move |done, all| {
                meter.set(done, all);
            },
        )
        .await?;
        let request = Request {
            prompt: asked.prompt,
            max_tokens: asked.max_tokens,
            sampling: asked.sampling,
            end: self.model.end().to_vec(),
        };
        let mut screen = Screen {
            meter: Meter::bar(0, "waiting"),
            text: TextStream::new(tokenizer),
        };
        let made = generate(
            &mut connection,
            &self.sealer,
            &request,
            &mut screen,
            interrupt,
        )
        .await;
        screen.end();
        // However it ended, others wait for the place. A server that does not answer drops the session after it has idled.
        let _unanswered = tokio::time::timeout(PARTING, connection.close()).await;
        Ok(made?)
    }
}

/// Shows a generation as it happens.
struct Screen<'t> {
    meter: Meter,
    text: TextStream<'t>,
}

impl Screen<'_> {
    fn show(&self, piece: Result<String, String>) {
        let shown = piece.and_then(|text| self.meter.aside(|| show(&text)));
        if let Err(cause) = shown {
            self.meter.println(&cause);
        }
    }

    fn end(mut self) {
        let rest = self.text.finish();
        self.show(rest);
    }
}

impl Listener for Screen<'_> {
    fn begins(&mut self, position: u32, prompt: u32) {
        let what = if position < prompt {
            format!("prompt token {} of {prompt}", position + 1)
        } else {
            format!("token {}", position + 1 - prompt)
        };
        self.meter.set(0, 0);
        self.meter.say(what);
    }

    fn progress(&mut self, progress: &wire::Progress) {
        self.meter.set(progress.done, progress.total);
        self.meter.say(match progress.total {
            // Nothing is computed yet.
            0 => progress.site.clone(),
            _ => format!("{}, {} bootstraps", progress.site, progress.bootstraps_done),
        });
    }

    fn token(&mut self, id: u32) {
        let piece = self.text.push(id);
        self.show(piece);
    }
}
