//! What every instruction of a program costs, as the compiler priced it, and how that adds up over layers and loops.
//!
//! Prices stand in the plan by template and instruction. Whoever wants seconds or key switches by layer, site or kind of operation
//! folds the same list: the estimate, the report, the runtime's progress and its comparison with what was measured.

use super::{Instr, PlanProgram};
use crate::slot::{Op, Step};
use serde::{Deserialize, Serialize};

/// What the instructions of one template cost, each time they run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// Seconds of each instruction; of a loop over groups, those of one addition, of which every group after the first takes one
    /// for each result: its body has prices of its own.
    pub seconds: Vec<f64>,
    /// Key switches of each instruction: rotations, conjugations and relinearisations, those inside bootstraps not counted.
    pub key_switches: Vec<u32>,
    /// Each loop over groups: index of its instruction, and how many groups it visits where the KV state is half full.
    pub loops: Vec<(u32, u32)>,
}

impl Prices {
    /// Seconds of an instruction; 0 where it has no price.
    pub fn at(&self, index: usize) -> f64 {
        self.seconds.get(index).copied().unwrap_or(0.0)
    }

    /// Groups that the loop at an instruction is taken to visit.
    pub fn groups(&self, index: usize) -> u32 {
        let found = self.loops.iter().find(|(at, _)| *at as usize == index);
        found.map_or(1, |(_, groups)| *groups)
    }
}

/// What is paid for where a loop adds its groups' results up.
pub const SUM_CLASS: &str = "add";

/// An instruction of a template or of the loops in it, with its price.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// The template that it is in, which may be a loop's body.
    pub template: usize,
    /// Its index there.
    pub index: usize,
    /// The instruction.
    pub instr: &'a Instr,
    /// What is paid for: the operation's name; `add` for what a loop adds up.
    pub class: &'static str,
    /// How often it runs.
    pub times: u64,
    /// Seconds each time.
    pub seconds: f64,
    /// Key switches each time.
    pub key_switches: u32,
}

impl Charge<'_> {
    /// Seconds of all times.
    pub fn total(&self) -> f64 {
        self.seconds * self.times as f64
    }
}

/// Tells every instruction of one run of a template in running order, loop bodies as often as `groups` says of a loop's template and
/// instruction, before the charge of adding up their results.
///
/// Prices that are not there are 0, and a template or body that is not there is nothing.
pub fn charges<'p>(
    program: &'p PlanProgram,
    prices: &'p [Prices],
    template: usize,
    groups: &dyn Fn(usize, usize) -> u32,
    tell: &mut dyn FnMut(Charge<'p>),
) {
    let mut walk = Walk {
        program,
        prices,
        groups,
        tell,
    };
    walk.template(template, 1, false);
}

struct Walk<'p, 'f> {
    program: &'p PlanProgram,
    prices: &'p [Prices],
    groups: &'f dyn Fn(usize, usize) -> u32,
    tell: &'f mut dyn FnMut(Charge<'p>),
}

impl<'p> Walk<'p, '_> {
    fn template(&mut self, template: usize, times: u64, inside: bool) {
        let Some(body) = self.program.templates.get(template) else {
            return;
        };
        let prices = self.prices.get(template);
        for (index, instr) in body.instrs.iter().enumerate() {
            let key_switches = prices.and_then(|p| p.key_switches.get(index).copied());
            let mut charge = Charge {
                template,
                index,
                instr,
                class: instr.op.name(),
                times,
                seconds: prices.map_or(0.0, |p| p.at(index)),
                key_switches: key_switches.unwrap_or(0),
            };
            let Op::SumGroups { template: body, .. } = instr.op else {
                (self.tell)(charge);
                continue;
            };
            // a body holds no loop: the executor refuses one
            if inside {
                continue;
            }
            let visited = u64::from((self.groups)(template, index));
            charge.class = SUM_CLASS;
            charge.times = times * visited.saturating_sub(1) * instr.dst.len() as u64;
            self.template(body, times * visited, true);
            (self.tell)(charge);
        }
    }
}

/// One run of a template in the course of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The template.
    pub template: usize,
    /// The layer it runs for.
    pub layer: u32,
    /// `layer 3`, or the template's name where it belongs to no layer.
    pub name: String,
}

impl PlanProgram {
    /// Every run of a template, in running order.
    pub fn sections(&self) -> Vec<Section> {
        let runs = |step: &Step| {
            let (template, layered) = (step.template, self.in_layers(step.template));
            let name = self.templates.get(template).map_or("", |t| &t.name);
            (step.first..step.first.saturating_add(step.count)).map(move |layer| Section {
                template,
                layer,
                name: match layered {
                    true => format!("layer {layer}"),
                    false => name.into(),
                },
            })
        };
        self.steps.iter().flat_map(runs).collect()
    }

    /// Whether a template computes something of a layer: its sites name one.
    pub fn in_layers(&self, template: usize) -> bool {
        let template = self.templates.get(template);
        template.is_some_and(|t| t.instrs.iter().any(|instr| instr.site.contains("{i}")))
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::{Prices, charges};
    use crate::slot::Op;
    use crate::slot::tests::attention;
    use crate::testing::{level, plan};

    #[test]
    fn loops_are_charged_by_the_groups_they_visit() {
        let plan = plan(&level(&attention()));
        let program = &plan.decode;
        let is_loop = |op: &Op<_>| matches!(op, Op::SumGroups { .. });
        let looping = |t: &crate::plan::PlanTemplate| t.instrs.iter().any(|i| is_loop(&i.op));
        let layer = program.templates.iter().position(looping).unwrap();
        let prices: Vec<Prices> = (program.templates.iter())
            .map(|t| Prices {
                seconds: vec![1.0; t.instrs.len()],
                key_switches: vec![2; t.instrs.len()],
                loops: vec![],
            })
            .collect();
        let (mut seconds, mut switches) = (0.0, 0);
        charges(program, &prices, layer, &|_, _| 3, &mut |charge| {
            seconds += charge.total();
            switches += charge.times * u64::from(charge.key_switches);
        });
        let body = &program.templates[layer];
        let (index, call) = (body.instrs.iter().enumerate())
            .find(|(_, i)| is_loop(&i.op))
            .unwrap();
        let Op::SumGroups { template, .. } = call.op else {
            unreachable!()
        };
        let inner = program.templates[template].instrs.len();
        let expected = body.instrs.len() - 1 + 3 * inner + 2 * call.dst.len();
        assert_eq!(seconds, expected as f64);
        assert_eq!(switches, 2 * expected as u64);
        assert_eq!(prices[layer].groups(index), 1);
    }

    #[test]
    fn sections_name_layers_and_what_is_outside_them() {
        let plan = plan(&level(&attention()));
        let names: Vec<String> = (plan.decode.sections().into_iter())
            .map(|s| s.name)
            .collect();
        assert!(names.contains(&"layer 0".into()), "{names:?}");
        assert_eq!(
            names.len(),
            plan.decode
                .steps
                .iter()
                .map(|s| s.count as usize)
                .sum::<usize>()
        );
    }
}
