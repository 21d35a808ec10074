//! Predicted time per token.
//!
//! Loops over groups count with the groups they visit when the KV state is half full, the mean over a full context; in a program that
//! takes a prompt's blocks, with those that the first block visits.

use super::EmitError;
use super::counts::{Counts, encodes, plaintexts};
use super::keys::operand_levels;
use crate::cost::{self, Work};
use crate::place::groups_at_capacity;
use sotto_ir::cost::CostTable;
use sotto_ir::plan::{BootstrapCount, Buf, Charge, Cost, Estimate, PlanProgram, Prices, charges};
use sotto_ir::slot::{BootstrapKind, Op};
use std::collections::BTreeMap;

/// Time and counts of a program; memory is left at zero.
pub fn estimate(
    program: &PlanProgram,
    capacity: u32,
    table: &CostTable,
) -> Result<Estimate, EmitError> {
    let prices: Vec<Prices> = (0..program.templates.len())
        .map(|index| prices(program, index, capacity, table))
        .collect::<Result<_, _>>()?;
    let mut tally = Tally::default();
    let groups = |template: usize, index: usize| prices[template].groups(index);
    for step in &program.steps {
        exists(program, step.template)?;
        charges(program, &prices, step.template, &groups, &mut |charge| {
            tally.add(charge, step.count);
        });
    }
    let mut op_classes: Vec<Cost> = tally.classes.into_values().collect();
    op_classes.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let bootstraps = tally.bootstraps.into_iter();
    Ok(Estimate {
        seconds: tally.sites.iter().map(|s| s.seconds).sum(),
        cost_table: table.name.clone(),
        cost_table_digest: table.digest()?,
        yardstick_seconds: table.yardstick_seconds,
        threads: table.threads,
        op_classes,
        sites: tally.sites,
        bootstraps: bootstraps
            .map(|(kind, count)| BootstrapCount { kind, count })
            .collect(),
        prices,
        ..Estimate::default()
    })
}

/// Seconds of one run of a template.
pub fn template_seconds(
    program: &PlanProgram,
    index: usize,
    capacity: u32,
    table: &CostTable,
) -> Result<f64, EmitError> {
    let prices: Vec<Prices> = (0..program.templates.len())
        .map(|index| prices(program, index, capacity, table))
        .collect::<Result<_, _>>()?;
    let groups = |template: usize, index: usize| prices[template].groups(index);
    let mut seconds = 0.0;
    charges(program, &prices, index, &groups, &mut |charge| {
        seconds += charge.total();
    });
    Ok(seconds)
}

fn exists(program: &PlanProgram, index: usize) -> Result<(), EmitError> {
    match program.templates.get(index) {
        Some(_) => Ok(()),
        None => Err(EmitError::Malformed {
            template: format!("number {index}"),
            site: "steps".into(),
            what: "does not exist".into(),
        }),
    }
}

/// What the instructions of a template cost.
fn prices(
    program: &PlanProgram,
    index: usize,
    capacity: u32,
    table: &CostTable,
) -> Result<Prices, EmitError> {
    exists(program, index)?;
    let template = &program.templates[index];
    let mut prices = Prices::default();
    // Operations without operands do not exist, so levels and instructions pair up.
    for (i, (instr, (op, level))) in (0..).zip(template.instrs.iter().zip(operand_levels(template)))
    {
        let works = match op {
            Op::SumGroups { states, .. } => {
                let groups = mean_groups(program, states, capacity);
                prices.loops.push((i, groups as u32));
                vec![Work::Add]
            }
            _ => works(program, op).map_err(|what| EmitError::Malformed {
                template: template.name.clone(),
                site: instr.site.clone(),
                what,
            })?,
        };
        let seconds = works.iter().map(|w| cost::seconds(table, w, level));
        // the sum of nothing is a negative zero
        let seconds = seconds.fold(0.0, |sum, seconds| sum + seconds);
        prices.seconds.push(seconds);
        prices.key_switches.push(key_switches(&works));
    }
    Ok(prices)
}

fn works(program: &PlanProgram, op: &Op<Buf>) -> Result<Vec<Work>, String> {
    let PlanProgram {
        plains,
        matrices,
        polys,
        states,
        ..
    } = program;
    Work::of_tables(plains, matrices, polys, states, op).map_err(|e| e.to_string())
}

/// As [`Counts`] counts them.
fn key_switches(works: &[Work]) -> u32 {
    let mut counts = Counts::default();
    works.iter().for_each(|work| counts.work(work));
    counts.key_switches as u32
}

/// Seconds of encoding anew every plaintext of one run of a template that could have stayed encoded.
pub fn encoding_seconds(
    program: &PlanProgram,
    index: usize,
    capacity: u32,
    table: &CostTable,
) -> f64 {
    let template = program.templates.get(index);
    let instrs = template.into_iter().flat_map(operand_levels);
    let seconds = instrs.map(|(op, level)| match op {
        Op::SumGroups {
            template, states, ..
        } => {
            let groups = mean_groups(program, states, capacity) as f64;
            groups * encoding_seconds(program, *template, capacity, table)
        }
        _ if encodes(program, op) => 0.0,
        _ => plaintexts(program, op) as f64 * cost::seconds(table, &Work::Encode, level),
    });
    seconds.sum()
}

/// Groups a loop over `states` is taken to visit.
pub fn mean_groups(
    program: &PlanProgram,
    states: &[sotto_ir::slot::StateId],
    capacity: u32,
) -> u64 {
    if program.block > 1 {
        return 1;
    }
    let full = states
        .iter()
        .filter_map(|s| program.states.get(s.0 as usize))
        .map(|s| groups_at_capacity(capacity, &s.ty))
        .max();
    full.unwrap_or(1).div_ceil(2).max(1)
}

#[derive(Default)]
struct Tally {
    classes: BTreeMap<&'static str, Cost>,
    sites: Vec<Cost>,
    bootstraps: BTreeMap<BootstrapKind, u32>,
}

impl Tally {
    /// Adds what every one of `runs` runs of a step's template is charged.
    fn add(&mut self, charge: Charge<'_>, runs: u32) {
        let times = charge.times * u64::from(runs);
        if times == 0 {
            return;
        }
        let more = |cost: &mut Cost| {
            cost.count += times as u32;
            cost.seconds += charge.seconds * times as f64;
        };
        let new = |name: &str| Cost {
            name: name.to_string(),
            count: 0,
            seconds: 0.0,
        };
        let class = self.classes.entry(charge.class);
        more(class.or_insert_with(|| new(charge.class)));
        let site = &charge.instr.site;
        let known = self.sites.iter().position(|s| s.name == *site);
        let place = known.unwrap_or_else(|| {
            self.sites.push(new(site));
            self.sites.len() - 1
        });
        more(&mut self.sites[place]);
        if let Op::Bootstrap { kind, .. } = charge.instr.op {
            *self.bootstraps.entry(kind).or_insert(0) += times as u32;
        }
    }
}
