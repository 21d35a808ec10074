//! `sotto`: text from a language model that computes on ciphertexts.

use clap::{Parser, Subcommand};
use sotto_runtime::commands::{bench, check, demo, eval, generate, keygen, serve};
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
    Serve(serve::Args),
    Generate(generate::Args),
    Check(check::Args),
    Eval(eval::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    outcome.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}
