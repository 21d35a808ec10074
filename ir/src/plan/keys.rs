//! The evaluation keys that a program needs.

use super::{Buf, PlanProgram, PlanTemplate, rotations};
use crate::slot::{At, BootstrapKind, Op};
use serde::{Deserialize, Serialize};
use sotto_params::bootstrap::BootstrapSpec;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A rotation key the plan needs: slot step (None: conjugation) and the highest level it is used at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyUse {
    /// Left rotation in 1..S, or None for conjugation.
    pub step: Option<u32>,
    /// Highest level of use.
    pub level: u32,
}

/// Evaluation keys the plan needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyList {
    /// Highest level at which a product is relinearised.
    pub relinearise_level: u32,
    /// Level of the key from the ephemeral secret back to the main one, if anything is bootstrapped.
    pub ephemeral_level: Option<u32>,
    /// Galois keys of program and bootstraps together, sorted by step, one entry a step.
    pub galois: Vec<KeyUse>,
    /// Bootstrap kinds in use.
    pub bootstraps: Vec<BootstrapKind>,
}

impl KeyList {
    /// The keys that programs need on ciphertexts of `slots` slots, where `bootstraps` has the structure of every kind they use.
    pub fn of<'p>(
        programs: impl IntoIterator<Item = &'p PlanProgram>,
        bootstraps: &[BootstrapSpec],
        slots: u32,
    ) -> Self {
        let mut needs = Needs::default();
        for program in programs {
            for template in &program.templates {
                needs.template(program, template, slots);
            }
        }
        for spec in bootstraps {
            needs.bootstrap(spec);
        }
        let key = |(step, level)| KeyUse { step, level };
        Self {
            relinearise_level: needs.relinearise,
            ephemeral_level: needs.ephemeral,
            galois: needs.galois.into_iter().map(key).collect(),
            bootstraps: needs.kinds.into_iter().collect(),
        }
    }
}

#[derive(Default)]
struct Needs {
    relinearise: u32,
    ephemeral: Option<u32>,
    galois: BTreeMap<Option<u32>, u32>,
    kinds: BTreeSet<BootstrapKind>,
}

impl Needs {
    fn template(&mut self, program: &PlanProgram, template: &PlanTemplate, slots: u32) {
        let mut at: HashMap<Buf, At> = HashMap::new();
        at.extend(template.params.iter().map(|(buf, at, _)| (*buf, *at)));
        for instr in &template.instrs {
            let operands = instr.op.operands();
            let level = operands.first().and_then(|buf| at.get(buf));
            let level = level.map_or(0, |at| at.level);
            for step in rotations(&instr.op, &program.matrices, &program.states, slots) {
                self.rotation(step, level);
            }
            if matches!(
                instr.op,
                Op::Mul { .. } | Op::Poly { .. } | Op::Apply { .. }
            ) {
                self.relinearise = self.relinearise.max(level);
            }
            if let Op::Bootstrap { kind, .. } = instr.op {
                self.kinds.insert(kind);
            }
            at.extend(instr.dst.iter().copied().zip(instr.at.iter().copied()));
        }
    }

    fn bootstrap(&mut self, spec: &BootstrapSpec) {
        let keys = spec.keys();
        for (step, level) in keys.rotations {
            self.rotation(Some(step as u32), level as u32);
        }
        self.rotation(None, keys.conjugation as u32);
        self.relinearise = self.relinearise.max(keys.relinearisation as u32);
        self.ephemeral = self.ephemeral.max(Some(keys.ephemeral as u32));
    }

    fn rotation(&mut self, step: Option<u32>, level: u32) {
        let highest = self.galois.entry(step).or_insert(level);
        *highest = level.max(*highest);
    }
}
