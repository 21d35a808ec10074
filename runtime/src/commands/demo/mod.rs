//! `sotto demo`: everything once, on the bundled model.
//!
//! The demo runs what a user would: `sottoc reference`, `sottoc compile`, `keygen`, `serve` as a process of its own that is told
//! where plan and evaluation keys are and nothing else, and the client in this process.

mod children;
mod interrupt;
mod report;

use super::engines::{EngineArgs, EngineName};
use super::generate::{Asked, Client, check_text};
use super::traces::{Page, held_against};
use super::{Failure, keygen, print, runtime};
use crate::client::{ClientModel, Generation, Keyring, Sampling, Stop, Unfinished};
use crate::plan::PlanDir;
use children::{Compiler, ServerProcess};
use interrupt::Interrupt;
use report::{Peaks, Report, Seconds};
use sotto_ir::fidelity::{Fidelity, largest};
use sotto_ir::golden::Golden;
use std::path::{Path, PathBuf};
use std::time::Instant;
use tempfile::TempDir;

/// Errors beyond this are shown as a failed check, as in `sotto check`.
const TOLERANCE: f64 = 0.02;

/// Compile the bundled model, generate keys, start a server without the secret key, and generate text under encryption.
///
/// Ends with encrypted against float64. Exits 1 if the tokens differ, 130 if it was interrupted.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  sotto demo
  sotto demo --prompt \"The old king\" --tokens 8 --json")]
pub struct Args {
    /// Checkpoint directory.
    #[arg(long, value_name = "DIR", default_value = "models/tiny")]
    model: PathBuf,
    /// Text to continue.
    #[arg(long, default_value = "Once upon a time")]
    prompt: String,
    /// Tokens to generate.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,
    /// Text to calibrate ranges on [default: calibration.txt of the model, if it has one].
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Keep plan, keys and goldens in this folder [default: a temporary folder, removed at the end].
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Have the server write per-op times to this file; they are shown at the end beside what the plan predicts.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// End with one line of JSON on standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let started = Instant::now();
    check_text(&args.prompt)?;
    // before the minutes that come first
    match args.engine.backend {
        EngineName::Cpu => args.engine.card.unused()?,
        EngineName::Gpu => args.engine.card.check()?,
    }
    let compiler = Compiler::beside_us()?;
    let work = Workplace::make(args.keep.as_deref())?;
    let runtime = runtime()?;
    let unfinished = Unfinished::default();
    let interrupt = Interrupt::listen(&runtime, work.temporary(), &unfinished);
    let compiled = compile(args, &compiler, &work)?;
    let dir = PlanDir::open(&work.plan()).map_err(Failure::input)?;
    report::print_plan(dir.plan());
    let model = ClientModel::load(&dir).map_err(Failure::input)?;
    let prompt = model.prompt(&args.prompt).map_err(Failure::input)?;
    check_room(prompt.len(), args.tokens, dir.plan().capacity)?;

    let keygen_started = Instant::now();
    eprintln!("generating keys");
    keygen::generate(&dir, &work.keys(), &unfinished)?;
    let keygen_seconds = keygen_started.elapsed().as_secs_f64();

    let client = Client::load(&dir, &work.keys())?;
    eprintln!("starting the server, which gets the plan and the evaluation keys");
    let server = ServerProcess::start(
        &work.plan(),
        &Keyring::at(&work.keys()).evaluation(),
        args.trace.as_deref(),
        args.engine,
    )?;
    let asked = Asked {
        text: args.prompt.clone(),
        prompt: prompt.clone(),
        max_tokens: args.tokens,
        sampling: Sampling::GREEDY,
    };
    eprintln!("one encrypted round trip per token, prompt tokens included");
    let made = runtime.block_on(client.generate(server.address(), asked, interrupt.take_over()));
    interrupt.hand_back();
    let made = made?;
    let peaks = Peaks {
        client: crate::process::peak_memory(std::process::id()),
        server: server.peak_memory(),
    };
    drop(server);
    let made = to_judge(made, args.tokens)?;

    let truth = truth(args, &compiler, &work, &prompt, &made)?;
    let report = Report {
        plan: dir.plan(),
        text: text(&client, &made)?,
        made: &made,
        float64: truth.tokens,
        max_error_sigma: truth.max_error_sigma,
        seconds: Seconds {
            compile: compiled,
            keygen: keygen_seconds,
            total: started.elapsed().as_secs_f64(),
        },
        peaks,
    };
    let traced = args.trace.as_deref().map(|path| held_against(path, &dir));
    let traced = traced.transpose()?;
    let told = match &traced {
        Some(times) => print(format_args!("{report}\n{}", Page(times))),
        None => print(format_args!("{report}")),
    };
    let told = told.and_then(|()| match args.json {
        true => print(format_args!("{}\n", report.json())),
        false => Ok(()),
    });
    report.verdict(args.tokens).and(told)
}

/// Refuses more tokens than a session holds. The last one is never fed back.
fn check_room(prompt: usize, tokens: u32, capacity: u32) -> Result<(), Failure> {
    let most = (u64::from(capacity) + 1).saturating_sub(prompt as u64);
    if most == 0 {
        return Err(Failure::Input(format!(
            "--prompt has {prompt} tokens, the plan holds {capacity}: shorten it"
        )));
    }
    if u64::from(tokens) > most {
        return Err(Failure::Input(format!(
            "--tokens {tokens}: the plan holds {capacity} tokens and the prompt takes {prompt}; ask for at most {most}"
        )));
    }
    Ok(())
}

/// A generation that can be compared with float64: one that came to its own end.
fn to_judge(made: Generation, asked: u32) -> Result<Generation, Failure> {
    match made.stop {
        Stop::Failed(error) => Err(error.into()),
        Stop::Interrupted => Err(Failure::Interrupted(format!(
            "interrupted after {} of {asked} tokens; nothing was compared with float64",
            made.tokens.len()
        ))),
        Stop::EndOfText | Stop::MaxTokens | Stop::Capacity => Ok(made),
    }
}

/// Compiles the model into the workplace; returns the seconds it took.
fn compile(args: &Args, compiler: &Compiler, work: &Workplace) -> Result<f64, Failure> {
    let bundled = args.model.join("calibration.txt");
    let calibration = args
        .calibrate
        .clone()
        .or_else(|| bundled.is_file().then_some(bundled));
    eprintln!("compiling {}", args.model.display());
    let started = Instant::now();
    compiler.compile(&args.model, &work.plan(), calibration.as_deref())?;
    Ok(started.elapsed().as_secs_f64())
}

/// What float64 says about a generation.
struct Against {
    tokens: Vec<u32>,
    max_error_sigma: f64,
}

/// Asks the float64 reference twice: what it generates from the prompt, and its logits along the tokens that came back.
fn truth(
    args: &Args,
    compiler: &Compiler,
    work: &Workplace,
    prompt: &[u32],
    made: &Generation,
) -> Result<Against, Failure> {
    eprintln!("computing the same in float64");
    let count = made.tokens.len();
    let mut ids = prompt.to_vec();
    // The last new token was never fed back, so there are no logits after it to compare.
    ids.extend(made.tokens.iter().take(count.saturating_sub(1)));
    let golden = compiler.reference(&args.model, &ids, prompt.len(), count, work.path())?;
    let rows = (prompt.len() - 1..).map(|row| golden.logits.row(row));
    let compared = made.logits.iter().zip(rows);
    let errors: Vec<f64> = compared
        .map(|(logits, row)| Fidelity::of(logits, row).map(|f| f.error_sigma))
        .collect::<Result<_, _>>()
        .map_err(Failure::input)?;
    let tokens = continuation(&golden, prompt.len());
    Ok(Against {
        tokens,
        max_error_sigma: largest(errors),
    })
}

fn continuation(golden: &Golden, prompt: usize) -> Vec<u32> {
    golden.greedy_ids.iter().skip(prompt).copied().collect()
}

fn text(client: &Client, made: &Generation) -> Result<String, Failure> {
    let tokenizer = client.model.tokenizer().map_err(Failure::input)?;
    tokenizer
        .decode(&made.tokens, true)
        .map_err(|cause| Failure::Input(format!("decoding tokens: {cause}")))
}

/// The demo's folder. A temporary one is removed when this is dropped, keys included.
enum Workplace {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Workplace {
    fn make(keep: Option<&Path>) -> Result<Self, Failure> {
        let failed = |cause: std::io::Error| {
            Failure::Input(format!(
                "cannot make a folder to work in: {cause}; choose one with --keep DIR"
            ))
        };
        match keep {
            Some(dir) => {
                std::fs::create_dir_all(dir).map_err(failed)?;
                Ok(Self::Kept(dir.to_path_buf()))
            }
            None => {
                let made = tempfile::Builder::new().prefix("sotto-demo-").tempdir();
                Ok(Self::Temporary(made.map_err(failed)?))
            }
        }
    }

    /// The folder, if it is to be removed.
    fn temporary(&self) -> Option<&Path> {
        match self {
            Self::Kept(_) => None,
            Self::Temporary(dir) => Some(dir.path()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }

    fn plan(&self) -> PathBuf {
        self.path().join("plan")
    }

    fn keys(&self) -> PathBuf {
        self.path().join("keys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(tokens: Vec<u32>, stop: Stop) -> Generation {
        Generation {
            tokens,
            logits: vec![],
            trips: vec![],
            stop,
        }
    }

    #[test]
    fn more_tokens_than_a_session_holds_are_refused() {
        check_room(4, 253, 256).unwrap();
        check_room(256, 1, 256).unwrap();
        let refused = |prompt, tokens| check_room(prompt, tokens, 256).unwrap_err().to_string();
        let said = refused(4, 1000);
        assert!(
            said.contains("--tokens 1000") && said.contains("at most 253"),
            "{said}"
        );
        assert!(refused(257, 1).contains("--prompt has 257"));
    }

    #[test]
    fn an_interrupted_demo_is_no_success() {
        for tokens in [vec![], vec![7]] {
            let words = format!("after {} of 5", tokens.len());
            let failure = to_judge(generation(tokens, Stop::Interrupted), 5).unwrap_err();
            assert!(matches!(failure, Failure::Interrupted(_)), "{failure}");
            assert!(failure.to_string().contains(&words), "{failure}");
        }
        let made = to_judge(generation(vec![7], Stop::EndOfText), 5).unwrap();
        assert_eq!(made.tokens, [7]);
    }
}
