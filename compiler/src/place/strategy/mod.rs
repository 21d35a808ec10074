//! Who decides where values are refreshed: the search, or a published placer to compare it with.
//!
//! A comparator says one thing: which reads of a template take refreshed copies, given the levels of its parameters and of its
//! results. Everything else is the same for all: the bootstraps on offer and their prices, legality, the levels between refreshes
//! (each operation at the lowest that its readers leave it, as EVA's early modulus switches have it), one copy of a value however
//! often it was decided on, no copy that raises nothing ([`copies`]), the boundaries between runs (the cheapest that the
//! comparator's placements allow) and the storage levels of states. So a comparator's plan is never dearer than its publication
//! would have made it on these rules, and what is left of the difference is where it refreshes.

mod copies;
mod eager;
mod flow;
mod graph;
mod lazy;
mod min_cut;
mod orion;
#[cfg(test)]
mod tests;
mod waterline;

use super::placement::Placement;
use super::region::Region;
use eager::Eager;
use lazy::Lazy;
use min_cut::MinCut;
use orion::Orion;

/// Who decides where values are refreshed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Strategy {
    /// The search over all values in flight.
    #[default]
    Ours,
    /// Each value as soon as it is down to the lowest level that a bootstrap takes.
    Eager,
    /// A value only when a level that an operation needs has run out (Fhelipe, EVA).
    Lazy,
    /// Shortest path through levels with one value in flight, residual regions first (Orion, Cachemir).
    Orion,
    /// The cheapest cut of each region of one multiplicative depth (ReSBM).
    MinCut,
}

impl Strategy {
    /// The published ones.
    pub const COMPARATORS: [Self; 4] = [Self::Eager, Self::Lazy, Self::Orion, Self::MinCut];

    /// Name on the command line and in plans.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Eager => "eager",
            Self::Lazy => "lazy",
            Self::Orion => "orion",
            Self::MinCut => "min-cut",
        }
    }
}

/// Which reads take copies: a bit an operand for every node.
type Copies = Vec<u8>;

/// A published placer at work on one template.
pub trait Comparator: Sync {
    /// Where it refreshes between parameters at `entry` and results at `exit`; `None` if its model knows no way.
    fn copies(&self, entry: u32, exit: u32) -> Option<Copies>;
}

impl dyn Comparator + '_ {
    /// Its placement, with its price; `None` if there is no legal one.
    pub fn place(
        &self,
        region: &Region,
        top: u32,
        entry: u32,
        exit: u32,
    ) -> Option<(u64, Placement)> {
        let copies = self.copies(entry, exit)?;
        let placement = copies::useful(region, exit, copies);
        let legal = placement.fits(region, entry, top);
        legal.then(|| (placement.cost(region), placement))
    }
}

/// The published placer of that name; `None` for the search.
pub fn comparator<'a>(
    strategy: Strategy,
    region: &'a Region,
    top: u32,
) -> Option<Box<dyn Comparator + 'a>> {
    Some(match strategy {
        Strategy::Ours => return None,
        Strategy::Eager => Box::new(Eager::new(region, top)),
        Strategy::Lazy => Box::new(Lazy::new(region, top)),
        Strategy::Orion => Box::new(Orion::new(region, top)),
        Strategy::MinCut => Box::new(MinCut::new(region, top)),
    })
}
