//! Joining the steps: at which level each run takes its parameters and hands on its results.
//!
//! All parameters of a template share one *entry* level and all results one *exit* level. A step that repeats needs exit = entry,
//! so its level is a fixed point; its first and its last run may be placed on their own (the first takes what the client sent at
//! any level it likes, the last may serve a cheaper successor), each a template more in the plan, so only if that saves a
//! hundredth of a run. One pass from the last step to the first over the exit levels finds the cheapest chain.

use super::placement::Placement;
use super::region::{Region, flatten};
use super::table::Table;
use super::{Options, PlaceError, Report, Target};
use crate::cost::Prices;
use sotto_ir::slot::{Packed, Program, StateId};
use std::collections::{BTreeMap, BTreeSet};

/// A layer placed on its own must save this part of a run.
const PEEL_GAIN: u64 = 100;

/// One template placed between an entry and an exit level.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Index into the packed program's templates.
    pub template: usize,
    /// Level of the parameters.
    pub entry: u32,
    /// Level of the results.
    pub exit: u32,
    /// Everything decided inside.
    pub placement: Placement,
    /// Nanoseconds of one run.
    pub cost: u64,
}

/// Runs of one placed template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index into [`Chain::placed`].
    pub placed: usize,
    /// First layer.
    pub first: u32,
    /// Layers.
    pub count: u32,
}

/// A placed program, before it is written down.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Flattened templates, by template index.
    pub regions: BTreeMap<usize, Region>,
    /// Templates with their placements, in order of first use.
    pub placed: Vec<Placed>,
    /// Execution order.
    pub runs: Vec<Run>,
    cut: bool,
    widest: usize,
}

impl Chain {
    /// Storage levels that the placed templates chose, by state.
    pub fn state_levels(&self) -> BTreeMap<StateId, BTreeSet<u32>> {
        let mut levels: BTreeMap<StateId, BTreeSet<u32>> = BTreeMap::new();
        for placed in &self.placed {
            for (state, cell) in &self.regions[&placed.template].cells {
                let levels = levels.entry(*state).or_default();
                levels.extend(placed.placement.level[*cell]);
                // a matrix is read where it is stored: dropping it would take each of its ciphertexts
                let readers = self.regions[&placed.template].readers_of_matrix(*cell);
                levels.extend(readers.filter_map(|n| placed.placement.operands_at[n]));
            }
        }
        levels
    }

    /// Cost and search effort.
    pub fn report(&self) -> Report {
        Report {
            nanos: self
                .runs
                .iter()
                .map(|r| self.placed[r.placed].cost * u64::from(r.count))
                .sum(),
            cut: self.cut,
            widest: self.widest,
        }
    }
}

/// How one step runs from an entry level: the levels between its runs, `levels[0]` the entry.
#[derive(Clone, Debug)]
struct Way {
    cost: u64,
    /// (entry, exit, runs) in order.
    parts: Vec<(u32, u32, u32)>,
    exit: u32,
}

/// Finds the cheapest chain of placements.
pub fn solve(
    program: &Program<Packed>,
    target: &Target,
    prices: &dyn Prices,
    options: &Options,
) -> Result<Chain, PlaceError> {
    let tables = tables(program, target, prices, options)?;
    let levels = target.top as usize + 1;
    // rest[e]: cheapest way from a value at level e to the client, after the steps seen so far.
    let mut rest: Vec<Option<u64>> = vec![Some(0); levels];
    let mut ways: Vec<Vec<Option<Way>>> = Vec::new();
    for (s, step) in program.steps.iter().enumerate().rev() {
        let table = &tables[&step.template];
        let found: Vec<Option<Way>> = (0..levels as u32)
            .map(|e| best_way(table, e, step.count, &rest))
            .collect();
        if found.iter().all(Option::is_none) {
            return Err(stuck(table, s, target.top));
        }
        let total = |w: &Way| rest[w.exit as usize].map(|r| w.cost + r);
        let totals = found.iter().map(|w| w.as_ref().and_then(total)).collect();
        rest = totals;
        ways.push(found);
    }
    ways.reverse();
    let entry = (0..levels)
        .filter_map(|e| rest[e].map(|cost| (cost, e)))
        .min();
    let (_, mut entry) = entry.ok_or_else(|| steps_error(program, "it has no placement"))?;
    let mut chain = Chain {
        regions: BTreeMap::new(),
        placed: Vec::new(),
        runs: Vec::new(),
        cut: false,
        widest: 1,
    };
    for (step, by_entry) in program.steps.iter().zip(&ways) {
        let Some(way) = &by_entry[entry] else {
            return Err(steps_error(
                program,
                "a step cannot take its predecessor's results",
            ));
        };
        chain.add(step.template, step.first, way, &tables[&step.template]);
        entry = way.exit as usize;
    }
    for (template, table) in tables {
        let (cut, widest) = table.effort();
        chain.cut |= cut;
        chain.widest = chain.widest.max(widest);
        chain.regions.insert(template, table.region);
    }
    Ok(chain)
}

fn tables(
    program: &Program<Packed>,
    target: &Target,
    prices: &dyn Prices,
    options: &Options,
) -> Result<BTreeMap<usize, Table>, PlaceError> {
    let mut tables = BTreeMap::new();
    let mut width = None;
    for (s, step) in program.steps.iter().enumerate() {
        let template = program
            .templates
            .get(step.template)
            .ok_or_else(|| steps_error(program, &format!("step {s} names no template")))?;
        let repeats = step.count > 1 && template.params.len() != template.results.len();
        if repeats || width.is_some_and(|w| w != template.params.len()) || step.count == 0 {
            let what = format!(
                "step {s}: `{}` takes {} values, which is not what the run before it returns",
                template.name,
                template.params.len()
            );
            return Err(steps_error(program, &what));
        }
        width = Some(template.results.len());
        if tables.contains_key(&step.template) {
            continue;
        }
        let region = flatten(program, step.template, target, prices, options)?;
        // layers often differ in data alone
        let known = tables
            .values()
            .find_map(|table: &Table| table.serves(&region));
        let table = known.unwrap_or_else(|| Table::new(region, target.top, options));
        tables.insert(step.template, table);
    }
    if width.is_none() {
        return Err(steps_error(program, "it has no steps"));
    }
    Ok(tables)
}

/// The cheapest way to run `count` layers from `entry`, given the price of what follows.
fn best_way(table: &Table, entry: u32, count: u32, rest: &[Option<u64>]) -> Option<Way> {
    let after = |exit: u32| rest[exit as usize];
    let mut best: Option<(u64, Way)> = None;
    let mut offer = |peeled: u64, way: Way| {
        let Some(tail) = after(way.exit) else { return };
        let penalty = peeled * way.cost / u64::from(count) / PEEL_GAIN;
        let total = way.cost + tail + penalty;
        if best.as_ref().is_none_or(|(cost, _)| total < *cost) {
            best = Some((total, way));
        }
    };
    if count == 1 {
        for (exit, cost) in table.exits(entry) {
            let parts = vec![(entry, exit, 1)];
            offer(0, Way { cost, parts, exit });
        }
        return best.map(|(_, way)| way);
    }
    let lasts = |m: u32| table.exits(m).collect::<Vec<_>>();
    let n = u64::from(count);
    for (m, first) in table.exits(entry) {
        let Some(body) = table.best(m, m) else {
            continue;
        };
        if m == entry {
            let parts = vec![(m, m, count)];
            offer(
                0,
                Way {
                    cost: body * n,
                    parts,
                    exit: m,
                },
            );
        } else {
            let parts = vec![(entry, m, 1), (m, m, count - 1)];
            offer(
                1,
                Way {
                    cost: first + body * (n - 1),
                    parts,
                    exit: m,
                },
            );
        }
        for (exit, last) in lasts(m) {
            if exit == m {
                continue;
            }
            if m == entry {
                let parts = vec![(m, m, count - 1), (m, exit, 1)];
                offer(
                    1,
                    Way {
                        cost: body * (n - 1) + last,
                        parts,
                        exit,
                    },
                );
            } else if count == 2 {
                let parts = vec![(entry, m, 1), (m, exit, 1)];
                offer(
                    2,
                    Way {
                        cost: first + last,
                        parts,
                        exit,
                    },
                );
            } else {
                let parts = vec![(entry, m, 1), (m, m, count - 2), (m, exit, 1)];
                offer(
                    2,
                    Way {
                        cost: first + body * (n - 2) + last,
                        parts,
                        exit,
                    },
                );
            }
        }
    }
    best.map(|(_, way)| way)
}

impl Chain {
    fn add(&mut self, template: usize, first: u32, way: &Way, table: &Table) {
        let mut layer = first;
        for &(entry, exit, count) in &way.parts {
            let known = self
                .placed
                .iter()
                .position(|p| (p.template, p.entry, p.exit) == (template, entry, exit));
            let placed = known.or_else(|| {
                let (cost, placement) = table.placement(entry, exit)?;
                self.placed.push(Placed {
                    template,
                    entry,
                    exit,
                    placement,
                    cost,
                });
                Some(self.placed.len() - 1)
            });
            if let Some(placed) = placed {
                self.runs.push(Run {
                    placed,
                    first: layer,
                    count,
                });
            }
            layer += count;
        }
    }
}

fn stuck(table: &Table, step: usize, top: u32) -> PlaceError {
    let template = table.region.name.clone();
    match table.stuck_at() {
        Some(node) => PlaceError::NoPlacement {
            template,
            site: table.region.sites.get(node).cloned().unwrap_or_default(),
            top,
        },
        None => PlaceError::NoBoundary { step, template },
    }
}

fn steps_error(program: &Program<Packed>, what: &str) -> PlaceError {
    PlaceError::Steps {
        program: program.name.clone(),
        what: what.to_string(),
    }
}
