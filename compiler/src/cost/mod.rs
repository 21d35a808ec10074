//! What operations cost: the price list that placement minimises and the plan's estimate adds up.
//!
//! Prices come from a [`CostTable`](sotto_ir::cost::CostTable): the committed one, measured, is `default.ron` beside this file; others
//! come from `sotto bench --cost-table`. Plans name their table and its digest. [`model`] derives a table from transform counts for rings
//! where nothing has been measured. [`Work`] says which basic operations an operation of a program consists of, from the same
//! structure that the executor follows.

pub mod model;
mod price;
#[cfg(test)]
mod tests;
mod work;

pub use price::{TableError, committed, of, read, seconds};
pub use work::{Work, WorkError, depends_on_position};

/// Prices of work by level.
pub trait Prices {
    /// Nanoseconds of `work` on operands at `level`: whole ones, which add up the same in any order.
    fn nanos(&self, work: &Work, level: u32) -> u64;
}
