//! What a strategy makes of one template, by the levels of its parameters and of its results.

use super::Options;
use super::alike::Alike;
use super::placement::Placement;
use super::region::Region;
use super::search::{Frontier, Stuck, search};
use super::strategy::comparator;
use rayon::prelude::*;
use std::sync::Arc;

/// One template's placements.
pub struct Table {
    /// The template.
    pub region: Region,
    /// Templates that put the same problem share what the search found.
    ways: Arc<Ways>,
}

enum Ways {
    /// The search's frontiers by exit level, and what it searched in place of the whole region.
    Searched(Vec<Result<Frontier, Stuck>>, Option<Box<Alike>>),
    /// A comparator's placements with their costs by entry level and exit level.
    Compared(Vec<Vec<Option<(u64, Placement)>>>),
}

impl Table {
    /// Places `region` between all levels up to `top`.
    pub fn new(region: Region, top: u32, options: &Options) -> Self {
        let levels = (0..=top).into_par_iter();
        let ways = match comparator(options.strategy, &region, top) {
            None => {
                let alike = Alike::of(&region).map(Box::new);
                let searched = alike.as_ref().map_or(&region, |alike| &alike.region);
                let by_exit = levels.map(|exit| search(searched, top, exit, options.beam));
                Ways::Searched(by_exit.collect(), alike)
            }
            Some(comparator) => {
                let place = |entry, exit| comparator.place(&region, top, entry, exit);
                let from = |entry| (0..=top).map(|exit| place(entry, exit)).collect();
                Ways::Compared(levels.map(from).collect())
            }
        };
        let ways = Arc::new(ways);
        Self { region, ways }
    }

    /// The same for another template, if it puts the search the same problem.
    pub fn serves(&self, region: &Region) -> Option<Self> {
        let searched = matches!(*self.ways, Ways::Searched(..));
        (searched && self.region.same_problem(region)).then(|| Self {
            region: region.clone(),
            ways: Arc::clone(&self.ways),
        })
    }

    /// Nanoseconds of the best placement from parameters at `entry` to results at `exit`.
    pub fn best(&self, entry: u32, exit: u32) -> Option<u64> {
        match &*self.ways {
            Ways::Searched(by_exit, _) => outcome(by_exit, entry, exit).map(|(cost, _, _)| cost),
            Ways::Compared(placed) => {
                let way = placed[entry as usize][exit as usize].as_ref();
                way.map(|(cost, _)| *cost)
            }
        }
    }

    /// That placement, with its nanoseconds.
    pub fn placement(&self, entry: u32, exit: u32) -> Option<(u64, Placement)> {
        match &*self.ways {
            Ways::Searched(by_exit, alike) => {
                let (cost, frontier, i) = outcome(by_exit, entry, exit)?;
                let outcome = &frontier.outcomes[i];
                let Some(alike) = alike else {
                    return Some((cost, frontier.placement(&self.region, outcome)));
                };
                let small = frontier.placement(&alike.region, outcome);
                let placement = alike.placement(&self.region, exit, &small);
                Some((placement.cost(&self.region), placement))
            }
            Ways::Compared(placed) => placed[entry as usize][exit as usize].clone(),
        }
    }

    /// Every exit level with its nanoseconds from `entry`.
    pub fn exits(&self, entry: u32) -> impl Iterator<Item = (u32, u64)> + '_ {
        let levels = match &*self.ways {
            Ways::Searched(by_exit, _) => by_exit.len(),
            Ways::Compared(placed) => placed.len(),
        };
        (0..levels as u32).filter_map(move |exit| Some((exit, self.best(entry, exit)?)))
    }

    /// Whether the search left placements out, by its beam or because it placed branches alike, and most states it held after one node.
    pub fn effort(&self) -> (bool, usize) {
        match &*self.ways {
            Ways::Searched(by_exit, alike) => {
                let frontiers = by_exit.iter().flatten();
                frontiers.fold((alike.is_some(), 1), |(cut, most), f| {
                    (cut || f.cut, most.max(f.widest))
                })
            }
            Ways::Compared(_) => (false, 1),
        }
    }

    /// The node that no placement could serve, if that is why there is none.
    pub fn stuck_at(&self) -> Option<usize> {
        match &*self.ways {
            Ways::Searched(by_exit, alike) => {
                let node = by_exit[0].as_ref().err()?.node;
                match alike {
                    Some(alike) => alike.member(node),
                    None => Some(node),
                }
            }
            Ways::Compared(placed) => {
                let none = placed.iter().flatten().all(Option::is_none);
                none.then_some(0)
            }
        }
    }
}

/// The cheapest outcome from parameters at `entry` to results at `exit`: cost, frontier, index.
fn outcome(
    by_exit: &[Result<Frontier, Stuck>],
    entry: u32,
    exit: u32,
) -> Option<(u64, &Frontier, usize)> {
    let frontier = by_exit[exit as usize].as_ref().ok()?;
    let outcomes = frontier.outcomes.iter().enumerate();
    outcomes
        .filter(|(_, o)| o.needs.iter().all(|n| *n <= entry))
        .map(|(i, o)| (o.cost, i))
        .min()
        .map(|(cost, i)| (cost, frontier, i))
}
