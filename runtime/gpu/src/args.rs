//! What kernels are given: the structures of `kernels/*.cu`, field by field.

use bytemuck::{Pod, Zeroable};

/// Limbs of a polynomial, and other lists, at most.
pub(crate) const MOST_LIMBS: usize = 64;
/// Digits, sources of a base conversion, products of a sum before it is reduced, at most.
pub(crate) const MOST_TERMS: usize = 16;
/// Terms of one combination.
pub(crate) const MOST_COMBINED: usize = 8;
/// Polynomials of one batch of transforms.
pub(crate) const MOST_POLYS: usize = 16;
/// Rotated ciphertexts of one sum of diagonals.
pub(crate) const MOST_BABIES: usize = 32;
/// Giant steps of one sum of diagonals.
pub(crate) const MOST_GIANTS: usize = 8;
/// Rotations of a sum that makes its rotated ciphertexts itself.
pub(crate) const MOST_ROTATIONS: usize = 8;
/// Digits of such a sum.
pub(crate) const MOST_DIGITS: usize = 4;
/// No limb.
pub(crate) const NONE: u8 = 255;

/// A prime with its constants.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Prime {
    pub p: u32,
    pub p_inv: u32,
    pub mu: u32,
    pub shift: u32,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Transform {
    pub from: [u64; MOST_POLYS],
    pub to: [u64; MOST_POLYS],
    pub roots: u64,
    pub rows: u64,
    pub primes: u64,
    pub dividend: [u64; MOST_POLYS],
    pub log_n: u32,
    pub element: u32,
    pub gap: u32,
    pub zero: u32,
    pub factor: [u32; MOST_LIMBS],
    pub inverse: [u32; MOST_LIMBS],
    pub prime: [u16; MOST_LIMBS],
    pub from_limb: [u8; MOST_LIMBS],
    pub dividend_limb: [u8; MOST_LIMBS],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Map {
    pub out: u64,
    pub a: u64,
    pub b: u64,
    pub primes: u64,
    pub log_n: u32,
    pub zero: u32,
    pub low: [u32; MOST_LIMBS],
    pub high: [u32; MOST_LIMBS],
    pub prime: [u16; MOST_LIMBS],
    pub a_limb: [u8; MOST_LIMBS],
    pub b_limb: [u8; MOST_LIMBS],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Products {
    pub out: [u64; 3],
    pub pair: [[u64; 4]; MOST_TERMS],
    pub primes: u64,
    pub log_n: u32,
    pub pairs: u32,
    pub more: u32,
    pub zero: u32,
    pub prime: [u16; MOST_LIMBS],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Combination {
    pub out: u64,
    pub a: [u64; MOST_COMBINED],
    pub primes: u64,
    pub log_n: u32,
    pub terms: u32,
    pub more: u32,
    pub zero: u32,
    pub factor: [[u32; MOST_LIMBS]; MOST_COMBINED],
    pub prime: [u16; MOST_LIMBS],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Conversion {
    pub from: u64,
    pub to: u64,
    pub reciprocals: u64,
    pub constants: u64,
    pub primes: u64,
    pub log_n: u32,
    pub sources: u32,
    pub targets: u32,
    pub zero: u32,
    pub prime: [u16; MOST_LIMBS],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct KeyProduct {
    pub rest: [u64; MOST_TERMS],
    pub whole: u64,
    pub b: [u64; MOST_TERMS],
    pub a: [u64; MOST_TERMS],
    pub carry: [u64; 2],
    pub out: [u64; 2],
    pub primes: u64,
    pub log_n: u32,
    pub digits: u32,
    pub element: u32,
    pub more: u32,
    pub factor: [u32; MOST_LIMBS],
    pub prime: [u16; MOST_LIMBS],
    pub rest_limb: [[u8; MOST_LIMBS]; MOST_TERMS],
    pub whole_limb: [u8; MOST_LIMBS],
    pub key_limb: [u8; MOST_LIMBS],
    pub carry_limb: [u8; MOST_LIMBS],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct DiagonalSum {
    pub diagonal: [[u64; MOST_GIANTS]; MOST_BABIES],
    pub rotated: u64,
    pub out: [[u64; 2]; MOST_GIANTS],
    pub primes: u64,
    pub log_n: u32,
    pub babies: u32,
    pub giants: u32,
    pub limbs: u32,
    pub first: u32,
    pub start: u32,
    pub run: u32,
    pub more: u32,
    pub prime: [u16; MOST_LIMBS],
    pub baby: [u16; MOST_BABIES],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RotatedSum {
    pub rest: [u64; MOST_DIGITS],
    pub whole: u64,
    pub c0: u64,
    pub b: [[u64; MOST_DIGITS]; MOST_ROTATIONS],
    pub a: [[u64; MOST_DIGITS]; MOST_ROTATIONS],
    pub diagonal: [[u64; MOST_GIANTS]; MOST_ROTATIONS],
    pub out: [[u64; 2]; MOST_GIANTS],
    pub primes: u64,
    pub log_n: u32,
    pub digits: u32,
    pub babies: u32,
    pub giants: u32,
    pub first: u32,
    pub start: u32,
    pub run: u32,
    pub more: u32,
    pub element: [u32; MOST_ROTATIONS],
    pub factor: [u32; MOST_LIMBS],
    pub prime: [u16; MOST_LIMBS],
    pub rest_limb: [[u8; MOST_LIMBS]; MOST_DIGITS],
    pub key_limb: [[u8; MOST_LIMBS]; MOST_ROTATIONS],
    pub whole_limb: [u8; MOST_LIMBS],
    pub c0_limb: [u8; MOST_LIMBS],
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Chain {
    pub out: u64,
    pub primes: u64,
    pub rounds: u32,
    pub zero: u32,
}
