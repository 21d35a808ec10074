//! Refreshes that raise nothing are left out.

use super::Copies;
use crate::place::placement::Placement;
use crate::place::region::{Region, Val};

/// The placement of `copies` without those of values that have, as defined, every level at which their copies are read.
pub fn useful(region: &Region, exit: u32, mut copies: Copies) -> Placement {
    loop {
        let placement = Placement::of(region, exit, |n| copies[n]);
        let read = highest_reads(region, &placement);
        let useless = |v: &Val| placement.level[*v] >= read[*v];
        let refreshed = (0..region.values.len()).filter(|&v| placement.refreshed[v]);
        let Some(v) = refreshed.into_iter().find(useless) else {
            return placement;
        };
        forget(region, v, &mut copies);
    }
}

/// Highest level at which each value's copy is read.
fn highest_reads(region: &Region, placement: &Placement) -> Vec<Option<u32>> {
    let mut highest = vec![None; region.values.len()];
    for (n, node) in region.nodes.iter().enumerate() {
        for (k, &v) in node.operands.iter().enumerate() {
            if placement.reads_copy[n][k] {
                highest[v] = highest[v].max(placement.operands_at[n]);
            }
        }
    }
    highest
}

/// Reads the original of `v` wherever its copy was read.
fn forget(region: &Region, v: Val, copies: &mut [u8]) {
    for (node, bits) in region.nodes.iter().zip(copies) {
        for (k, _) in node.operands.iter().enumerate().filter(|(_, o)| **o == v) {
            *bits &= !(1 << k);
        }
    }
}
