//! A layer template flattened for the search.
//!
//! The template and the group templates it calls become one list of single-result nodes over values numbered by position. A
//! call of a group template turns into [`Kind::Bind`] (an argument enters the loop), [`Kind::Load`] (a state's group enters it),
//! the body, and [`Kind::Collect`] (a result leaves it, summed over the groups). Nodes inside a loop carry the number of groups
//! in their cost, and an argument cannot be refreshed inside: that belongs outside the loop, where it is paid once. A group of a state
//! can, which is paid for each group but spares the state the levels.
//!
//! Every node has `depth`, the levels between its operands and its result, and a price for each operand level. Rescales are
//! decided here, before the search: a product is rescaled at once, except that the terms of a sum of products stay unrescaled
//! (degree 2) and the sum is rescaled in their place.

use super::error::PlaceError;
use super::{Options, Target};
use crate::cost::{Prices, Work};
use sotto_ir::params::poly::depth;
use sotto_ir::slot::{Layout, Node, Op, Packed, Program, StateId, Template, ValueId, ValueType};
use std::collections::{BTreeMap, BTreeSet};

/// Index into [`Region::values`].
pub type Val = usize;

/// How a value may be refreshed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Refresh {
    /// Index into [`Target::refreshes`].
    pub kind: usize,
    /// Level its input must have.
    pub input_level: u32,
    /// Nanoseconds, times the trip count where the value is made.
    pub cost: u64,
}

/// A ciphertext value, or (for a state) what one group of it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Type in the program; `None` for a state cell.
    pub ty: Option<ValueType>,
    /// How it may be refreshed, if at all.
    pub refresh: Option<Refresh>,
    /// Lowest level at which its magnitude fits.
    pub floor: u32,
    /// Highest level at which it may be made.
    pub ceiling: u32,
    /// Stays at degree 2: a term of a sum of products.
    pub unrescaled: bool,
}

/// What a node stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A node of the program.
    Op,
    /// An argument entering a group loop.
    Bind,
    /// A group of a state entering the loop; the operand is the state's cell.
    Load,
    /// A result of the group template leaving the loop.
    Collect,
    /// Adds its operand to the state whose cell this is; no result.
    Append(Val),
}

/// One step of the flattened template.
#[derive(Clone, Debug, PartialEq)]
pub struct RNode {
    /// What it stands for.
    pub kind: Kind,
    /// Scope it runs in: 0 for the template, k for its k-th group call.
    pub scope: usize,
    /// Node index in that scope's template (the call's index for `Bind`, `Load` and `Collect`, in the outer template).
    pub index: usize,
    /// Operands, without repetition.
    pub operands: Vec<Val>,
    /// What it defines.
    pub result: Option<Val>,
    /// Levels between operands and result, the rescale included.
    pub depth: u32,
    /// Whether a rescale follows the operation.
    pub rescale: bool,
    /// Nanoseconds by operand level, 0..=top, trip count included.
    pub cost: Vec<u64>,
}

/// A group call of the template.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Node index in the outer template.
    pub node: usize,
    /// Group template.
    pub template: usize,
    /// Trip count the costs were multiplied with.
    pub trips: u64,
}

/// A flattened template.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Name of the template.
    pub name: String,
    /// All values; parameters first.
    pub values: Vec<Value>,
    /// Execution order.
    pub nodes: Vec<RNode>,
    /// Parameters.
    pub params: Vec<Val>,
    /// Results.
    pub results: Vec<Val>,
    /// Cells of the states the template touches, by state.
    pub cells: BTreeMap<StateId, Val>,
    /// Group calls: scope k is `calls[k - 1]`.
    pub calls: Vec<Call>,
    /// Values by scope and SSA name.
    pub names: Vec<BTreeMap<ValueId, Val>>,
    /// Sites of the nodes, for errors.
    pub sites: Vec<String>,
}

impl Region {
    /// Whether placement has the same choices at the same prices as in another region, whatever its values are of.
    pub fn same_problem(&self, other: &Region) -> bool {
        let value = |v: &Value| (v.refresh, v.floor, v.ceiling);
        let values = |region: &Region| region.values.iter().map(value).collect::<Vec<_>>();
        values(self) == values(other)
            && self.nodes == other.nodes
            && self.params == other.params
            && self.results == other.results
            && self.cells == other.cells
    }

    /// The nodes that read a state's group as a matrix.
    pub fn readers_of_matrix(&self, cell: Val) -> impl Iterator<Item = usize> + '_ {
        let loaded = self.nodes.iter().filter_map(move |node| {
            let load = node.kind == Kind::Load && node.operands == [cell];
            node.result.filter(|_| load)
        });
        let matrix = |v: &Val| self.values[*v].ty.as_ref().is_some_and(is_matrix);
        let matrices: Vec<Val> = loaded.filter(matrix).collect();
        let nodes = self.nodes.iter().enumerate();
        let reads = nodes.filter(move |(_, n)| n.operands.iter().any(|v| matrices.contains(v)));
        reads.map(|(n, _)| n)
    }

    /// The scopes of loops with several results: they may be branches that compute the same for different heads.
    pub fn branching(&self) -> BTreeSet<usize> {
        let mut results: BTreeMap<usize, usize> = BTreeMap::new();
        for node in self.nodes.iter().filter(|n| n.kind == Kind::Collect) {
            *results.entry(node.scope).or_insert(0) += 1;
        }
        let several = results.into_iter().filter(|(_, count)| *count > 1);
        several.map(|(scope, _)| scope).collect()
    }
}

/// Magnitudes up to this many bits fit every level: level 0 has 10 bits between scale and modulus, one is the sign and two are
/// left for the growth of sums inside an operation.
const BASE_RANGE_BITS: f64 = 7.0;
/// Each level adds this many bits of room.
const LEVEL_BITS: f64 = 40.0;

/// Flattens `template` of `program`.
pub fn flatten(
    program: &Program<Packed>,
    template: usize,
    target: &Target,
    prices: &dyn Prices,
    options: &Options,
) -> Result<Region, PlaceError> {
    let outer = &program.templates[template];
    let mut flat = Flattener {
        program,
        target,
        prices,
        options,
        region: Region {
            name: outer.name.clone(),
            values: Vec::new(),
            nodes: Vec::new(),
            params: Vec::new(),
            results: Vec::new(),
            cells: BTreeMap::new(),
            calls: Vec::new(),
            names: vec![BTreeMap::new()],
            sites: Vec::new(),
        },
        appended: Vec::new(),
    };
    for param in &outer.params {
        let v = flat.value(0, param.value, &param.ty, 1, true);
        flat.region.params.push(v);
    }
    flat.body(outer, 0, 1)?;
    flat.region.results = flat.look_up(outer, 0, &outer.results, "results")?;
    Ok(flat.region)
}

struct Flattener<'a> {
    program: &'a Program<Packed>,
    target: &'a Target,
    prices: &'a dyn Prices,
    options: &'a Options,
    region: Region,
    appended: Vec<StateId>,
}

impl Flattener<'_> {
    fn value(
        &mut self,
        scope: usize,
        id: ValueId,
        ty: &ValueType,
        trips: u64,
        refreshable: bool,
    ) -> Val {
        let refresh = refreshable
            .then(|| self.target.refresh_for(ty, self.prices))
            .flatten()
            .map(|(kind, nanos)| Refresh {
                kind,
                input_level: self.target.refreshes[kind].input_level,
                cost: nanos * trips,
            });
        let excess = ty.range.abs().max(1e-300).log2() - BASE_RANGE_BITS;
        let floor = (excess / LEVEL_BITS).ceil().clamp(0.0, 1e6) as u32;
        self.region.values.push(Value {
            ty: Some(ty.clone()),
            refresh,
            floor,
            ceiling: self.target.top,
            unrescaled: false,
        });
        let v = self.region.values.len() - 1;
        self.region.names[scope].insert(id, v);
        v
    }

    fn cell(&mut self, state: StateId) -> Val {
        if let Some(&cell) = self.region.cells.get(&state) {
            return cell;
        }
        self.region.values.push(Value {
            ty: None,
            refresh: None,
            floor: self.options.state_floor(state),
            ceiling: self.options.state_ceiling(state).unwrap_or(self.target.top),
            unrescaled: false,
        });
        let cell = self.region.values.len() - 1;
        self.region.cells.insert(state, cell);
        cell
    }

    fn look_up(
        &self,
        template: &Template<Packed>,
        scope: usize,
        ids: &[ValueId],
        site: &str,
    ) -> Result<Vec<Val>, PlaceError> {
        let find = |id: &ValueId| {
            self.region.names[scope]
                .get(id)
                .copied()
                .ok_or_else(|| PlaceError::Undefined {
                    template: template.name.clone(),
                    site: site.to_string(),
                    value: id.0,
                })
        };
        ids.iter().map(find).collect()
    }

    fn push(&mut self, site: &str, node: RNode) {
        self.region.nodes.push(node);
        self.region.sites.push(site.to_string());
    }

    fn body(
        &mut self,
        template: &Template<Packed>,
        scope: usize,
        trips: u64,
    ) -> Result<(), PlaceError> {
        let forms = forms(template);
        for (index, node) in template.nodes.iter().enumerate() {
            let ids: Vec<ValueId> = node.op.operands().into_iter().copied().collect();
            let mut operands = self.look_up(template, scope, &ids, &node.site)?;
            match &node.op {
                Op::Append { state, .. } => {
                    let cell = self.cell(*state);
                    self.appended.push(*state);
                    let works = self.work(template, node)?;
                    let cost = self.price(&works, trips);
                    let declared = self.program.states.get(state.0 as usize);
                    let depth = declared.map_or(0, |s| s.append_depth());
                    let kind = Kind::Append(cell);
                    self.push(
                        &node.site,
                        RNode {
                            kind,
                            scope,
                            index,
                            operands,
                            result: None,
                            depth,
                            rescale: false,
                            cost,
                        },
                    );
                    continue;
                }
                Op::SumGroups {
                    template: callee, ..
                } => {
                    self.call(template, scope, index, *callee, operands)?;
                    continue;
                }
                _ => {}
            }
            if let Some(op) = leveled_name(&node.op) {
                return Err(PlaceError::Leveled {
                    template: template.name.clone(),
                    site: node.site.clone(),
                    op,
                });
            }
            let [result] = node.results[..] else {
                return Err(malformed(template, &node.site, "expected one result"));
            };
            let work = self.work(template, node)?;
            let Form { product, stays } = forms[index];
            let rescale = product && !stays;
            let mut works = work;
            if rescale {
                works.push(Work::Rescale);
            }
            let cost = self.price(&works, trips);
            let depth = self.op_depth(&node.op) + u32::from(rescale);
            let v = self.value(scope, result, &node.types[0], trips, !stays);
            operands.sort_unstable();
            operands.dedup();
            let floor = self.floor_of_terms(&operands).saturating_sub(depth);
            let floor = floor.max(self.floor_of_matrices(&operands).saturating_sub(depth));
            let value = &mut self.region.values[v];
            value.unrescaled = stays;
            value.floor = value.floor.max(floor);
            self.push(
                &node.site,
                RNode {
                    kind: Kind::Op,
                    scope,
                    index,
                    operands,
                    result: Some(v),
                    depth,
                    rescale,
                    cost,
                },
            );
        }
        Ok(())
    }

    /// Terms that stay at degree 2 are read where they are made, so what they add up to must be at the level that they need.
    fn floor_of_terms(&self, operands: &[Val]) -> u32 {
        let values = operands.iter().map(|v| &self.region.values[*v]);
        let terms = values.filter(|v| v.unrescaled);
        terms.map(|v| v.floor).max().unwrap_or(0)
    }

    /// A matrix is read at the level at which it is stored: dropping it would take each of its ciphertexts.
    fn floor_of_matrices(&self, operands: &[Val]) -> u32 {
        let values = operands.iter().map(|v| &self.region.values[*v]);
        let matrix = |v: &&Value| v.ty.as_ref().is_some_and(is_matrix);
        values.filter(matrix).map(|v| v.floor).max().unwrap_or(0)
    }

    fn work(
        &self,
        template: &Template<Packed>,
        node: &Node<Packed>,
    ) -> Result<Vec<Work>, PlaceError> {
        Work::of(self.program, &node.op).map_err(|e| match e {
            crate::cost::WorkError::Table(what) => malformed(template, &node.site, &what),
        })
    }

    fn op_depth(&self, op: &Op<ValueId>) -> u32 {
        match op {
            Op::Poly { poly, .. } => {
                let poly = &self.program.polys[poly.0 as usize];
                depth(poly.degree() as usize) as u32
            }
            _ => 0,
        }
    }

    fn price(&self, works: &[Work], trips: u64) -> Vec<u64> {
        (0..=self.target.top)
            .map(|level| {
                works
                    .iter()
                    .map(|w| self.prices.nanos(w, level))
                    .sum::<u64>()
                    * trips
            })
            .collect()
    }

    fn call(
        &mut self,
        template: &Template<Packed>,
        scope: usize,
        index: usize,
        callee: usize,
        args: Vec<Val>,
    ) -> Result<(), PlaceError> {
        let node = &template.nodes[index];
        let Op::SumGroups { states, .. } = &node.op else {
            return Err(malformed(template, &node.site, "not a group call"));
        };
        let inner = self.program.templates.get(callee).ok_or_else(|| {
            malformed(
                template,
                &node.site,
                &format!("no template number {callee}"),
            )
        })?;
        if scope != 0 {
            return Err(malformed(
                template,
                &node.site,
                "a group template cannot call another",
            ));
        }
        if inner.params.len() != args.len() + states.len()
            || inner.results.len() != node.results.len()
        {
            let what = format!(
                "`{}` takes {} values and returns {}, the call gives {} and expects {}",
                inner.name,
                inner.params.len(),
                inner.results.len(),
                args.len() + states.len(),
                node.results.len()
            );
            return Err(malformed(template, &node.site, &what));
        }
        let trips = self.options.trips(self.program, states);
        self.region.calls.push(Call {
            node: index,
            template: callee,
            trips,
        });
        self.region.names.push(BTreeMap::new());
        let inner_scope = self.region.calls.len();
        let free = vec![0; self.target.top as usize + 1];
        let glue = |kind, operand, result, cost: &Vec<u64>| RNode {
            kind,
            scope: inner_scope,
            index,
            operands: vec![operand],
            result: Some(result),
            depth: 0,
            rescale: false,
            cost: cost.clone(),
        };
        for (param, arg) in inner.params.iter().zip(&args) {
            let v = self.value(inner_scope, param.value, &param.ty, trips, false);
            self.push(&node.site, glue(Kind::Bind, *arg, v, &free));
        }
        for (param, state) in inner.params[args.len()..].iter().zip(states) {
            if !self.appended.contains(state) {
                return Err(PlaceError::StateOrder {
                    template: template.name.clone(),
                    site: node.site.clone(),
                    state: self.program.states.get(state.0 as usize).map_or_else(
                        || format!("number {}", state.0),
                        |declared| declared.name.clone(),
                    ),
                });
            }
            let cell = self.cell(*state);
            let matrix = is_matrix(&param.ty);
            let v = self.value(inner_scope, param.value, &param.ty, trips, !matrix);
            if matrix {
                let value = &mut self.region.values[v];
                value.floor = value.floor.max(self.options.state_floor(*state));
            }
            self.push(&node.site, glue(Kind::Load, cell, v, &free));
        }
        self.body(inner, inner_scope, trips)?;
        let inner_results = self.look_up(inner, inner_scope, &inner.results, "results")?;
        let sum = self.price(&[Work::Add], trips.saturating_sub(1));
        for (i, from) in inner_results.into_iter().enumerate() {
            let v = self.value(0, node.results[i], &node.types[i], 1, true);
            self.push(&node.site, glue(Kind::Collect, from, v, &sum));
        }
        Ok(())
    }
}

fn is_matrix(ty: &ValueType) -> bool {
    matches!(ty.layout, Layout::Matrix(_))
}

fn malformed(template: &Template<Packed>, site: &str, what: &str) -> PlaceError {
    PlaceError::Malformed {
        template: template.name.clone(),
        site: site.to_string(),
        what: what.to_string(),
    }
}

/// The name of an operation that only placement inserts.
fn leveled_name(op: &Op<ValueId>) -> Option<&'static str> {
    match op {
        Op::Rescale { .. } => Some("rescale"),
        Op::Drop { .. } => Some("drop"),
        Op::Bootstrap { .. } => Some("bootstrap"),
        _ => None,
    }
}

/// Whether the operation multiplies, so that its result has degree 2.
fn is_product(op: &Op<ValueId>) -> bool {
    matches!(
        op,
        Op::Mul { .. }
            | Op::MulPlain { .. }
            | Op::MulConst { .. }
            | Op::Linear { .. }
            | Op::Apply { .. }
    )
}

fn is_sum(op: &Op<ValueId>) -> bool {
    matches!(op, Op::Add { .. } | Op::Sub { .. })
}

/// How a node's result comes out of the operation.
#[derive(Clone, Copy)]
struct Form {
    /// At degree 2.
    product: bool,
    /// And left there: its only use is in a sum of such values.
    stays: bool,
}

/// The form of every node's result. A sum is a sum of products if each operand is a product or such a sum and has no other use.
fn forms(template: &Template<Packed>) -> Vec<Form> {
    let mut uses: BTreeMap<ValueId, Vec<usize>> = BTreeMap::new();
    let mut defined: BTreeMap<ValueId, usize> = BTreeMap::new();
    for (i, node) in template.nodes.iter().enumerate() {
        for v in node.op.operands() {
            uses.entry(*v).or_default().push(i);
        }
        for v in &node.results {
            defined.insert(*v, i);
        }
    }
    for v in &template.results {
        uses.entry(*v).or_default().push(usize::MAX);
    }
    let mut product: Vec<bool> = Vec::with_capacity(template.nodes.len());
    for node in &template.nodes {
        let sum = is_sum(&node.op)
            && node.op.operands().iter().all(|v| {
                uses[*v].len() == 1
                    && defined
                        .get(v)
                        .is_some_and(|&d| d < product.len() && product[d])
            });
        product.push(is_product(&node.op) || sum);
    }
    let stays = |v: &ValueId| match uses.get(v).map(Vec::as_slice) {
        Some([user]) => template
            .nodes
            .get(*user)
            .is_some_and(|n| is_sum(&n.op) && product[*user]),
        _ => false,
    };
    template
        .nodes
        .iter()
        .zip(&product)
        .map(|(node, &product)| Form {
            product,
            stays: product && node.results.first().is_some_and(stays),
        })
        .collect()
}
