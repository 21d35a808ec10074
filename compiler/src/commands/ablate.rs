//! `sottoc ablate`.

use super::{Failure, meter::Meter, print, source};
use crate::driver::{News, Placed, Planning};
use crate::place::Strategy;
use crate::search::{Alternative, Guidance};
use serde_json::json;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Estimate;
use std::path::PathBuf;

/// Say what each alternative of the search is worth, and what its placement: the plan without it, priced like the plan with all.
///
/// Rows after these place the same packed program as published placers do, under the same rules and prices; the last one places the
/// program without any alternative as Orion does, which is near to what a fixed recipe gives. All rows are of decode alone.
#[derive(clap::Args, Debug)]
#[command(after_help = "Exit codes: 0 success, 2 no such model or preset.

Examples:
  sottoc ablate models/tiny
  sottoc ablate --preset llama-3-8b --context 512
  sottoc ablate --preset tinyllama-1.1b --json")]
pub struct Args {
    #[command(flatten)]
    subject: source::Subject,
    /// Prices of a machine, as `sotto bench --cost-table` measures them.
    #[arg(long, value_name = "FILE")]
    cost_table: Option<PathBuf>,
    /// One line of JSON for each row.
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
pub fn run(args: &Args) -> Result<(), Failure> {
    let planning = planning(args)?;
    let source = args.subject.source()?;
    let without = without();
    let total = 2 + without.len() + Strategy::COMPARATORS.len();
    let mut meter = Meter::new();
    let mut planned = 0;
    let mut table = Table::new(args.json, planning.options.slots)?;

    let subject = source.subject(&planning, &mut |news| quietly(news, &mut meter))?;
    let mut next = || {
        let what = "planning";
        let done = planned;
        meter.hear(News::Doing { what, done, total });
        planned += 1;
    };
    let draft = |without: &[Alternative]| {
        let guidance = Guidance {
            without: without.to_vec(),
            ..Guidance::default()
        };
        subject.draft(&guidance, &mut |_| ())
    };
    next();
    let all = draft(&[])?;
    table.row("everything", &subject.place(&all, Strategy::Ours)?)?;
    for (name, without) in without {
        next();
        table.row(&name, &subject.place(&draft(&without)?, Strategy::Ours)?)?;
    }
    for strategy in Strategy::COMPARATORS {
        next();
        let name = format!("placed by {}", strategy.name());
        table.row(&name, &subject.place(&all, strategy)?)?;
    }
    next();
    let none = draft(&Alternative::ALL)?;
    let name = "without any, placed by orion";
    table.row(name, &subject.place(&none, Strategy::Orion)?)
}

/// Decode alone, as fast as can be whatever its keys, priced as asked.
fn planning(args: &Args) -> Result<Planning, Failure> {
    let mut planning = Planning::new(ParamSet::secure_128(), args.subject.context()?);
    planning.options.block = Some(1);
    planning.wanted.slowdown = 0.0;
    planning.cost_table = args.cost_table.clone();
    Ok(planning)
}

/// Shows how far long work is, but not what it found.
fn quietly(news: News<'_>, meter: &mut Meter) {
    if let News::Doing { .. } = news {
        meter.hear(news);
    }
}

/// The families of rules to do without, one at a time and all together, with the names of their rows.
fn without() -> Vec<(String, Vec<Alternative>)> {
    let mut rows: Vec<_> = Alternative::ALL
        .map(|one| (format!("without {}", one.name()), vec![one]))
        .into();
    rows.push(("without any of them".into(), Alternative::ALL.to_vec()));
    rows
}

/// The table on standard output, row by row.
struct Table {
    json: bool,
    /// Slots of the ring, all of which a dense bootstrap refreshes.
    slots: u32,
    /// Seconds of the first row.
    first: Option<f64>,
}

impl Table {
    /// Prints the head.
    fn new(json: bool, slots: u32) -> Result<Self, Failure> {
        if !json {
            print(format_args!(
                "{:<36} {:>9} {:>6}  {:^19}  {:>8} {:>10}\n{:<36} {:>9} {:>6}  {:>9} {:>9}  {:>8} {:>10}\n",
                "",
                "",
                "",
                "bootstraps",
                "",
                "",
                "",
                "s a token",
                "ratio",
                "dense",
                "sparse",
                "keys GiB",
                "memory GiB"
            ))?;
        }
        Ok(Self {
            json,
            slots,
            first: None,
        })
    }

    fn row(&mut self, name: &str, found: &Placed) -> Result<(), Failure> {
        let e = &found.emitted.estimate;
        let ratio = e.seconds / *self.first.get_or_insert(e.seconds);
        if self.json {
            let line = json!({
                "plan": name,
                "seconds": e.seconds,
                "ratio": ratio,
                "bootstraps": e.bootstraps,
                "key_bytes": e.key_bytes,
                "peak_memory_bytes": e.peak_memory_bytes,
            });
            return print(format_args!("{line}\n"));
        }
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        print(format_args!(
            "{name:<36} {:>9.1} {ratio:>6.2}  {:>9} {:>9}  {:>8.2} {:>10.2}\n",
            e.seconds,
            kinds(e, |slots| slots == self.slots),
            kinds(e, |slots| slots < self.slots),
            gib(e.key_bytes),
            gib(e.peak_memory_bytes)
        ))
    }
}

/// Bootstraps a token on slot counts of which `of` holds: real ones, and after a plus complex ones.
fn kinds(e: &Estimate, of: impl Fn(u32) -> bool) -> String {
    let count = |complex: bool| -> u32 {
        let kind = e.bootstraps.iter().filter(|b| of(b.kind.slots));
        let kind = kind.filter(|b| b.kind.complex == complex);
        kind.map(|b| b.count).sum()
    };
    format!("{}+{}i", count(false), count(true))
}
