//! Each comparator against the exhaustive optimum of its own model, or a naive reading of its rule; all of them legal, and none
//! better than the search.

use super::flow::UNCUT;
use super::graph::Graph;
use super::min_cut::{Cut, MinCut};
use super::orion::Orion;
use super::{Comparator, Strategy, comparator};
use crate::place::region::{Region, Val, flatten};
use crate::place::tests::random::{Made, is_legal, looped, specs, straight, target};
use crate::place::{Options, place};
use sotto_ir::slot::{Packed, Program};
use std::collections::BTreeMap;

const TOP: u32 = 5;

/// Random programs, some with loops.
fn programs(count: u64, nodes: u32) -> impl Iterator<Item = (String, Program<Packed>)> {
    (0..count).map(move |seed| match seed % 3 {
        0 => (format!("looped {seed}"), looped(seed, 2, nodes - 2)),
        _ => (format!("straight {seed}"), straight(seed, nodes)),
    })
}

fn region(program: &Program<Packed>) -> Region {
    let template = program.steps[0].template;
    flatten(program, template, &target(TOP), &Made, &Options::default()).unwrap()
}

#[test]
fn comparators_are_legal_and_none_is_cheaper_than_the_search() {
    let specs = specs(&target(TOP));
    let mut placed = BTreeMap::new();
    let mut dearer = BTreeMap::new();
    for (name, program) in programs(300, 9) {
        let ours = place(&program, &target(TOP), &Made, &Options::default());
        let ours = ours.map(|(_, report)| report.nanos);
        for strategy in Strategy::COMPARATORS {
            let found = place(&program, &target(TOP), &Made, &Options::by(strategy));
            let Ok((leveled, report)) = found else {
                continue;
            };
            let name = format!("{name} by {}", strategy.name());
            assert!(is_legal(&leveled, TOP, &specs), "{name}\n{leveled}");
            let ours = *ours.as_ref().unwrap();
            assert!(ours <= report.nanos, "{name}: {ours} {}", report.nanos);
            *placed.entry(strategy.name()).or_insert(0) += 1;
            *dearer.entry(strategy.name()).or_insert(0) += usize::from(ours < report.nanos);
        }
        *placed.entry("ours").or_insert(0) += usize::from(ours.is_ok());
    }
    // The forward placers and Orion find a way wherever there is one; each is dearer somewhere, or this compares nothing.
    for name in ["eager", "lazy", "orion"] {
        assert_eq!(placed[name], placed["ours"], "{placed:?}");
    }
    assert!(placed["min-cut"] * 10 >= placed["ours"] * 9, "{placed:?}");
    assert!(
        dearer.len() == 4 && dearer.values().all(|n| *n > 5),
        "{dearer:?}"
    );
}

/// The least level of `v` from which the rest can be computed, by its definition.
fn lowest(graph: &Graph<'_>, v: Val, exit: u32) -> u32 {
    let value = &graph.region.values[v];
    let result = graph.region.results.contains(&v);
    let own = if result { exit } else { 0 }.max(value.floor);
    let needs = graph.readers[v].iter().map(|n| need(graph, *n, exit));
    let needs = needs.map(|need| value.refresh.map_or(need, |r| need.min(r.input_level)));
    needs.fold(own, u32::max)
}

/// Level that a node needs of its operands.
fn need(graph: &Graph<'_>, n: usize, exit: u32) -> u32 {
    let made = graph.made(n).map_or(0, |v| lowest(graph, v, exit));
    made + graph.region.nodes[n].depth
}

/// Levels of the values if those in `refreshed` are replaced by their copies from a node on.
fn levels(graph: &Graph<'_>, entry: u32, refreshed: &BTreeMap<Val, usize>) -> Vec<i64> {
    let mut level = vec![i64::from(entry); graph.region.values.len()];
    for &n in &graph.live {
        let read = |v: &Val| match refreshed.get(v) {
            Some(from) if *from <= n => i64::from(TOP),
            _ => level[*v],
        };
        let node = &graph.region.nodes[n];
        let reached = node.operands.iter().map(read).min().unwrap();
        if let Some(v) = graph.made(n) {
            level[v] = reached - i64::from(node.depth);
        }
    }
    level
}

/// The bits of reads that come at or after a value's refresh.
fn bits(graph: &Graph<'_>, refreshed: &BTreeMap<Val, usize>) -> Vec<u8> {
    let mut copies = vec![0; graph.region.nodes.len()];
    for &n in &graph.live {
        for (k, v) in graph.region.nodes[n].operands.iter().enumerate() {
            let copy = refreshed.get(v).is_some_and(|from| *from <= n);
            copies[n] |= u8::from(copy) << k;
        }
    }
    copies
}

/// Runs until a level runs out, refreshes what was too low there, and starts again.
fn lazily(graph: &Graph<'_>, entry: u32, exit: u32) -> Option<Vec<u8>> {
    let mut refreshed = BTreeMap::new();
    'again: loop {
        let level = levels(graph, entry, &refreshed);
        for &n in &graph.live {
            let need = need(graph, n, exit);
            for &v in &graph.region.nodes[n].operands {
                let copied = refreshed.contains_key(&v);
                if !copied && level[v] < i64::from(need) {
                    let take = graph.region.values[v].refresh?.input_level;
                    if level[v] < i64::from(take) {
                        return None;
                    }
                    refreshed.insert(v, n);
                    continue 'again;
                }
            }
        }
        return Some(bits(graph, &refreshed));
    }
}

/// Levels that all that follows `v` spends if nothing is refreshed.
fn rest(graph: &Graph<'_>, v: Val, exit: u32) -> u32 {
    let result = graph.region.results.contains(&v);
    let own = if result { exit } else { 0 }.max(graph.region.values[v].floor);
    let after = graph.readers[v].iter().map(|n| {
        let made = graph.made(*n).map_or(0, |v| rest(graph, v, exit));
        made + graph.region.nodes[*n].depth
    });
    after.fold(own, u32::max)
}

/// Refreshes the first value that is made too low, and starts again.
fn eagerly(graph: &Graph<'_>, entry: u32, exit: u32) -> Vec<u8> {
    let mut refreshed = BTreeMap::new();
    'again: loop {
        let level = levels(graph, entry, &refreshed);
        let made = graph.live.iter().filter_map(|n| graph.made(*n));
        for v in graph.region.params.iter().copied().chain(made) {
            let Some(refresh) = graph.region.values[v].refresh else {
                continue;
            };
            let needs = graph.readers[v].iter().map(|n| need(graph, *n, exit));
            let next = needs.max().unwrap_or(0);
            let bottom = i64::from(refresh.input_level);
            let low = level[v] == bottom || (level[v] > bottom && level[v] < i64::from(next));
            let short = level[v] < i64::from(rest(graph, v, exit));
            if low && short && !refreshed.contains_key(&v) {
                refreshed.insert(v, 0);
                continue 'again;
            }
        }
        return bits(graph, &refreshed);
    }
}

#[test]
fn forward_placers_keep_their_rules() {
    let mut refreshing = [0; 2];
    for (name, program) in programs(150, 8) {
        let region = region(&program);
        let graph = Graph::new(&region);
        let lazy = comparator(Strategy::Lazy, &region, TOP).unwrap();
        let eager = comparator(Strategy::Eager, &region, TOP).unwrap();
        for (entry, exit) in [(5, 0), (3, 0), (1, 1), (4, 2), (2, 4)] {
            let found = lazy.copies(entry, exit);
            let naive = lazily(&graph, entry, exit);
            if lazy.place(&region, TOP, entry, exit).is_some() {
                assert_eq!(found, naive, "{name}, {entry} to {exit}");
                refreshing[0] += usize::from(naive.unwrap().iter().any(|c| *c != 0));
            }
            if eager.place(&region, TOP, entry, exit).is_some() {
                let naive = eagerly(&graph, entry, exit);
                assert_eq!(eager.copies(entry, exit).unwrap(), naive, "{name}");
                refreshing[1] += usize::from(naive.iter().any(|c| *c != 0));
            }
        }
    }
    assert!(refreshing.iter().all(|n| *n > 100), "{refreshing:?}");
}

/// The least cost of Orion's model by trying all levels: every value at every level, every read as it is or refreshed, each read
/// paying for itself.
fn all_levels(graph: &Graph<'_>, entry: u32, exit: u32) -> Option<u64> {
    let mut level = vec![None; graph.region.values.len()];
    for &v in &graph.region.params {
        level[v] = (entry >= graph.region.values[v].floor).then_some(entry);
    }
    let mut best = None;
    try_levels(graph, exit, 0, 0, &mut level, &mut best);
    best
}

fn try_levels(
    graph: &Graph<'_>,
    exit: u32,
    i: usize,
    cost: u64,
    level: &mut Vec<Option<u32>>,
    best: &mut Option<u64>,
) {
    if best.is_some_and(|b| b <= cost) {
        return;
    }
    let region = graph.region;
    let Some(&n) = graph.live.get(i) else {
        if region.results.iter().all(|r| level[*r] >= Some(exit)) {
            *best = Some(cost);
        }
        return;
    };
    let node = &region.nodes[n];
    for at in node.depth..=TOP {
        let read = |v: &Val| {
            let value = &region.values[*v];
            let stands = level[*v]?;
            match value.refresh {
                _ if stands == at || (stands > at && !value.unrescaled) => Some(0),
                Some(refresh) if stands < at && stands >= refresh.input_level => Some(refresh.cost),
                _ => None,
            }
        };
        let reads: Option<u64> = node.operands.iter().map(read).sum();
        let Some(reads) = reads else { continue };
        let cost = cost + reads + node.cost[at as usize];
        let Some(v) = graph.made(n) else { continue };
        let before = level[v];
        if at - node.depth >= region.values[v].floor {
            level[v] = Some(at - node.depth);
            try_levels(graph, exit, i + 1, cost, level, best);
        }
        level[v] = before;
    }
}

#[test]
fn orion_is_the_best_of_all_levels_of_series_and_parallel() {
    let (mut compared, mut refreshing) = (0, 0);
    for (name, program) in programs(500, 6) {
        let region = region(&program);
        let graph = Graph::new(&region);
        let orion = Orion::new(&region, TOP);
        if !orion.shares_nothing() {
            continue;
        }
        for (entry, exit) in [(5, 0), (3, 1), (5, 4), (1, 2)] {
            let best = all_levels(&graph, entry, exit);
            assert_eq!(orion.cost(entry, exit), best, "{name}, {entry} to {exit}");
            let copies = orion.copies(entry, exit).unwrap_or_default();
            compared += usize::from(best.is_some());
            refreshing += usize::from(copies.iter().any(|c| *c != 0));
        }
    }
    assert!(
        compared > 300 && refreshing > 100,
        "{compared} {refreshing}"
    );
}

#[test]
fn what_orion_builds_costs_no_more_than_its_model() {
    for (name, program) in programs(200, 9) {
        let region = region(&program);
        let orion = Orion::new(&region, TOP);
        let built = comparator(Strategy::Orion, &region, TOP).unwrap();
        for (entry, exit) in [(5, 0), (3, 1), (5, 4)] {
            let built = built.place(&region, TOP, entry, exit).map(|(cost, _)| cost);
            let model = orion.cost(entry, exit);
            assert_eq!(built.is_some(), model.is_some(), "{name}");
            assert!(built <= model, "{name}: {built:?} {model:?}");
        }
    }
}

/// The least price of a division of the live nodes at `depth`, by trying all.
fn all_divisions(graph: &Graph<'_>, depths: &[u32], depth: u32, free: u32) -> Option<u64> {
    let place: BTreeMap<usize, usize> = graph
        .live
        .iter()
        .enumerate()
        .map(|(i, n)| (*n, i))
        .collect();
    let divisions = (0..1u32 << graph.live.len()).filter(|before| {
        let before = |i: usize| before & (1 << i) != 0;
        graph.live.iter().enumerate().all(|(i, n)| {
            let node = &graph.region.nodes[*n];
            let made = depths[i];
            let operands = node.operands.iter().filter_map(|v| graph.made_by[*v]);
            let closed = !before(i) || operands.into_iter().all(|m| before(place[&m]));
            closed && (made >= free || before(i)) && (made <= depth || !before(i))
        })
    });
    let price = |before: u32| {
        let before = |n: usize| before & (1 << place[&n]) != 0;
        let mut price = 0;
        for v in 0..graph.region.values.len() {
            let read = graph.readers[v].iter().any(|n| !before(*n));
            let made = graph.made_by[v].is_none_or(before);
            if made && graph.region.results.contains(&v) {
                return None;
            }
            if made && read {
                price += graph.region.values[v].refresh?.cost;
            }
        }
        Some(price)
    };
    divisions.filter_map(price).min()
}

/// Depth of what each live node makes.
fn depths(graph: &Graph<'_>) -> Vec<u32> {
    let mut depth = vec![0; graph.region.values.len()];
    let mut depths = vec![];
    for &n in &graph.live {
        let node = &graph.region.nodes[n];
        let read = node.operands.iter().map(|v| depth[*v]).max().unwrap();
        let made = graph.made(n).unwrap();
        depth[made] = read + node.depth;
        depths.push(depth[made]);
    }
    depths
}

#[test]
fn a_cut_is_the_best_of_all_divisions() {
    let mut cut = 0;
    for (name, program) in programs(90, 7) {
        let region = region(&program);
        let graph = Graph::new(&region);
        let depths = depths(&graph);
        let placer = MinCut::new(&region, TOP);
        for depth in 0..=depths.iter().copied().max().unwrap_or(0) {
            for free in 0..=depth {
                let best = all_divisions(&graph, &depths, depth, free);
                let found = placer.cut(depth, free).map(|cut| cut.cost);
                assert!(best.is_none_or(|cost| cost < UNCUT));
                assert_eq!(found, best, "{name} at {depth}, {free}");
                cut += usize::from(best.is_some());
            }
        }
    }
    assert!(cut > 200, "{cut}");
}

#[test]
fn the_way_through_the_cuts_is_the_best_of_all() {
    let mut several = 0;
    for (name, program) in programs(150, 10) {
        let region = region(&program);
        let placer = MinCut::new(&region, TOP);
        let cuts: Vec<&Cut> = placer.cuts().collect();
        if cuts.len() > 12 {
            continue;
        }
        for (entry, exit) in [(5, 0), (3, 1), (5, 4), (1, 2)] {
            let chains = (0..1u32 << cuts.len()).map(|chosen| {
                let chosen = cuts
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| chosen & (1 << i) != 0);
                chosen.map(|(_, cut)| *cut).collect::<Vec<_>>()
            });
            let best = chains.filter_map(|c| placer.price(&c, entry, exit)).min();
            let found = placer.best(entry, exit);
            assert_eq!(
                found.as_ref().map(|f| f.0),
                best,
                "{name}, {entry} to {exit}"
            );
            several += usize::from(found.is_some_and(|f| f.1.len() > 1));
        }
    }
    assert!(several > 50, "{several}");
}
