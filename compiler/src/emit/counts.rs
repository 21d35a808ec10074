//! How many operations a program has, by kind: what papers compare.

use super::EmitError;
use super::estimate::mean_groups;
use crate::cost::{Work, depends_on_position};
use serde::Serialize;
use sotto_ir::plan::{Buf, PlanProgram};
use sotto_ir::slot::{BootstrapKind, Op};
use std::collections::BTreeMap;

/// Operations, bootstraps' own not counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Ciphertext times a diagonal of a matrix.
    pub matrix_products: u64,
    /// Ciphertext times another encoded plaintext: masks, gains, rotary tables.
    pub mask_products: u64,
    /// Ciphertext times ciphertext.
    pub products: u64,
    /// Rotations and conjugations.
    pub rotations: u64,
    /// Rotations, conjugations and relinearisations.
    pub key_switches: u64,
    /// Plaintexts encoded anew for every token, since they depend on the position.
    pub encodings: u64,
    /// Plaintexts that depend on no position: encoded once where memory holds them all, else anew whenever they are used.
    pub stored_plaintexts: u64,
    /// Bootstraps, by slots and part.
    #[serde(skip)]
    pub bootstraps: BTreeMap<BootstrapKind, u64>,
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
                &program.states,
                &instr.op,
            );
            let works = works.map_err(|e| EmitError::Malformed {
                template: body.name.clone(),
                site: instr.site.clone(),
                what: e.to_string(),
            })?;
            works.iter().for_each(|work| counts.work(work));
            let plaintexts = plaintexts(program, &instr.op);
            match encodes(program, &instr.op) {
                true => counts.encodings += plaintexts,
                false => counts.stored_plaintexts += plaintexts,
            }
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
        self.matrix_products += other.matrix_products * times;
        self.mask_products += other.mask_products * times;
        self.products += other.products * times;
        self.rotations += other.rotations * times;
        self.key_switches += other.key_switches * times;
        self.encodings += other.encodings * times;
        self.stored_plaintexts += other.stored_plaintexts * times;
        for (kind, count) in &other.bootstraps {
            *self.bootstraps.entry(*kind).or_insert(0) += count * times;
        }
    }

    /// Adds an operation's work.
    pub(super) fn work(&mut self, work: &Work) {
        let mut turn = |count: u32| {
            self.rotations += u64::from(count);
            self.key_switches += u64::from(count);
        };
        match work {
            Work::Rotate | Work::Conjugate => turn(1),
            Work::Fold { rotations } => turn(*rotations),
            Work::Linear { diagonals, baby } => {
                turn(baby.saturating_sub(1) + diagonals.div_ceil((*baby).max(1)).saturating_sub(1));
                self.matrix_products += u64::from(*diagonals);
            }
            Work::Apply { diagonals, baby } => {
                let giants = diagonals.div_ceil((*baby).max(1));
                turn(baby.saturating_sub(1) + giants.saturating_sub(1));
                self.products += u64::from(*diagonals);
                self.key_switches += u64::from(giants);
            }
            Work::Spread { turns, masks } => {
                turn(turns.saturating_sub(1));
                self.mask_products += u64::from(turns * masks);
                self.encodings += u64::from(*masks);
            }
            Work::MulPlain => self.mask_products += 1,
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

/// Encoded plaintexts that an operation reads.
pub fn plaintexts(program: &PlanProgram, op: &Op<Buf>) -> u64 {
    match op {
        Op::Linear { matrix, .. } => {
            let matrix = program.matrices.get(matrix.0 as usize);
            matrix.map_or(0, |matrix| u64::from(matrix.diagonals()))
        }
        Op::MulPlain { .. } | Op::AddPlain { .. } => 1,
        _ => 0,
    }
}

/// Whether an operation's plaintext must be encoded for every token.
pub fn encodes(program: &PlanProgram, op: &Op<Buf>) -> bool {
    match op {
        Op::MulPlain { plain, .. } | Op::AddPlain { plain, .. } => {
            let plain = program.plains.get(plain.0 as usize);
            plain.is_some_and(|plain| plain.factors.iter().any(depends_on_position))
        }
        _ => false,
    }
}
