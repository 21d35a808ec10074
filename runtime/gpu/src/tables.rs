//! A ring's tables in a device's memory.

use crate::args::{MOST_LIMBS, MOST_TERMS, Prime};
use crate::device::Device;
use sotto_ckks::engine::{Modulus, Primes, Tables};
use sotto_ckks::{CkksError, Context};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Rings that the transforms' split into columns and rows serves.
const LOG_N: std::ops::RangeInclusive<u32> = 9..=16;

/// Primes, roots, and what conversions need, as they come up.
pub(crate) struct Resident<D: Device> {
    pub moduli: Vec<Modulus>,
    pub primes: D::Memory,
    /// Roots of forward transforms and of inverse ones.
    pub roots: [D::Memory; 2],
    conversions: Mutex<HashMap<FromTo, Arc<Conversion<D>>>>,
}

/// The primes that a conversion comes from and goes to.
type FromTo = (Vec<u16>, Vec<u16>);

/// The constants of a base conversion.
pub(crate) struct Conversion<D: Device> {
    /// Per source: what its coefficients, times N, are multiplied with.
    pub factors: Vec<u32>,
    pub reciprocals: D::Memory,
    pub constants: D::Memory,
}

impl<D: Device> Resident<D> {
    /// Puts a context's tables into memory.
    pub fn new(device: &D, ctx: &Context) -> Result<Self, CkksError> {
        let tables = Tables::new(ctx);
        let (log_n, moduli) = (ctx.params().log_n, tables.moduli());
        let refuse = |why: String| CkksError::Device {
            device: device.name(),
            why,
        };
        if !LOG_N.contains(&log_n) {
            return Err(refuse(format!(
                "rings of 2^{log_n} coefficients have no kernels; use --backend cpu"
            )));
        }
        let most = ctx.params().p_primes.len()
            + (ctx.params().levels.iter().map(|l| l.primes.len()))
                .max()
                .unwrap_or(0);
        let digits = ctx.params().digits.len();
        let sources = ctx.params().digits.iter().map(Vec::len).max().unwrap_or(0);
        if most > MOST_LIMBS || digits > MOST_TERMS || sources >= MOST_TERMS {
            return Err(refuse(format!(
                "{most} primes in {digits} digits of up to {sources} are more than kernels take; use --backend cpu"
            )));
        }
        let words: Vec<Prime> = moduli.iter().map(prime).collect();
        let roots = [false, true].map(|inverse| {
            let of = |(i, m)| roots(m, tables.root(i as u16), log_n, inverse);
            let words: Vec<u32> = moduli.iter().enumerate().flat_map(of).collect();
            resident(device, &words)
        });
        device.check().map_err(refuse)?;
        Ok(Self {
            primes: resident(device, bytemuck::cast_slice(&words)),
            roots,
            moduli,
            conversions: Mutex::default(),
        })
    }

    /// The constants of a conversion.
    pub fn conversion(
        &self,
        device: &D,
        ctx: &Context,
        from: &[u16],
        to: &Primes,
    ) -> Arc<Conversion<D>> {
        let mut known = self
            .conversions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let made = || {
            let table = Tables::new(ctx).conversion(from, to);
            Arc::new(Conversion {
                reciprocals: resident(device, table.reciprocals.as_flattened()),
                constants: resident(device, &table.targets.concat()),
                factors: table.factors,
            })
        };
        known
            .entry((from.to_vec(), to.to_vec()))
            .or_insert_with(made)
            .clone()
    }
}

/// Words in a device's memory.
pub(crate) fn resident<D: Device>(device: &D, words: &[u32]) -> D::Memory {
    let memory = device.alloc(words.len());
    device.write(&memory, words);
    memory
}

fn prime(m: &Modulus) -> Prime {
    Prime {
        p: m.p,
        p_inv: m.p_inv,
        mu: m.mu,
        shift: m.shift,
    }
}

/// ψ^(±rev(k)) for every k below N, each with floor(2^32·root / p).
fn roots(m: &Modulus, psi: u32, log_n: u32, inverse: bool) -> Vec<u32> {
    let psi = if inverse { m.inv(psi) } else { psi };
    let mut table = vec![0; 2 << log_n];
    let mut power = 1;
    for e in 0..1u32 << log_n {
        let at = (e.reverse_bits() >> (32 - log_n)) as usize;
        table[2 * at] = power;
        table[2 * at + 1] = ((u64::from(power) << 32) / u64::from(m.p)) as u32;
        power = m.mul(power, psi);
    }
    table
}
