//! A ring's tables in a device's memory.

use crate::args::{MOST_LIMBS, MOST_TERMS, Prime};
use crate::device::Device;
use crate::launch::ROW_LOG;
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
    pub roots: [Roots<D>; 2],
    conversions: Mutex<HashMap<FromTo, Arc<Conversion<D>>>>,
}

/// Roots of one direction, prime after prime.
pub(crate) struct Roots<D: Device> {
    /// Of the stages on columns, with their quotients.
    pub columns: D::Memory,
    /// What those of the stages on rows are made of.
    pub rows: D::Memory,
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
            let of = |(i, m): (usize, &Modulus)| {
                let psi = tables.root(i as u16);
                let psi = if inverse { m.inv(psi) } else { psi };
                (column_roots(m, psi, log_n), row_roots(m, psi, log_n))
            };
            let (columns, rows): (Vec<_>, Vec<_>) = moduli.iter().enumerate().map(of).unzip();
            Roots {
                columns: resident(device, &columns.concat()),
                rows: resident(device, &rows.concat()),
            }
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

/// ψ^rev(k) for every k below the length of a column, each with floor(2^32·root / p); rev reverses log_n bits.
fn column_roots(m: &Modulus, psi: u32, log_n: u32) -> Vec<u32> {
    let bits = log_n - ROW_LOG;
    let pair = |k: u32| {
        let root = m.pow(psi, reversed(k, log_n));
        let quotient = (u64::from(root) << 32) / u64::from(m.p);
        [root, quotient as u32]
    };
    (0..1 << bits).flat_map(pair).collect()
}

/// What the roots of rows are made of, in Montgomery form. Stage t of row r takes ψ^rev(2^(a+t) + 2^t·r + j) for each j below 2^t, where a is
/// the columns' bits; that is ψ^(2^(7-t) + 2^(8-t)·rev_a(r)) times ψ^(2^(log_n-t)·rev_t(j)): first, for each row, those of its eight
/// stages, then from 2^t on those of stage t that all rows share.
fn row_roots(m: &Modulus, psi: u32, log_n: u32) -> Vec<u32> {
    let bits = log_n - ROW_LOG;
    let power = |exponent: u32| m.to_mont(m.pow(psi, exponent));
    let own = |r: u32| {
        (0..ROW_LOG).map(move |t| {
            let half = 1 << (ROW_LOG - 1 - t);
            power(half + 2 * half * reversed(r, bits))
        })
    };
    let shared = (0..ROW_LOG)
        .flat_map(|t| (0..1 << t).map(move |j| power((1 << (log_n - t)) * reversed(j, t))));
    (0..1 << bits)
        .flat_map(own)
        // stage 0 begins at entry 1
        .chain([0])
        .chain(shared)
        .collect()
}

/// The lower `bits` bits of a number in reverse.
fn reversed(number: u32, bits: u32) -> u32 {
    match bits {
        0 => 0,
        _ => number.reverse_bits() >> (32 - bits),
    }
}
