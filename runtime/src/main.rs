//! `sotto`: text from a language model that computes on ciphertexts.

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::{Shell, generate as script_of};
use sotto_runtime::commands::{
    bench, check, demo, eval, generate, keygen, keys, print_bytes, serve, traces,
};
use std::process::ExitCode;

/// Run compiled plans under encryption: generate keys, serve, generate text.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 success, 1 a check failed, 2 the command line or an input is wrong, 3 server or transport failed, 130 interrupted."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Keygen(keygen::Args),
    Keys(keys::Args),
    Serve(serve::Args),
    Generate(generate::Args),
    Check(check::Args),
    Eval(eval::Args),
    Trace(traces::Args),
    Bench(bench::Args),
    /// Print completions for a shell: source them, or put them where it looks for them.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Trace(args) => traces::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            script_of(shell, &mut Cli::command(), "sotto", &mut script);
            print_bytes(&script)
        }
    };
    outcome.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}
