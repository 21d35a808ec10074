//! CKKS parameter sets as data, and pure functions over them.

pub mod poly;
