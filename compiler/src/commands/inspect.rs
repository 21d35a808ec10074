//! `sottoc inspect`.

use super::{Failure, json, print};
use crate::driver::Stage;
use crate::inspect::{ProgramPage, Wanted, dot, narrow, page, stage_name, text};
use crate::view::read;
use miette::Diagnostic;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Show a plan or a stage file: what it is, its programs and templates, and by site levels, ranges, units and layouts.
///
/// With --template or --site, every operation of that part. Weights are named by tensor and digest, never printed.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 success, 2 it cannot be read, or has no such part.

Examples:
  sottoc inspect tiny.plan | less
  sottoc inspect tiny.plan --site layers.1.mlp.up_proj
  sottoc inspect dumps --stage leveled --program decode --template final --dot | dot -Tsvg -o final.svg
  sottoc inspect dumps/02.packed.decode.txt --json"
)]
pub struct Args {
    /// A plan directory, a stage file, or with --stage a directory that `sottoc compile --dump-dir` wrote.
    path: PathBuf,
    /// Which stage of a directory of dumps.
    #[arg(long, value_enum)]
    stage: Option<Stage>,
    /// Only one program: decode or prefill.
    #[arg(long, value_name = "NAME")]
    program: Option<String>,
    /// Only one template, with every operation.
    #[arg(long, value_name = "NAME")]
    template: Option<String>,
    /// Only one site and those below it, with every operation; a layer's number or {i} for all.
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Print a graph of the one template for Graphviz.
    #[arg(long, conflicts_with = "json")]
    dot: bool,
    /// Print one object of JSON.
    #[arg(long)]
    json: bool,
}

/// Why there is nothing to show.
#[derive(Debug, Error, Diagnostic)]
enum Unshown {
    /// No such file among the dumps.
    #[error("{path}: no {stage} stage there; `sottoc compile --dump-dir` writes them")]
    #[diagnostic(code(inspect::no_dump))]
    NoDump { path: PathBuf, stage: &'static str },
    /// A golden file.
    #[error("{0}: a golden file holds vectors, not a program; `sottoc compare` reads it")]
    #[diagnostic(code(inspect::golden))]
    Golden(PathBuf),
    /// Too much for one graph.
    #[error(
        "--dot draws one template of one program; name them with --program and --template: {0}"
    )]
    #[diagnostic(code(inspect::several))]
    Several(String),
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let path = dumped(args)?;
    let page = page(&read(&path)?).ok_or(Unshown::Golden(path))?;
    let wanted = Wanted {
        program: args.program.as_deref(),
        template: args.template.as_deref(),
        site: args.site.as_deref(),
    };
    let page = narrow(page, &wanted)?;
    if args.json {
        return print(format_args!("{}\n", json(&page)?));
    }
    if !args.dot {
        return print(format_args!("{}", text(&page)));
    }
    let templates: Vec<_> = page.programs.iter().flat_map(|p| &p.templates).collect();
    match templates[..] {
        [one] => print(format_args!("{}", dot(one))),
        _ => {
            let programs = page.programs.iter();
            let of = |p: &ProgramPage| -> Vec<String> {
                let templates = p.templates.iter();
                templates
                    .map(|t| format!("{} of {}", t.name, p.name))
                    .collect()
            };
            let names: Vec<String> = programs.flat_map(of).collect();
            Err(Unshown::Several(names.join(", ")).into())
        }
    }
}

/// The file among dumps, or the path itself.
fn dumped(args: &Args) -> Result<PathBuf, Unshown> {
    let Some(stage) = args.stage else {
        return Ok(args.path.clone());
    };
    let stage = stage_name(stage);
    let program = args.program.as_deref().unwrap_or("decode");
    let found = |name: String| Some(args.path.join(name)).filter(|p: &PathBuf| p.is_file());
    let names = ["01", "02", "03"].into_iter().flat_map(|n| {
        [
            format!("{n}.{stage}.txt"),
            format!("{n}.{stage}.{program}.txt"),
        ]
    });
    let mut files = names.filter_map(found);
    files.next().ok_or_else(|| Unshown::NoDump {
        path: Path::new(&args.path).into(),
        stage,
    })
}
