//! A trace beside what its plan predicts: by section and kind of operation, for exactly the operations that ran.
//!
//! Only whole runs count. A loop over groups spans its body in the trace; what is left of it is what adding up took, which is how the
//! plan prices it. Machines change their speed, so each run is also brought to the speed that the cost table was measured at: times
//! the table's yardstick over the run's.

use super::{Event, OpArgs, RunArgs, Trace, TraceError};
use crate::plan::{Estimate, Plan, PlanProgram, SUM_CLASS};
use crate::slot::Op;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Microseconds by which clocks of a run and its operations may disagree.
const SLACK: f64 = 1e3;

/// Measured beside predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Every program that ran.
    pub programs: Vec<ProgramTimes>,
    /// Seconds of the cost table's yardstick.
    pub table_yardstick: f64,
    /// Mean seconds of the trace's, over the runs that count; None where it has none.
    pub yardstick: Option<f64>,
    /// Threads that the cost table holds for, and that computed where the trace says so.
    pub threads: (u32, Option<u32>),
    /// Operations of runs that did not come to their end.
    pub left_out: usize,
}

/// One program, in the mean over its runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProgramTimes {
    /// `decode` or `prefill`.
    pub name: String,
    /// Runs.
    pub runs: usize,
    /// Tokens of all runs.
    pub tokens: u32,
    /// Seconds of one run from beginning to end.
    pub seconds: f64,
    /// By section, in running order.
    pub sections: Vec<SectionTimes>,
    /// Over all sections, dearest prediction first.
    pub classes: Vec<ClassTimes>,
    /// Everything.
    pub total: ClassTimes,
}

/// One layer, or what is outside of layers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SectionTimes {
    /// `layer 3`.
    pub name: String,
    /// By kind of operation, dearest prediction first.
    pub classes: Vec<ClassTimes>,
    /// All of them.
    pub total: ClassTimes,
}

/// Operations of a kind in one run, in the mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClassTimes {
    /// `bootstrap`, `linear`, …
    pub class: String,
    /// How many.
    pub count: f64,
    /// Seconds that they took.
    pub measured: f64,
    /// The same at the speed that the cost table was measured at; None without a yardstick.
    pub normalized: Option<f64>,
    /// Seconds that the plan predicts for them.
    pub predicted: f64,
}

impl ClassTimes {
    /// Measured over predicted, at the table's speed where the trace has a yardstick; None where nothing was predicted.
    pub fn ratio(&self) -> Option<f64> {
        let measured = self.normalized.unwrap_or(self.measured);
        (self.predicted > 0.0).then(|| measured / self.predicted)
    }

    fn add(&mut self, other: &ClassTimes) {
        self.count += other.count;
        self.measured += other.measured;
        self.predicted += other.predicted;
        if let (Some(sum), Some(more)) = (&mut self.normalized, other.normalized) {
            *sum += more;
        }
    }
}

/// The run that an operation belongs to: the nearest to its middle, if that is not further than clocks may disagree.
fn run_of(op: &Event<OpArgs>, runs: &[&Event<RunArgs>]) -> Option<usize> {
    let middle = op.ts + op.dur / 2.0;
    let outside = |run: &Event<RunArgs>| (run.ts - middle).max(middle - run.ts - run.dur).max(0.0);
    let distances = runs.iter().map(|run| outside(run)).enumerate();
    let (nearest, distance) = distances.min_by(|a, b| a.1.total_cmp(&b.1))?;
    (distance <= SLACK).then_some(nearest)
}

/// Holds a trace against its plan, of which `digest` is the digest.
///
/// # Errors
/// The trace of another plan, or one without a run that came to its end.
pub fn measured(trace: &Trace, plan: &Plan, digest: &str) -> Result<Measured, TraceError> {
    trace.check_plan(digest)?;
    let mut runs: Vec<&Event<RunArgs>> = trace.runs.iter().collect();
    runs.sort_by(|a, b| a.ts.total_cmp(&b.ts));
    let mut ops: Vec<&Event<OpArgs>> = trace.ops.iter().collect();
    ops.sort_by(|a, b| (a.ts + a.dur).total_cmp(&(b.ts + b.dur)));
    let yardsticks: Vec<f64> = (runs.iter())
        .filter_map(|run| trace.yardstick(run.ts))
        .collect();
    let mut left_out = ops.len();
    let prefill = plan.prefill.iter().map(|p| (&p.program, &p.estimate));
    let mut programs = Vec::new();
    for (program, estimate) in std::iter::once((&plan.decode, &plan.estimate)).chain(prefill) {
        let mine = |run: &&&Event<RunArgs>| run.args.program == program.name;
        let runs: Vec<&Event<RunArgs>> = runs.iter().filter(mine).copied().collect();
        if runs.is_empty() {
            continue;
        }
        let own = ops.iter().filter(|op| op.args.program == program.name);
        let own: Vec<_> = own
            .filter_map(|op| Some((op, run_of(op, &runs)?)))
            .collect();
        let mut tally = Tally::new(program, estimate);
        for (i, run) in runs.iter().enumerate() {
            let speed = (trace.yardstick(run.ts)).map(|now| estimate.yardstick_seconds / now);
            for (op, _) in own.iter().filter(|(_, owner)| *owner == i) {
                tally.take(op, speed)?;
                left_out -= 1;
            }
        }
        programs.push(tally.finish(&runs));
    }
    if programs.is_empty() {
        return Err(TraceError::Unfinished);
    }
    let mean = yardsticks.iter().sum::<f64>() / yardsticks.len() as f64;
    Ok(Measured {
        programs,
        table_yardstick: plan.estimate.yardstick_seconds,
        yardstick: (!yardsticks.is_empty()).then_some(mean),
        threads: (
            plan.estimate.threads,
            trace.plan.as_ref().map(|mark| mark.threads),
        ),
        left_out,
    })
}

/// One program's operations while they are counted.
struct Tally<'a> {
    program: &'a PlanProgram,
    estimate: &'a Estimate,
    templates: HashMap<&'a str, usize>,
    /// The section of a template, or of a loop's body, in a layer.
    places: HashMap<(usize, u32), usize>,
    /// Names of the sections, and their operations by kind.
    sections: Vec<(String, BTreeMap<&'static str, ClassTimes>)>,
    /// Of the loop that runs: seconds of its body, and how many groups it has visited.
    body: (f64, u32),
}

impl<'a> Tally<'a> {
    fn new(program: &'a PlanProgram, estimate: &'a Estimate) -> Self {
        let mut places = HashMap::new();
        let mut sections = Vec::new();
        for section in program.sections() {
            places.insert((section.template, section.layer), sections.len());
            let template = program.templates.get(section.template);
            for instr in template.into_iter().flat_map(|t| &t.instrs) {
                if let Op::SumGroups { template, .. } = instr.op {
                    places.insert((template, section.layer), sections.len());
                }
            }
            sections.push((section.name, BTreeMap::new()));
        }
        let templates = program.templates.iter().enumerate();
        Self {
            program,
            estimate,
            templates: templates.map(|(i, t)| (t.name.as_str(), i)).collect(),
            places,
            sections,
            body: (0.0, 0),
        }
    }

    /// Takes an operation, in the order in which they ended; `speed` is that of the table's machine over that of the run's.
    fn take(&mut self, op: &Event<OpArgs>, speed: Option<f64>) -> Result<(), TraceError> {
        let unknown = || TraceError::Unknown {
            site: op.name.clone(),
            program: op.args.program.clone(),
        };
        let (args, index) = (&op.args, op.args.index as usize);
        let template = self.templates.get(args.template.as_str()).copied();
        let template = template.ok_or_else(unknown)?;
        let instr = self.program.templates[template].instrs.get(index);
        let instr = instr.ok_or_else(unknown)?;
        let place = self.places.get(&(template, args.layer));
        let place = *place.ok_or_else(unknown)?;
        let price = self.estimate.prices.get(template);
        let price = price.map_or(0.0, |prices| prices.at(index));
        let mut times = ClassTimes {
            count: 1.0,
            measured: op.dur / 1e6,
            predicted: price,
            ..ClassTimes::default()
        };
        let mut class = instr.op.name();
        if args.group.is_some() {
            self.body.0 += times.measured;
            self.body.1 = self.body.1.max(args.group.map_or(0, |group| group + 1));
        }
        if matches!(instr.op, Op::SumGroups { .. }) {
            let (seconds, groups) = std::mem::take(&mut self.body);
            let sums = f64::from(groups.saturating_sub(1)) * instr.dst.len() as f64;
            class = SUM_CLASS;
            times.count = sums;
            times.measured = (times.measured - seconds).max(0.0);
            times.predicted = price * sums;
        }
        times.normalized = speed.map(|speed| times.measured * speed);
        let classes = &mut self.sections[place].1;
        match classes.get_mut(class) {
            Some(sum) => sum.add(&times),
            None => {
                times.class = class.into();
                classes.insert(class, times);
            }
        }
        Ok(())
    }

    /// The means over the runs.
    fn finish(self, runs: &[&Event<RunArgs>]) -> ProgramTimes {
        let count = runs.len() as f64;
        let sections: Vec<SectionTimes> = (self.sections.into_iter())
            .map(|(name, classes)| {
                let mut classes: Vec<ClassTimes> = classes.into_values().collect();
                for times in &mut classes {
                    times.count /= count;
                    times.measured /= count;
                    times.predicted /= count;
                    times.normalized = times.normalized.map(|seconds| seconds / count);
                }
                dearest_first(&mut classes);
                let total = sum("all", &classes);
                SectionTimes {
                    name,
                    classes,
                    total,
                }
            })
            .collect();
        let mut classes: BTreeMap<&str, Vec<ClassTimes>> = BTreeMap::new();
        for times in sections.iter().flat_map(|section| &section.classes) {
            classes.entry(&times.class).or_default().push(times.clone());
        }
        let classes = classes.into_iter().map(|(class, times)| sum(class, &times));
        let mut classes: Vec<ClassTimes> = classes.collect();
        dearest_first(&mut classes);
        ProgramTimes {
            name: self.program.name.clone(),
            runs: runs.len(),
            tokens: runs.iter().map(|run| run.args.tokens).sum(),
            seconds: runs.iter().map(|run| run.dur).sum::<f64>() / 1e6 / count,
            total: sum("all", &classes),
            sections,
            classes,
        }
    }
}

fn dearest_first(classes: &mut [ClassTimes]) {
    classes.sort_by(|a, b| b.predicted.total_cmp(&a.predicted));
}

fn sum(class: &str, parts: &[ClassTimes]) -> ClassTimes {
    let mut parts = parts.iter();
    let mut total = parts.next().cloned().unwrap_or_default();
    parts.for_each(|part| total.add(part));
    total.class = class.into();
    total
}
