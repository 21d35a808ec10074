//! Values of a slot program whose layout says where features stand.

use crate::view::{NodeView, SlotView, TemplateView};
use sotto_ir::slot::{FeatureMap, Layout, Op, Recipe, Slots, ValueId};
use std::collections::BTreeMap;

/// Where the features of a value stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// Site, `{i}` for the layer.
    pub site: String,
    /// Which node and result of its template.
    pub place: (usize, usize),
    /// Slot and feature, in the order of features.
    slots: Vec<usize>,
    unit: f64,
    range: f64,
}

impl Features {
    /// The features in real-world units.
    pub fn read(&self, slots: &Slots) -> Vec<f64> {
        let entries = self.slots.iter();
        entries.map(|&p| slots.at(p).re * self.unit).collect()
    }

    /// The declared bound, in real-world units.
    pub fn bound(&self) -> f64 {
        self.range * self.unit
    }
}

/// The last readable value of every site of a template.
pub fn readable(view: &SlotView, template: &TemplateView) -> Vec<Features> {
    let mut found: BTreeMap<&str, Features> = BTreeMap::new();
    for (n, node) in template.nodes.iter().enumerate() {
        if let Some(features) = features(view, template, n, node) {
            found.insert(site_of(node), features);
        }
    }
    let mut found: Vec<Features> = found.into_values().collect();
    found.sort_by_key(|f| f.place);
    found
}

fn features(
    view: &SlotView,
    template: &TemplateView,
    n: usize,
    node: &NodeView,
) -> Option<Features> {
    let [value] = &node.results[..] else {
        return None;
    };
    let (count, stride) = match value.ty.layout {
        Layout::Periodic { count, .. } => (count, 1),
        Layout::Strided { count, stride, .. } => (count, stride),
        _ => return None,
    };
    // the imaginary part is another vector's
    if value.ty.complex {
        return None;
    }
    let site = site_of(node);
    let map = produced_as(view, site).or_else(|| consumed_as(view, template, value.id));
    let mut places: Vec<(u32, usize)> = (0..count.max(map_places(map)))
        .filter_map(|place| {
            let feature = map.map_or(Some(place), |map| map.feature(place))?;
            Some((feature, place as usize * stride as usize))
        })
        .collect();
    places.sort();
    places.dedup_by_key(|(feature, _)| *feature);
    Some(Features {
        site: site.into(),
        place: (n, 0),
        slots: places.into_iter().map(|(_, p)| p).collect(),
        unit: value.ty.unit,
        range: value.ty.range,
    })
}

/// The site that a value is of: a linear map's result has its bias.
fn site_of(node: &NodeView) -> &str {
    node.site.strip_suffix(".bias").unwrap_or(&node.site)
}

/// How heads are interleaved in the result of the linear map of a site, if there is one and they are.
fn produced_as<'v>(view: &'v SlotView, site: &str) -> Option<&'v FeatureMap> {
    view.matrices.iter().find_map(|matrix| {
        // a product is named for its sites, then for the layers and the block of features that it is of
        let sites = matrix.name.split(['@', '[']).next()?;
        let part = sites.split('+').position(|name| name == site)?;
        let Recipe::Matrix(parts) = &view.data.get(matrix.data.0 as usize)?.recipe else {
            return None;
        };
        let rows = &parts.get(part)?.rows;
        matches!(rows, FeatureMap::Heads { .. }).then_some(rows)
    })
}

/// Places of a map of heads, padding between them included.
fn map_places(map: Option<&FeatureMap>) -> u32 {
    match map {
        Some(FeatureMap::Heads {
            heads_padded,
            lanes,
            ..
        }) => heads_padded.saturating_mul(*lanes),
        _ => 0,
    }
}

/// How heads are interleaved in a value, if the matrix that reads it says that they are.
fn consumed_as<'v>(
    view: &'v SlotView,
    template: &TemplateView,
    mut value: ValueId,
) -> Option<&'v FeatureMap> {
    for node in &template.nodes {
        match &node.op {
            Op::Rescale { v } | Op::Drop { v, .. } | Op::Bootstrap { v, .. } if *v == value => {
                value = node.results.first()?.id;
            }
            // two diagonals in one complex one multiply v + i·rot(v)
            Op::Add { a, .. } if *a == value => value = node.results.first()?.id,
            Op::Linear { v, matrix } if *v == value => {
                let matrix = view.matrices.get(matrix.0 as usize)?;
                let Recipe::Matrix(parts) = &view.data.get(matrix.data.0 as usize)?.recipe else {
                    return None;
                };
                let columns = &parts.first()?.columns;
                return matches!(columns, FeatureMap::Heads { .. }).then_some(columns);
            }
            _ => {}
        }
    }
    None
}
