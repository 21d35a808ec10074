//! A cost table from NTT counts, for a ring and machine where nothing has been measured.
//!
//! A level has l primes in d digits, k special primes. Counts follow the algorithms of the scheme: a hybrid key switch is
//! d·(l+k) transforms to decompose and 2·(l+k) to come back (ModDown), products with the key are passes over memory. On top of the
//! transforms come passes over limbs (reading and writing one limb of N words) and base conversions, priced by pair of limbs.

use sotto_ir::cost::{BootstrapPrice, CostTable, Curve, OpClass};
use sotto_ir::params::bootstrap::{BootstrapError, BootstrapSpec, Bsgs};
use sotto_ir::params::{LevelKind, ParamSet};
use sotto_ir::slot::BootstrapKind;
use std::collections::BTreeMap;

/// What the machine takes for the three elementary things, at N = 2^16; other rings scale with N.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Seconds of one transform of one limb.
    pub ntt: f64,
    /// Seconds of one pass over a limb: read, multiply, add, write.
    pub pass: f64,
    /// Seconds of converting one limb into one other limb's residues.
    pub convert: f64,
    /// Seconds of the slot transform of an encoding.
    pub embed: f64,
    /// Threads.
    pub threads: u32,
    /// Part of perfect scaling that the threads reach.
    pub efficiency: f64,
}

impl Machine {
    /// Two AVX-512 cores: 0.14 ms per transform with a 32-bit plan, 10 GB/s of memory per core.
    pub const TWO_CORES: Machine = Machine {
        ntt: 0.14e-3,
        pass: 0.03e-3,
        convert: 0.005e-3,
        embed: 3e-3,
        threads: 2,
        efficiency: 0.9,
    };
}

/// Transforms, passes and conversions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    ntt: f64,
    pass: f64,
    convert: f64,
    embed: f64,
}

impl Counts {
    fn plus(self, o: Counts) -> Counts {
        Counts {
            ntt: self.ntt + o.ntt,
            pass: self.pass + o.pass,
            convert: self.convert + o.convert,
            embed: self.embed + o.embed,
        }
    }

    fn times(self, n: f64) -> Counts {
        Counts {
            ntt: self.ntt * n,
            pass: self.pass * n,
            convert: self.convert * n,
            embed: self.embed * n,
        }
    }
}

fn passes(pass: usize) -> Counts {
    Counts {
        pass: pass as f64,
        ..Counts::default()
    }
}

/// The shape of one level.
struct Shape {
    limbs: usize,
    special: usize,
    digits: Vec<usize>,
    /// Primes lost and kept or gained on the way to the level below.
    lost: usize,
    below: usize,
}

impl Shape {
    fn of(params: &ParamSet, level: usize) -> Self {
        let primes = &params.levels[level].primes;
        let below = level
            .checked_sub(1)
            .map_or(&[][..], |l| &params.levels[l].primes);
        Self {
            limbs: primes.len(),
            special: params.p_primes.len(),
            digits: params
                .digits_of(primes)
                .into_iter()
                .map(|(_, p)| p.len())
                .collect(),
            lost: primes.iter().filter(|p| !below.contains(p)).count(),
            below: below.len(),
        }
    }

    fn extended(&self) -> usize {
        self.limbs + self.special
    }

    fn decompose(&self) -> Counts {
        let convert: usize = self.digits.iter().map(|d| d * (self.extended() - d)).sum();
        Counts {
            ntt: (self.digits.len() * self.extended()) as f64,
            convert: convert as f64,
            ..Counts::default()
        }
    }

    fn hoisted_rotation(&self) -> Counts {
        passes(2 * self.digits.len() * self.extended() + 2 * self.extended())
    }

    /// ModDown of one component.
    fn mod_down(&self) -> Counts {
        Counts {
            ntt: self.extended() as f64,
            pass: self.limbs as f64,
            convert: (self.special * self.limbs) as f64,
            embed: 0.0,
        }
    }

    fn giant_step(&self) -> Counts {
        self.mod_down()
            .plus(self.decompose())
            .plus(self.hoisted_rotation())
    }

    fn key_switch(&self) -> Counts {
        self.decompose()
            .plus(self.hoisted_rotation())
            .plus(self.mod_down().times(2.0))
    }

    fn mul(&self) -> Counts {
        self.key_switch().plus(passes(4 * self.limbs))
    }

    /// Both components to the level below.
    fn rescale(&self) -> Counts {
        Counts {
            ntt: 2.0 * (self.lost + self.below) as f64,
            pass: 2.0 * self.below as f64,
            convert: 2.0 * (self.lost * self.below) as f64,
            embed: 0.0,
        }
    }

    fn linear(&self, bsgs: &Bsgs) -> Counts {
        let babies = bsgs.baby_steps().len();
        let giants = bsgs.giant_steps().len();
        self.decompose()
            .plus(self.hoisted_rotation().times(babies as f64))
            .plus(passes(2 * self.extended()).times(bsgs.diagonals().len() as f64))
            .plus(self.giant_step().times(giants as f64))
            .plus(self.mod_down().times(2.0))
    }

    fn class(&self, class: OpClass) -> Counts {
        match class {
            OpClass::Add => passes(2 * self.limbs),
            OpClass::AddPlain => passes(self.limbs),
            OpClass::MulPlain | OpClass::MulConst => passes(2 * self.limbs),
            OpClass::Mul => self.mul(),
            OpClass::Rotate => self.key_switch(),
            // At level 0 nothing is rescaled or dropped; the price of level 0 is what a move within the level would be.
            OpClass::Rescale | OpClass::Drop => {
                let moved = self.rescale();
                if moved.ntt > 0.0 {
                    moved
                } else {
                    passes(2 * self.limbs)
                }
            }
            OpClass::Encode => Counts {
                ntt: self.limbs as f64,
                pass: self.limbs as f64,
                convert: 0.0,
                embed: 1.0,
            },
            OpClass::LinearBase => self.decompose().plus(self.mod_down().times(2.0)),
            OpClass::HoistedRotation => self.hoisted_rotation(),
            OpClass::DiagonalProduct => passes(2 * self.extended()),
            OpClass::GiantStep => self.giant_step(),
        }
    }
}

/// Transforms and passes of one bootstrap.
fn bootstrap(params: &ParamSet, spec: &BootstrapSpec) -> Counts {
    let at = |level: usize| Shape::of(params, level);
    let mut counts = Counts::default();
    for factor in spec.stc.iter().chain(&spec.cts) {
        let level = at(factor.level);
        counts = counts
            .plus(level.linear(&factor.bsgs))
            .plus(level.rescale());
    }
    let raised = at(spec.raised_level);
    // ModRaise: a key switch at level 0, the lift, and the key switch back at the top.
    counts = counts.plus(at(0).key_switch()).plus(raised.key_switch());
    counts.ntt += 2.0 * raised.limbs as f64;
    for group in &spec.trace {
        let hoisted = raised.hoisted_rotation().times(group.len() as f64);
        counts = counts
            .plus(raised.decompose())
            .plus(hoisted)
            .plus(raised.mod_down().times(2.0));
    }
    counts = counts.plus(at(spec.evalmod.level).key_switch());
    let parts = if spec.complex { 2.0 } else { 1.0 };
    let mut evalmod = Counts::default();
    for (depth, ops) in spec.evalmod.poly.operations().into_iter().enumerate() {
        let level = at(spec.evalmod.level - depth);
        let shared = ops.products.saturating_sub(ops.relinearisations);
        evalmod = evalmod
            .plus(level.mul().times(ops.relinearisations as f64))
            .plus(passes(
                4 * level.limbs * shared + 4 * level.limbs * ops.constants,
            ))
            .plus(level.rescale().times((ops.rescales + ops.drops) as f64));
    }
    for i in 0..spec.evalmod.double_angles {
        let level = at(spec.evalmod.level - spec.evalmod.poly.depth - i);
        evalmod = evalmod.plus(level.mul()).plus(level.rescale());
    }
    counts.plus(evalmod.times(parts))
}

/// Levels that a modelled table lists: where the number of digits changes the slope does, so every app level and two above.
fn levels(params: &ParamSet) -> Vec<usize> {
    let app = |l: &usize| params.levels[*l].kind == LevelKind::App;
    (0..params.levels.len())
        .filter(|l| app(l) || *l == params.top_level())
        .collect()
}

/// Slot counts whose bootstraps a modelled table lists.
const BOOTSTRAP_LOG_SLOTS: [u32; 6] = [0, 5, 8, 10, 12, 15];

/// The table of a parameter set on a machine.
pub fn table(params: &ParamSet, machine: &Machine) -> Result<CostTable, BootstrapError> {
    let scale = params.n() as f64 / 65536.0 / (f64::from(machine.threads) * machine.efficiency);
    let seconds = |c: Counts| {
        let total = c.ntt * machine.ntt
            + c.pass * machine.pass
            + c.convert * machine.convert
            + c.embed * machine.embed;
        // Microsecond grid: a table is read by people too.
        ((total * scale * 1e6).ceil()) / 1e6
    };
    let curve = |class: OpClass| {
        let point = |l: usize| (l as u32, seconds(Shape::of(params, l).class(class)));
        Curve(levels(params).into_iter().map(point).collect())
    };
    let mut bootstraps = Vec::new();
    let top = (params.log_n - 1).min(15);
    let mut log_slots: Vec<u32> = BOOTSTRAP_LOG_SLOTS.iter().map(|l| *l.min(&top)).collect();
    log_slots.dedup();
    for log in log_slots {
        for complex in [false, true] {
            let slots = 1usize << log;
            let spec = BootstrapSpec::new(params, slots, complex)?;
            bootstraps.push(BootstrapPrice {
                kind: BootstrapKind {
                    slots: slots as u32,
                    complex,
                },
                seconds: seconds(bootstrap(params, &spec)),
            });
        }
    }
    Ok(CostTable {
        name: format!("modelled {} on {} threads", params.name, machine.threads),
        origin: format!(
            "counts of transforms, passes and conversions in the scheme's algorithms; {:.0} us per transform of 2^16 points, {:.0} us \
             per pass over a limb, {:.0} us per converted pair of limbs, {:.0} us per embedding, {:.0} % of ideal scaling",
            machine.ntt * 1e6,
            machine.pass * 1e6,
            machine.convert * 1e6,
            machine.embed * 1e6,
            machine.efficiency * 100.0
        ),
        log_n: params.log_n,
        threads: machine.threads,
        yardstick_seconds: machine.ntt,
        compact: false,
        ops: OpClass::ALL
            .iter()
            .map(|&c| (c, curve(c)))
            .collect::<BTreeMap<_, _>>(),
        bootstraps,
    })
}
