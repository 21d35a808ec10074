//! `sottoc`: compile a decoder checkpoint to an encrypted plan.
//!
//! Exit codes: 0 success, 1 a check failed, 2 the command line or an input is wrong.

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::{Shell, generate};
use sotto_compiler::commands::{
    ablate, compare, compile, estimate, explain, import, inspect, print_bytes, reference, report,
    verify,
};
use std::process::ExitCode;

/// Compile a Llama or GPT-2 decoder into a plan that the sotto runtime executes under encryption.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 success, 1 a check failed, 2 the command line or an input is wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Compile(compile::Args),
    Compare(compare::Args),
    Ablate(ablate::Args),
    Estimate(estimate::Args),
    Explain(explain::Args),
    Import(import::Args),
    Inspect(inspect::Args),
    Reference(reference::Args),
    Report(report::Args),
    Verify(verify::Args),
    /// Print completions for a shell: source them, or put them where it looks for them.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Compile(args) => compile::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Ablate(args) => ablate::run(&args),
        Command::Estimate(args) => estimate::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Reference(args) => reference::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            generate(shell, &mut Cli::command(), "sottoc", &mut script);
            print_bytes(&script)
        }
    };
    outcome.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}
