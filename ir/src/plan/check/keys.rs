//! The key list against what instructions and bootstraps use, worked out here from the definitions of the operations.

use crate::plan::Plan;
use crate::slot::{At, Layout, Leveled, Op, Program, Side, ValueId};
use crate::violation::Report;
use sotto_params::bootstrap::{Bsgs, FactorSpec};
use std::collections::{BTreeMap, HashMap};

/// Uses of keys: highest level, and who needs it there.
#[derive(Default)]
struct Uses {
    galois: BTreeMap<Option<u32>, (u32, String)>,
    relinearise: (u32, String),
    ephemeral: Option<u32>,
}

pub(super) fn check(plan: &Plan, programs: &[Program<Leveled>], report: &mut Report) {
    let uses = uses(plan, programs);
    report.at("keys");
    let top = plan.params.top_level() as u32;
    let mut listed = BTreeMap::new();
    let mut last = None;
    for key in &plan.keys.galois {
        let name = name(key.step);
        let ordered = last.is_none_or(|last| last < key.step);
        report.require(ordered, || {
            format!("{name} is out of order or listed twice")
        });
        let exists = key.step.is_none_or(|s| s > 0 && s < plan.slots());
        report.require(exists, || {
            format!("{name} is none within {} slots", plan.slots())
        });
        report.require(key.level <= top, || {
            format!("{name} at level {}, beyond {top}", key.level)
        });
        report.require(uses.galois.contains_key(&key.step), || {
            format!("nothing uses {name}")
        });
        listed.insert(key.step, key.level);
        last = Some(key.step);
    }
    for (step, (level, who)) in &uses.galois {
        let found = listed.get(step);
        report.require(found.is_some_and(|l| l >= level), || {
            let found = found.map_or("is not listed".into(), |l| {
                format!("is listed at level {l}")
            });
            format!("{} {found}; {who} needs it at level {level}", name(*step))
        });
    }
    let (level, who) = &uses.relinearise;
    let found = plan.keys.relinearise_level;
    report.require(found >= *level && found <= top, || {
        format!("relinearisation is at level {found}; {who} needs {level}, the top is {top}")
    });
    let (found, needed) = (plan.keys.ephemeral_level, uses.ephemeral);
    report.require(found == needed, || {
        format!("the ephemeral key is at level {found:?}; bootstraps need {needed:?}")
    });
}

fn name(step: Option<u32>) -> String {
    step.map_or("conjugation".into(), |s| format!("the rotation by {s}"))
}

fn uses(plan: &Plan, programs: &[Program<Leveled>]) -> Uses {
    let mut uses = Uses::default();
    let of = |program| {
        let Program { templates, .. }: &Program<_> = program;
        templates.iter().map(move |template| (program, template))
    };
    for (program, template) in programs.iter().flat_map(of) {
        let mut levels: HashMap<ValueId, At> =
            template.params.iter().map(|p| (p.value, p.note)).collect();
        for node in &template.nodes {
            if let Some(v) = node.op.operands().first()
                && let Some(at) = levels.get(*v)
            {
                let who = format!("`{}`, {}", node.op.name(), node.site);
                uses.op(program, &node.op, at.level, &who);
            }
            levels.extend(node.results.iter().copied().zip(node.notes.iter().copied()));
        }
    }
    for spec in &plan.bootstraps {
        let who = format!("the bootstrap of {} slots", spec.slots);
        for FactorSpec { bsgs, level, .. } in spec.stc.iter().chain(&spec.cts) {
            let babies = bsgs.giants.iter().flat_map(|giant| &giant.babies);
            for step in babies.map(|&baby| baby as i64).chain(giants(bsgs)) {
                uses.rotation(plan.slots(), step, *level as u32, &who);
            }
        }
        for &step in spec.trace.iter().flatten() {
            uses.rotation(plan.slots(), step as i64, spec.raised_level as u32, &who);
        }
        // The two halves of the slots are told apart, and EvalMod multiplies, where CtS ends.
        uses.need(None, spec.evalmod.level as u32, &who);
        uses.product(spec.evalmod.level as u32, &who);
        uses.ephemeral = uses.ephemeral.max(Some(spec.raised_level as u32));
    }
    uses
}

/// The rotations by which giant steps are made: every step itself, or in a chain the shortest of each direction, any number of times. All
/// within the period, a step back being the rest of it.
fn giants(bsgs: &Bsgs) -> Vec<i64> {
    let steps = bsgs.giants.iter().map(|g| g.step);
    if !bsgs.chained {
        return steps.map(|s| s as i64).collect();
    }
    // what is out of range is reported as that, elsewhere
    let steps = steps.filter(|s| (1..bsgs.slots).contains(s));
    let (back, ahead): (Vec<usize>, Vec<usize>) = steps.partition(|s| *s > bsgs.slots - s);
    let nearest = ahead
        .into_iter()
        .min()
        .into_iter()
        .chain(back.into_iter().max());
    nearest.map(|s| s as i64).collect()
}

impl Uses {
    fn need(&mut self, step: Option<u32>, level: u32, who: &str) {
        let entry = self.galois.entry(step).or_insert((level, who.into()));
        if entry.0 < level {
            *entry = (level, who.into());
        }
    }

    fn rotation(&mut self, slots: u32, by: i64, level: u32, who: &str) {
        let step = by.rem_euclid(i64::from(slots.max(1))) as u32;
        if step > 0 {
            self.need(Some(step), level, who);
        }
    }

    fn product(&mut self, level: u32, who: &str) {
        if level >= self.relinearise.0 {
            self.relinearise = (level, who.into());
        }
    }

    fn op(&mut self, program: &Program<Leveled>, op: &Op<ValueId>, level: u32, who: &str) {
        let slots = program.slots;
        match op {
            Op::Rotate { by, .. } => self.rotation(slots, i64::from(*by), level, who),
            Op::Conjugate { .. } => self.need(None, level, who),
            Op::Mul { .. } | Op::Poly { .. } => self.product(level, who),
            Op::Fold { step, count, .. } => {
                // Twice as many copies with each rotation.
                let mut copies = 1i64;
                while copies < i64::from(*count) {
                    self.rotation(slots, i64::from(*step) * copies, level, who);
                    copies *= 2;
                }
            }
            // to either side, as the position's bits say
            Op::FoldCurrent { count, .. } => {
                for bit in 0..32 {
                    let step = 1i64 << bit;
                    if step < i64::from(*count) {
                        self.rotation(slots, step, level, who);
                        self.rotation(slots, -step, level, who);
                    }
                }
            }
            Op::Apply {
                step, count, baby, ..
            } => {
                self.product(level, who);
                // the verifier bounds the count, but need not have passed
                let count = (*count).min(slots);
                self.steps(slots, (count, *baby), i64::from(*step), level, who);
            }
            // a matrix takes the vector turned, keys by babies and values back by giants
            Op::Append { state, .. } => {
                let layout = program.states.get(state.0 as usize).map(|s| &s.ty.layout);
                let Some(Layout::Matrix(matrix)) = layout else {
                    return;
                };
                if !matrix.fits(slots) {
                    return; // the verifier says so
                }
                let (baby, step) = (i64::from(matrix.baby), i64::from(matrix.step()));
                let turns = match matrix.side {
                    Side::Rows => (0..baby).map(|b| b * step).collect::<Vec<_>>(),
                    Side::Columns => (0..i64::from(matrix.lanes / 2) / baby.max(1))
                        .map(|g| -g * baby * step)
                        .collect(),
                };
                for by in turns {
                    self.rotation(slots, by, level, who);
                }
            }
            Op::Linear { matrix, .. } => {
                let Some(matrix) = program.matrices.get(matrix.0 as usize) else {
                    return;
                };
                let (count, step) = (matrix.diagonals(), i64::from(matrix.step()));
                self.steps(slots, (count, matrix.baby), step, level, who);
            }
            _ => {}
        }
    }

    /// Diagonal k = g·B + j turns by k·s: babies by j·s, giants by g·B·s.
    fn steps(&mut self, slots: u32, (count, baby): (u32, u32), step: i64, level: u32, who: &str) {
        for k in 0..i64::from(count) {
            let baby = k % i64::from(baby.max(1));
            self.rotation(slots, baby * step, level, who);
            self.rotation(slots, (k - baby) * step, level, who);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sotto_params::ParamSet;
    use sotto_params::bootstrap::BootstrapSpec;
    use std::collections::BTreeSet;

    #[test]
    fn the_keys_of_giants_are_those_that_the_scheme_asks_for() {
        let set = ParamSet::secure_128();
        let mut chains = 0;
        for slots in [4, 128, 512, 4096, 32768] {
            let spec = BootstrapSpec::new(&set, slots, true).unwrap();
            let sparing = spec.clone().sparing();
            for factor in [spec, sparing]
                .iter()
                .flat_map(|s| s.stc.iter().chain(&s.cts))
            {
                for chained in [false, true] {
                    let bsgs = Bsgs {
                        chained,
                        ..factor.bsgs.clone()
                    };
                    let giants: BTreeSet<usize> =
                        giants(&bsgs).iter().map(|&s| s as usize).collect();
                    chains += usize::from(chained && giants.len() == 2);
                    let babies = bsgs.baby_steps();
                    let all: BTreeSet<usize> = babies.union(&giants).copied().collect();
                    let asked: BTreeSet<usize> = bsgs.rotations();
                    assert!(asked.is_subset(&all), "{slots}: {asked:?}, {all:?}");
                    assert!(all.difference(&asked).all(|s| *s == 0), "{slots}");
                }
            }
        }
        assert!(chains > 10, "chains in both directions: {chains}");
    }

    #[test]
    fn steps_out_of_range_ask_for_nothing() {
        for slots in [0, 1, 8, 1 << 63, usize::MAX] {
            let steps = [0, 1, 7, 1 << 62, usize::MAX];
            let giant = |step| sotto_params::bootstrap::Giant {
                step,
                babies: vec![0],
            };
            let bsgs = Bsgs {
                slots,
                giants: steps.map(giant).into(),
                chained: true,
            };
            assert!(giants(&bsgs).len() <= 2);
        }
    }
}
