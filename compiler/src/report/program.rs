//! A program's course: the level of every ciphertext, and what operations take, by template and section.

use crate::emit::memory;
use crate::inspect::{ProgramPage, TemplatePage};
use serde::Serialize;
use sotto_ir::plan::{Charge, Estimate, Plan, PlanProgram, charges};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A program, rolled. Operations and values are rows of numbers: names are looked up in `classes` and `sites`.
#[derive(Debug, Serialize)]
pub struct ProgramCourse {
    /// `decode` or `prefill`.
    pub name: String,
    /// Kinds of operations, those that cost most first.
    pub classes: Vec<String>,
    /// Sites, in running order.
    pub sites: Vec<String>,
    /// KV states, in words.
    pub states: Vec<String>,
    /// Templates, each told once.
    pub templates: Vec<TemplateCourse>,
    /// What runs, in running order.
    pub sections: Vec<SectionCosts>,
}

/// A template.
#[derive(Debug, Serialize)]
pub struct TemplateCourse {
    /// Its name.
    pub name: String,
    /// When it runs, in words.
    pub runs: String,
    /// Its operations.
    pub ops: Vec<OpRow>,
    /// Its ciphertexts.
    pub values: Vec<ValueRow>,
}

/// Kind, site, predicted seconds, key switches, bytes alive, ciphertexts alive, and the table entry that it refers to.
#[derive(Debug, PartialEq, Serialize)]
pub struct OpRow(
    pub usize,
    pub usize,
    pub f64,
    pub u32,
    pub u64,
    pub u32,
    pub Option<String>,
);

/// Level, degree, the operation that makes it (-1 for what the template receives), the last that reads it (the number of operations for
/// what the template returns), and the largest slot that is declared.
#[derive(Debug, PartialEq, Serialize)]
pub struct ValueRow(pub u32, pub u8, pub i64, pub i64, pub f64);

/// One run of a template, with what it costs: its loops' bodies are counted in.
#[derive(Debug, Serialize)]
pub struct SectionCosts {
    /// `layer 3`, or the template's name.
    pub name: String,
    /// The template.
    pub template: usize,
    /// Seconds by kind, in the order of the program's kinds.
    pub seconds: Vec<f64>,
    /// Key switches by kind; those inside bootstraps are not counted.
    pub key_switches: Vec<u64>,
    /// Operations by kind.
    pub counts: Vec<u64>,
}

impl ProgramCourse {
    /// Of a program and the page that `inspect` has of it.
    pub fn of(plan: &Plan, program: &PlanProgram, estimate: &Estimate, page: &ProgramPage) -> Self {
        let classes: Vec<String> = classes(estimate, page);
        let mut sites: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        for row in page.templates.iter().flat_map(|t| &t.rows) {
            if seen.insert(&row.site) {
                sites.push(row.site.clone());
            }
        }
        let names = Names {
            classes: index(&classes),
            sites: index(&sites),
        };
        let templates = page.templates.iter().enumerate().map(|(t, template)| {
            let live = memory::course(program, &plan.bootstraps, t, &plan.params);
            names.template(template, &live, estimate, t)
        });
        let templates = templates.collect();
        let groups = |t: usize, i: usize| estimate.prices.get(t).map_or(1, |p| p.groups(i));
        let sections = program.sections().into_iter().map(|section| {
            let mut costs = SectionCosts {
                name: section.name,
                template: section.template,
                seconds: vec![0.0; classes.len()],
                key_switches: vec![0; classes.len()],
                counts: vec![0; classes.len()],
            };
            let tell = &mut |charge: Charge<'_>| {
                if let Some(&class) = names.classes.get(charge.class) {
                    costs.seconds[class] += charge.total();
                    costs.key_switches[class] += charge.times * u64::from(charge.key_switches);
                    costs.counts[class] += charge.times;
                }
            };
            charges(program, &estimate.prices, section.template, &groups, tell);
            costs
        });
        Self {
            name: page.name.clone(),
            states: page.states.clone(),
            templates,
            sections: sections.collect(),
            classes,
            sites,
        }
    }
}

/// Kinds as the estimate orders them, then those that it does not price.
fn classes(estimate: &Estimate, page: &ProgramPage) -> Vec<String> {
    let mut classes: Vec<String> = estimate.op_classes.iter().map(|c| c.name.clone()).collect();
    let used: BTreeSet<&String> = page
        .templates
        .iter()
        .flat_map(|t| &t.rows)
        .map(|r| &r.op)
        .collect();
    let more: Vec<String> = used
        .into_iter()
        .filter(|op| !classes.contains(op))
        .cloned()
        .collect();
    classes.extend(more);
    classes
}

fn index(names: &[String]) -> HashMap<&str, usize> {
    let names = names.iter().enumerate();
    names.map(|(i, name)| (name.as_str(), i)).collect()
}

/// Where names stand.
struct Names<'a> {
    classes: HashMap<&'a str, usize>,
    sites: HashMap<&'a str, usize>,
}

impl Names<'_> {
    fn template(
        &self,
        page: &TemplatePage,
        live: &[memory::Live],
        estimate: &Estimate,
        template: usize,
    ) -> TemplateCourse {
        let prices = estimate.prices.get(template);
        let ops = page.rows.iter().zip(live).map(|(row, live)| {
            OpRow(
                self.classes[row.op.as_str()],
                self.sites[row.site.as_str()],
                prices.map_or(0.0, |p| p.at(row.index)),
                prices
                    .and_then(|p| p.key_switches.get(row.index).copied())
                    .unwrap_or(0),
                live.bytes,
                live.ciphertexts,
                row.entry.clone(),
            )
        });
        TemplateCourse {
            name: page.name.clone(),
            runs: page.runs.clone(),
            ops: ops.collect(),
            values: values(page),
        }
    }
}

/// Every ciphertext of a template with its life.
fn values(page: &TemplatePage) -> Vec<ValueRow> {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &page.rows {
        for operand in &row.operands {
            last.insert(operand, row.index as i64);
        }
    }
    for result in &page.results {
        last.insert(result, page.rows.len() as i64);
    }
    let made = page.rows.iter();
    let made = made.flat_map(|row| row.results.iter().map(|value| (row.index as i64, value)));
    let received = page.params.iter().map(|value| (-1, value));
    let row = |(from, value): (i64, &crate::inspect::ValueRow)| {
        ValueRow(
            value.level.unwrap_or(0),
            value.degree.unwrap_or(1),
            from,
            last.get(value.id.as_str()).copied().unwrap_or(from),
            value.range.unwrap_or(0.0),
        )
    };
    received.chain(made).map(row).collect()
}
