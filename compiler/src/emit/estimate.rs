//! Predicted time per token.
//!
//! Loops over groups count with the groups they visit when the KV state is half full, the mean over a full context; in a program that
//! takes a prompt's blocks, with those that the first block visits.

use super::EmitError;
use super::counts::{encodes, plaintexts};
use super::keys::operand_levels;
use crate::cost::{self, Work};
use crate::place::groups_at_capacity;
use sotto_ir::cost::CostTable;
use sotto_ir::plan::{BootstrapCount, Buf, Cost, Estimate, PlanProgram};
use sotto_ir::slot::{BootstrapKind, Op};
use std::collections::BTreeMap;

/// Time and counts of a program; memory is left at zero.
pub fn estimate(
    program: &PlanProgram,
    capacity: u32,
    table: &CostTable,
) -> Result<Estimate, EmitError> {
    let mut tally = Tally::new(program, capacity, table);
    for step in &program.steps {
        tally.template(step.template, u64::from(step.count))?;
    }
    let mut op_classes: Vec<Cost> = tally.classes.into_values().collect();
    op_classes.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let bootstraps = tally.bootstraps.into_iter();
    Ok(Estimate {
        seconds: tally.sites.iter().map(|s| s.seconds).sum(),
        cost_table: table.name.clone(),
        cost_table_digest: table.digest()?,
        op_classes,
        sites: tally.sites,
        bootstraps: bootstraps
            .map(|(kind, count)| BootstrapCount { kind, count })
            .collect(),
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
    let mut tally = Tally::new(program, capacity, table);
    tally.template(index, 1)?;
    Ok(tally.sites.iter().map(|s| s.seconds).sum())
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

struct Tally<'a> {
    program: &'a PlanProgram,
    capacity: u32,
    table: &'a CostTable,
    classes: BTreeMap<&'static str, Cost>,
    sites: Vec<Cost>,
    bootstraps: BTreeMap<BootstrapKind, u32>,
}

impl<'a> Tally<'a> {
    fn new(program: &'a PlanProgram, capacity: u32, table: &'a CostTable) -> Self {
        Self {
            program,
            capacity,
            table,
            classes: BTreeMap::new(),
            sites: Vec::new(),
            bootstraps: BTreeMap::new(),
        }
    }

    fn template(&mut self, index: usize, times: u64) -> Result<(), EmitError> {
        let program = self.program;
        let Some(template) = program.templates.get(index) else {
            return Err(EmitError::Malformed {
                template: format!("number {index}"),
                site: "steps".into(),
                what: "does not exist".into(),
            });
        };
        // Operations without operands do not exist, so levels and instructions pair up.
        for (instr, (op, level)) in template.instrs.iter().zip(operand_levels(template)) {
            let malformed = |what: String| EmitError::Malformed {
                template: template.name.clone(),
                site: instr.site.clone(),
                what,
            };
            if let Op::SumGroups {
                template, states, ..
            } = op
            {
                let groups = mean_groups(program, states, self.capacity);
                self.template(*template, times * groups)?;
                let sums = instr.dst.len() as u64 * (groups - 1) * times;
                self.add(
                    "add",
                    &instr.site,
                    sums,
                    cost::seconds(self.table, &Work::Add, level),
                );
                continue;
            }
            let works = self.works(op).map_err(malformed)?;
            let seconds = works
                .iter()
                .map(|w| cost::seconds(self.table, w, level))
                .sum();
            self.add(op.name(), &instr.site, times, seconds);
            if let Op::Bootstrap { kind, .. } = op {
                *self.bootstraps.entry(*kind).or_insert(0) += times as u32;
            }
        }
        Ok(())
    }

    fn works(&self, op: &Op<Buf>) -> Result<Vec<Work>, String> {
        let p = self.program;
        Work::of_tables(&p.plains, &p.matrices, &p.polys, &p.states, op).map_err(|e| e.to_string())
    }

    fn add(&mut self, class: &'static str, site: &str, times: u64, seconds: f64) {
        if times == 0 {
            return;
        }
        let more = |cost: &mut Cost| {
            cost.count += times as u32;
            cost.seconds += seconds * times as f64;
        };
        let new = |name: &str| Cost {
            name: name.to_string(),
            count: 0,
            seconds: 0.0,
        };
        more(self.classes.entry(class).or_insert_with(|| new(class)));
        let known = self.sites.iter().position(|s| s.name == site);
        let place = known.unwrap_or_else(|| {
            self.sites.push(new(site));
            self.sites.len() - 1
        });
        more(&mut self.sites[place]);
    }
}
