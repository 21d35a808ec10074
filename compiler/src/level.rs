//! From packed to plan: which kinds of bootstrap to offer, then placement and emission.
//!
//! Every slot count in use costs rotation keys at the top of the chain, a hundred megabytes each, so the kinds are chosen too: every
//! set of a few slot counts is placed, and among the placements nearly as fast as the fastest the one with the fewest key bytes wins.

use crate::emit::{EmitError, Emitted, emit};
use crate::place::{Options, PlaceError, RefreshKind, Report, Target, place};
use miette::Diagnostic;
use sotto_ir::Violations;
use sotto_ir::cost::{CostError, CostTable};
use sotto_ir::params::ParamSet;
use sotto_ir::params::bootstrap::{BootstrapError, BootstrapSpec};
use sotto_ir::plan::PlanProgram;
use sotto_ir::slot::{BootstrapKind, LevelRules, Leveled, Packed, Program, ValueType};
use std::collections::BTreeSet;
use thiserror::Error;

/// Most slot counts that one plan bootstraps.
const MAX_SLOT_COUNTS: usize = 2;

/// What is wanted of a placement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Most bytes that the server may need.
    pub memory: Option<u64>,
    /// A placement slower than the fastest by this share is still chosen if it needs fewer key bytes.
    pub slowdown: f64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            memory: None,
            slowdown: 0.03,
        }
    }
}

/// A placed program with all that follows from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// The leveled stage.
    pub program: Program<Leveled>,
    /// What emission makes of it.
    pub emitted: Emitted,
    /// Search effort and prediction.
    pub report: Report,
    /// Every set of slot counts tried.
    pub tried: Vec<Trial>,
}

/// One set of slot counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Slot counts of the bootstraps on offer.
    pub slots: Vec<u32>,
    /// Predicted seconds per token and key bytes; `None` where no placement is legal.
    pub result: Option<(f64, u64)>,
}

/// Why no leveled program came out.
#[derive(Clone, Debug, PartialEq, Error, Diagnostic)]
pub enum LevelError {
    /// No legal placement.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Place(#[from] PlaceError),
    /// Emission failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Emit(#[from] EmitError),
    /// The parameter set has no such bootstrap.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The cost table is unusable.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cost(#[from] CostError),
    /// A placement that breaks the rules of levels.
    #[error("{0}; this is a defect of the compiler")]
    #[diagnostic(code(level::illegal))]
    Illegal(Violations),
    /// Placements exist, but none fits the memory.
    #[error(
        "the plan needs at least {:.2} GiB on the server ({needed} bytes), more than the {:.2} GiB allowed; allow more, or compile with a smaller context; a stage file has decided what saves memory: begin before it",
        gib(*needed), gib(*limit)
    )]
    #[diagnostic(code(level::memory))]
    Memory {
        /// Least peak memory found.
        needed: u64,
        /// Limit asked for.
        limit: u64,
    },
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 30)
}

/// Places and emits `program`, which shares keys with those `beside` it, as `wanted`. Same input, same result.
pub fn level(
    program: &Program<Packed>,
    params: &ParamSet,
    table: &CostTable,
    options: &Options,
    wanted: Wanted,
    beside: &[&PlanProgram],
) -> Result<Level, LevelError> {
    let mut tried = Vec::new();
    let mut found: Vec<(Program<Leveled>, Emitted, Report)> = Vec::new();
    let mut refused = None;
    for slots in slot_sets(program) {
        let target = target(program, params, &slots)?;
        match place(program, &target, table, options) {
            Ok((leveled, report)) => {
                let emitted = emit(&leveled, params, table, beside)?;
                let e = &emitted.estimate;
                tried.push(Trial {
                    slots,
                    result: Some((e.seconds, e.key_bytes)),
                });
                found.push((leveled, emitted, report));
            }
            // The widest sets come last and can do whatever the others can: their refusal is the one to report.
            Err(error) => {
                tried.push(Trial {
                    slots,
                    result: None,
                });
                refused = Some(error);
            }
        }
    }
    let needed = found.iter().map(|f| f.1.estimate.peak_memory_bytes).min();
    if let (Some(needed), Some(limit)) = (needed, wanted.memory) {
        if needed > limit {
            return Err(LevelError::Memory { needed, limit });
        }
        found.retain(|f| f.1.estimate.peak_memory_bytes <= limit);
    }
    let fastest = found
        .iter()
        .map(|f| f.1.estimate.seconds)
        .fold(f64::INFINITY, f64::min);
    let fast = |f: &&(_, Emitted, _)| f.1.estimate.seconds <= fastest * (1.0 + wanted.slowdown);
    let fewer = |f: &&(_, Emitted, _), g: &&(_, Emitted, _)| {
        let (f, g) = (&f.1.estimate, &g.1.estimate);
        let bytes = f.key_bytes.cmp(&g.key_bytes);
        bytes.then(f.seconds.total_cmp(&g.seconds))
    };
    let best = found.iter().filter(fast).min_by(fewer).cloned();
    match (best, refused) {
        (Some((program, emitted, report)), _) => {
            let rules = LevelRules {
                top: params.top_app_level() as u32,
                bootstraps: &emitted.bootstraps,
            };
            program.verify(&rules).map_err(LevelError::Illegal)?;
            Ok(Level {
                program,
                emitted,
                report,
                tried,
            })
        }
        (None, Some(error)) => Err(error.into()),
        (None, None) => Err(PlaceError::Steps {
            program: program.name.clone(),
            what: "it has no values".into(),
        }
        .into()),
    }
}

/// Types of all values of a program.
fn types(program: &Program<Packed>) -> impl Iterator<Item = &ValueType> {
    program.templates.iter().flat_map(|t| {
        t.nodes
            .iter()
            .flat_map(|n| &n.types)
            .chain(t.params.iter().map(|p| &p.ty))
    })
}

/// Sets of slot counts to try, narrow ones first: every set of at most [`MAX_SLOT_COUNTS`] periods that values have.
fn slot_sets(program: &Program<Packed>) -> Vec<Vec<u32>> {
    let periods: BTreeSet<u32> = types(program).map(|ty| ty.layout.period()).collect();
    let periods: Vec<u32> = periods.into_iter().collect();
    let mut sets: Vec<Vec<u32>> = vec![vec![]];
    let mut grown = 0;
    for _ in 0..MAX_SLOT_COUNTS {
        let more: Vec<Vec<u32>> = sets[grown..]
            .iter()
            .flat_map(|set| {
                let above = periods.iter().filter(|p| set.last().is_none_or(|l| *p > l));
                above.map(|p| [&set[..], &[*p]].concat())
            })
            .collect();
        grown = sets.len();
        sets.extend(more);
    }
    sets
}

/// The placement target that offers bootstraps of these slot counts; complex ones only if the program has complex values.
pub fn target(
    program: &Program<Packed>,
    params: &ParamSet,
    slots: &[u32],
) -> Result<Target, BootstrapError> {
    let complex = types(program).any(|ty| ty.complex);
    let mut refreshes = Vec::new();
    for &slots in slots {
        for complex in [false, true].into_iter().filter(|c| complex || !*c) {
            let spec = BootstrapSpec::new(params, slots as usize, complex)?;
            refreshes.push(RefreshKind {
                kind: BootstrapKind { slots, complex },
                input_level: spec.input_level as u32,
            });
        }
    }
    Ok(Target {
        top: params.top_app_level() as u32,
        refreshes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::synthetic;

    fn run(memory: Option<u64>) -> Result<Level, LevelError> {
        let params = ParamSet::secure_128();
        let table = crate::cost::of(&params).unwrap();
        let program = synthetic::decoder(1 << 15, 512, 2);
        let wanted = Wanted {
            memory,
            ..Wanted::default()
        };
        level(&program, &params, &table, &Options::default(), wanted, &[])
    }

    #[test]
    fn the_choice_is_nearly_the_fastest_and_fits_the_memory() {
        let free = run(None).unwrap();
        // Periods 1, 128 and 2^15: the empty set, three alone, three pairs.
        assert_eq!(free.tried.len(), 7);
        let seconds = |t: &Trial| t.result.map(|r| r.0);
        let fastest = free
            .tried
            .iter()
            .filter_map(seconds)
            .fold(f64::INFINITY, f64::min);
        let chosen = &free.emitted.estimate;
        assert!(chosen.seconds <= fastest * (1.0 + Wanted::default().slowdown));
        let cheaper = |t: &Trial| {
            t.result.is_some_and(|(s, keys)| {
                s <= fastest * (1.0 + Wanted::default().slowdown) && keys < chosen.key_bytes
            })
        };
        assert!(!free.tried.iter().any(cheaper), "{:?}", free.tried);

        let exactly = run(Some(chosen.peak_memory_bytes)).unwrap();
        assert_eq!(exactly.program, free.program);
        match run(Some(1 << 30)) {
            Err(LevelError::Memory { needed, limit }) => {
                assert_eq!(limit, 1 << 30);
                assert!(needed > limit && needed <= chosen.peak_memory_bytes);
                assert!(
                    run(Some(needed))
                        .unwrap()
                        .emitted
                        .estimate
                        .peak_memory_bytes
                        == needed
                );
            }
            other => panic!("{other:?}"),
        }
    }
}
