//! Predicted memory of the server.
//!
//! A limb is N words of four bytes. A plaintext that repeats with period p lies in the subring of degree 2p, and is counted as
//! stored there. The peak is keys, the bootstraps' encoded transforms, KV state at capacity, live ciphertexts, the working set of
//! the largest operation, the largest encoded matrix, and the scheme's pool of freed buffers; whatever memory is left beyond it the runtime fills with encoded plaintexts.

use super::keys::operand_levels;
use crate::cost::depends_on_position;
use crate::place::groups_at_capacity;
use serde::Serialize;
use sotto_ir::params::bootstrap::{BootstrapSpec, FactorSpec};
use sotto_ir::params::poly::{Parity, PolyPlan};
use sotto_ir::params::{POOL_BYTES, ParamSet, galois};
use sotto_ir::plan::{Buf, Estimate, Instr, KeyList, PlanProgram, PlanTemplate};
use sotto_ir::slot::{DataId, Op, PlainFactor};
use std::collections::{BTreeMap, BTreeSet};

const WORD: u64 = 4;

/// What the peak of one program is made of, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Parts {
    /// Evaluation keys.
    pub keys: u64,
    /// KV state at capacity.
    pub states: u64,
    /// The bootstraps' encoded transforms.
    pub transforms: u64,
    /// Ciphertexts and the working set of the worst instruction.
    pub live: u64,
    /// The largest encoded matrix.
    pub matrix: u64,
    /// The scheme's pool of freed buffers.
    pub pool: u64,
    /// Every plaintext that can stay encoded: beside the peak, where there is room.
    pub plaintexts: u64,
    /// Most ciphertexts alive at once.
    pub ciphertexts: u32,
}

impl Parts {
    /// All that must be there.
    pub fn peak(&self) -> u64 {
        self.keys + self.states + self.transforms + self.live + self.matrix + self.pool
    }
}

/// What is alive while an instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Bytes of ciphertexts and of the instruction's working set.
    pub bytes: u64,
    /// Ciphertexts, a loop's body's included.
    pub ciphertexts: u32,
}

/// A key and what it takes in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyBytes {
    /// `relinearise`, `rotate 16`, `conjugate`, `from the ephemeral secret`.
    pub name: String,
    /// The Galois element, for rotations and the conjugation.
    pub element: Option<u32>,
    /// Highest level it serves.
    pub level: u32,
    /// Bytes.
    pub bytes: u64,
}

/// What a program's peak is made of.
pub fn parts(
    program: &PlanProgram,
    specs: &[BootstrapSpec],
    keys: &KeyList,
    capacity: u32,
    params: &ParamSet,
) -> Parts {
    let sizes = Sizes {
        params,
        program,
        specs,
    };
    let live = sizes.live();
    let (plaintexts, matrix) = sizes.plaintexts();
    Parts {
        keys: key_bytes(keys, params).iter().map(|key| key.bytes).sum(),
        states: sizes.states(capacity),
        transforms: sizes.transforms(),
        live: live.bytes,
        matrix,
        pool: POOL_BYTES as u64,
        plaintexts,
        ciphertexts: live.ciphertexts,
    }
}

/// What is alive at every instruction of a template.
pub fn course(
    program: &PlanProgram,
    specs: &[BootstrapSpec],
    template: usize,
    params: &ParamSet,
) -> Vec<Live> {
    let sizes = Sizes {
        params,
        program,
        specs,
    };
    let template = program.templates.get(template);
    template.map_or(vec![], |template| sizes.course(template))
}

/// Every key of a list.
pub fn key_bytes(keys: &KeyList, params: &ParamSet) -> Vec<KeyBytes> {
    let key = |name: String, element: Option<u32>, level: u32| {
        let primes = params.key_primes(level as usize);
        let digits = params.digits_of(&primes).len() as u64;
        let limbs = primes.len() as u64 + params.p_primes.len() as u64;
        KeyBytes {
            name,
            element,
            level,
            bytes: digits * 2 * limbs * params.n() as u64 * WORD,
        }
    };
    let galois = keys.galois.iter().map(|k| match k.step {
        Some(step) => {
            let element = galois::rotation(i64::from(step), params.log_n);
            key(format!("rotate {step}"), Some(element), k.level)
        }
        None => {
            let element = galois::conjugation(params.log_n);
            key("conjugate".into(), Some(element), k.level)
        }
    });
    let ephemeral = keys.ephemeral_level.into_iter();
    std::iter::once(key("relinearise".into(), None, keys.relinearise_level))
        .chain(ephemeral.map(|level| key("from the ephemeral secret".into(), None, level)))
        .chain(galois)
        .collect()
}

/// Fills the memory figures of an estimate.
pub fn fill(
    estimate: &mut Estimate,
    program: &PlanProgram,
    specs: &[BootstrapSpec],
    keys: &KeyList,
    capacity: u32,
    params: &ParamSet,
) {
    let parts = parts(program, specs, keys, capacity, params);
    estimate.peak_ciphertexts = parts.ciphertexts;
    estimate.key_bytes = parts.keys;
    estimate.plaintext_bytes = parts.plaintexts;
    estimate.state_bytes = parts.states;
    estimate.peak_memory_bytes = parts.peak();
}

/// Bytes of the KV state that one layer with this template fills at capacity.
pub fn state_bytes(
    program: &PlanProgram,
    template: usize,
    capacity: u32,
    params: &ParamSet,
) -> u64 {
    let sizes = Sizes {
        params,
        program,
        specs: &[],
    };
    let template = program.templates.get(template);
    template.map_or(0, |template| sizes.template_states(template, capacity))
}

/// The most bytes and the most ciphertexts, wherever either is.
fn worst(course: impl IntoIterator<Item = Live>) -> Live {
    let none = Live {
        bytes: 0,
        ciphertexts: 0,
    };
    course.into_iter().fold(none, |a, b| Live {
        bytes: a.bytes.max(b.bytes),
        ciphertexts: a.ciphertexts.max(b.ciphertexts),
    })
}

struct Sizes<'a> {
    params: &'a ParamSet,
    program: &'a PlanProgram,
    specs: &'a [BootstrapSpec],
}

impl Sizes<'_> {
    fn limbs(&self, level: u32) -> u64 {
        self.params.levels[level as usize].primes.len() as u64
    }

    fn special(&self) -> u64 {
        self.params.p_primes.len() as u64
    }

    fn limb(&self) -> u64 {
        self.params.n() as u64 * WORD
    }

    fn ciphertext(&self, level: u32) -> u64 {
        2 * self.limbs(level) * self.limb()
    }

    /// One plaintext of this period over so many limbs.
    fn plaintext(&self, period: u64, limbs: u64) -> u64 {
        limbs * WORD * (2 * period).min(self.params.n() as u64)
    }

    fn states(&self, capacity: u32) -> u64 {
        let layers = self.program.steps.iter().filter_map(|step| {
            let template = self.program.templates.get(step.template)?;
            Some(u64::from(step.count) * self.template_states(template, capacity))
        });
        layers.sum()
    }

    /// States that one layer with this template appends to.
    fn template_states(&self, template: &PlanTemplate, capacity: u32) -> u64 {
        let appended: BTreeSet<u32> = template
            .instrs
            .iter()
            .filter_map(|i| match &i.op {
                Op::Append { state, .. } => Some(state.0),
                _ => None,
            })
            .collect();
        let states = appended.into_iter().filter_map(|s| {
            let state = self.program.states.get(s as usize)?;
            let level = state.level.unwrap_or(0);
            let each = u64::from(state.ciphertexts()) * self.ciphertext(level);
            Some(groups_at_capacity(capacity, &state.ty) * each)
        });
        states.sum()
    }

    /// What is alive at the worst instruction of a token.
    fn live(&self) -> Live {
        let steps = self.program.steps.iter();
        let templates = steps.filter_map(|s| self.program.templates.get(s.template));
        worst(templates.map(|t| worst(self.course(t))))
    }

    fn course(&self, template: &PlanTemplate) -> Vec<Live> {
        let mut held: BTreeMap<Buf, u64> = BTreeMap::new();
        for (buf, at, _) in &template.params {
            held.insert(*buf, self.ciphertext(at.level));
        }
        let mut course = Vec::new();
        for (instr, (op, level)) in template.instrs.iter().zip(operand_levels(template)) {
            let new: u64 = instr.at.iter().map(|at| self.ciphertext(at.level)).sum();
            let mut inside = Live {
                bytes: self.working_set(op, level),
                ciphertexts: 0,
            };
            if let Op::SumGroups { template, .. } = op
                && let Some(callee) = self.program.templates.get(*template)
            {
                // The body's own values, beside the sums so far.
                inside = worst(self.course(callee));
            }
            course.push(Live {
                bytes: held.values().sum::<u64>() + new + inside.bytes,
                ciphertexts: held.len() as u32 + instr.dst.len() as u32 + inside.ciphertexts,
            });
            self.settle(&mut held, instr);
        }
        course
    }

    fn settle(&self, held: &mut BTreeMap<Buf, u64>, instr: &Instr) {
        for (buf, at) in instr.dst.iter().zip(&instr.at) {
            held.insert(*buf, self.ciphertext(at.level));
        }
        for buf in &instr.free {
            held.remove(buf);
        }
    }

    /// What an operation needs beside operands and results.
    fn working_set(&self, op: &Op<Buf>, level: u32) -> u64 {
        let extended = |level: u32| 2 * (self.limbs(level) + self.special()) * self.limb();
        match op {
            Op::Linear { matrix, .. } => {
                let matrix = self.program.matrices.get(matrix.0 as usize);
                let most = matrix.map_or(1, |m| {
                    let baby = m.baby.min(m.diagonals()).max(1);
                    baby.max(m.diagonals().div_ceil(baby))
                });
                (u64::from(most) + 2) * extended(level)
            }
            Op::Apply { baby, .. } => {
                u64::from(*baby) * self.ciphertext(level) + 4 * extended(level)
            }
            // the diagonals that change, old and new, and the vector's rotations
            Op::Append { state, .. } => {
                let state = self.program.states.get(state.0 as usize);
                let group = state.map_or(1, |s| u64::from(s.ciphertexts()));
                match group {
                    1 => 0,
                    _ => 3 * group * self.ciphertext(level),
                }
            }
            Op::Poly { poly, .. } => {
                let Some(poly) = self.program.polys.get(poly.0 as usize) else {
                    return 0;
                };
                let plan = PolyPlan::new(poly.degree() as usize, Parity::of(&poly.coefficients));
                plan.map_or(0, |p| (p.basis.len() as u64 + 2) * self.ciphertext(level))
            }
            Op::Bootstrap { kind, .. } => {
                let same = |s: &&BootstrapSpec| {
                    s.slots == kind.slots as usize && s.complex == kind.complex
                };
                self.specs.iter().find(same).map_or(0, |s| {
                    let transforms = s.cts.iter().chain(&s.stc);
                    // babies rotated, or the sums of all giants
                    let linear = transforms.map(|f| {
                        let most = f.bsgs.baby_steps().len().max(f.bsgs.giants.len());
                        (most as u64 + 3) * extended(f.level as u32)
                    });
                    // real and imaginary parts are reduced at the same time
                    let parts = 1 + u64::from(s.complex);
                    let evalmod = parts
                        * (s.evalmod.poly.basis.len() as u64 + 3)
                        * self.ciphertext(s.evalmod.level as u32);
                    linear.max().unwrap_or(0).max(evalmod)
                })
            }
            Op::Rotate { .. }
            | Op::Conjugate { .. }
            | Op::Mul { .. }
            | Op::Fold { .. }
            | Op::FoldCurrent { .. } => 2 * extended(level),
            _ => 0,
        }
    }

    /// Bytes of everything that can stay encoded, and of the largest piece of it.
    fn plaintexts(&self) -> (u64, u64) {
        let (mut all, mut largest) = (0, 0);
        let mut seen = BTreeSet::new();
        for (index, template) in self.program.templates.iter().enumerate() {
            let runs = self.layers(index);
            for (op, level) in operand_levels(template) {
                let Some((name, bytes, per_layer)) = self.operand(op, level) else {
                    continue;
                };
                largest = bytes.max(largest);
                let copies = if per_layer { runs } else { 1 };
                if per_layer || seen.insert((name, level)) {
                    all += bytes * copies;
                }
            }
        }
        (all, largest)
    }

    /// Encoded transforms of the bootstraps, which stay in memory.
    fn transforms(&self) -> u64 {
        let factors = self.specs.iter().flat_map(|s| s.cts.iter().chain(&s.stc));
        let bytes = |f: &FactorSpec| {
            let limbs = self.limbs(f.level as u32) + self.special();
            f.bsgs.diagonals().len() as u64 * self.plaintext(f.period() as u64, limbs)
        };
        factors.map(bytes).sum()
    }

    /// The plaintext operand of an operation: name, bytes, whether each layer has its own.
    fn operand(&self, op: &Op<Buf>, level: u32) -> Option<((bool, u32), u64, bool)> {
        let per_layer = |id: DataId| {
            self.program
                .data
                .get(id.0 as usize)
                .is_some_and(|d| d.per_layer)
        };
        match op {
            Op::Linear { matrix: id, .. } => {
                let matrix = self.program.matrices.get(id.0 as usize)?;
                let limbs = self.limbs(level) + self.special();
                let one = self.plaintext(u64::from(matrix.period()), limbs);
                let bytes = one * u64::from(matrix.diagonals());
                Some(((true, id.0), bytes, per_layer(matrix.data)))
            }
            Op::MulPlain { plain: id, .. } | Op::AddPlain { plain: id, .. } => {
                let plain = self.program.plains.get(id.0 as usize)?;
                if plain.factors.iter().any(depends_on_position) {
                    return None;
                }
                let (mut period, mut own) = (1, false);
                for factor in &plain.factors {
                    match factor {
                        PlainFactor::Vector { data, stride } => {
                            let declared = self.program.data.get(data.0 as usize);
                            let size = declared.map_or(1, |d| d.shape.iter().product::<u32>());
                            period = (size * stride).max(period);
                            own |= per_layer(*data);
                        }
                        PlainFactor::FirstOf { width, .. } => period = (*width).max(period),
                        _ => {}
                    }
                }
                let bytes = self.plaintext(u64::from(period), self.limbs(level));
                Some(((false, id.0), bytes, own))
            }
            _ => None,
        }
    }

    /// Layers that run a template, directly or as a group template.
    fn layers(&self, index: usize) -> u64 {
        let calls = |t: &PlanTemplate| {
            t.instrs
                .iter()
                .any(|i| matches!(i.op, Op::SumGroups { template, .. } if template == index))
        };
        let runs = |step: &&sotto_ir::slot::Step| {
            step.template == index || self.program.templates.get(step.template).is_some_and(calls)
        };
        self.program
            .steps
            .iter()
            .filter(runs)
            .map(|s| u64::from(s.count))
            .sum()
    }
}
