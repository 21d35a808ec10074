//! How many operations a program has, by kind: what papers compare.

use super::EmitError;
use super::estimate::mean_groups;
use crate::cost::{Work, depends_on_position};
use serde::Serialize;
use sotto_ir::plan::{Buf, PlanProgram};
use sotto_ir::slot::{BootstrapKind, Op};
use std::collections::BTreeMap;
use std::ops::AddAssign;

/// Operations, bootstraps' own not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Ciphertext times encoded plaintext, matrices included.
    pub plain_products: u64,
    /// Ciphertext times ciphertext.
    pub products: u64,
    /// Rotations and conjugations.
    pub rotations: u64,
    /// Rotations, conjugations and relinearisations.
    pub key_switches: u64,
    /// Plaintexts encoded anew for every token, since they depend on the position.
    pub encodings: u64,
    /// Bootstraps, by slots and part.
    #[serde(skip)]
    pub bootstraps: BTreeMap<BootstrapKind, u64>,
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        self.add(other, 1);
    }
}

impl Counts {
    /// Of one run of a template, at the position where the KV state is half full.
    pub fn of_template(
        program: &PlanProgram,
        template: usize,
        capacity: u32,
    ) -> Result<Counts, EmitError> {
        let mut counts = Counts::default();
        let Some(body) = program.templates.get(template) else {
            return Ok(counts);
        };
        for instr in &body.instrs {
            if let Op::SumGroups {
                template, states, ..
            } = &instr.op
            {
                let groups = mean_groups(program, states, capacity);
                let each = Self::of_template(program, *template, capacity)?;
                counts.add(&each, groups);
                continue;
            }
            let works = Work::of_tables(
                &program.plains,
                &program.matrices,
                &program.polys,
                &instr.op,
            );
            let works = works.map_err(|e| EmitError::Malformed {
                template: body.name.clone(),
                site: instr.site.clone(),
                what: e.to_string(),
            })?;
            works.iter().for_each(|work| counts.work(work));
            counts.encodings += u64::from(encodes(program, &instr.op));
        }
        Ok(counts)
    }

    /// Of a whole step of the program.
    pub fn of_token(program: &PlanProgram, capacity: u32) -> Result<Counts, EmitError> {
        let mut counts = Counts::default();
        for step in &program.steps {
            let each = Self::of_template(program, step.template, capacity)?;
            counts.add(&each, u64::from(step.count));
        }
        Ok(counts)
    }

    fn add(&mut self, other: &Counts, times: u64) {
        self.plain_products += other.plain_products * times;
        self.products += other.products * times;
        self.rotations += other.rotations * times;
        self.key_switches += other.key_switches * times;
        self.encodings += other.encodings * times;
        for (kind, count) in &other.bootstraps {
            *self.bootstraps.entry(*kind).or_insert(0) += count * times;
        }
    }

    fn work(&mut self, work: &Work) {
        let mut turn = |count: u32| {
            self.rotations += u64::from(count);
            self.key_switches += u64::from(count);
        };
        match work {
            Work::Rotate | Work::Conjugate => turn(1),
            Work::Fold { rotations } => turn(*rotations),
            Work::Linear { diagonals, baby } => {
                turn(baby.saturating_sub(1) + diagonals.div_ceil((*baby).max(1)).saturating_sub(1));
                self.plain_products += u64::from(*diagonals);
            }
            Work::MulPlain => self.plain_products += 1,
            Work::Mul => {
                self.products += 1;
                self.key_switches += 1;
            }
            Work::Poly(plan) => {
                for ops in plan.operations() {
                    self.products += ops.products as u64;
                    self.key_switches += ops.relinearisations as u64;
                }
            }
            Work::Bootstrap(kind) => *self.bootstraps.entry(*kind).or_insert(0) += 1,
            _ => {}
        }
    }
}

/// Whether an operation's plaintext must be encoded for every token.
fn encodes(program: &PlanProgram, op: &Op<Buf>) -> bool {
    match op {
        Op::MulPlain { plain, .. } | Op::AddPlain { plain, .. } => {
            let plain = program.plains.get(plain.0 as usize);
            plain.is_some_and(|plain| plain.factors.iter().any(depends_on_position))
        }
        _ => false,
    }
}
