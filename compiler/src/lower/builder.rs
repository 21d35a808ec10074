//! Building templates: SSA values with their types, and the program's tables without duplicates.

use crate::approx::Fit;
use sotto_ir::plan::Approximation;
use sotto_ir::slot::{
    DataDecl, DataId, Layout, Matrix, MatrixId, Node, Op, Packed, Param, Plain, PlainFactor,
    PlainId, Poly, PolyId, Program, StateId, Template, ValueId, ValueType,
};

/// A value under construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Val {
    /// Its name in the template.
    pub id: ValueId,
    /// What it holds; the range is settled by recalibration.
    pub ty: ValueType,
}

impl Val {
    /// Real-world value = slot value × unit.
    pub fn unit(&self) -> f64 {
        self.ty.unit
    }
}

/// The type of a real value; its range is not known yet.
pub fn real(layout: Layout, unit: f64) -> ValueType {
    ValueType {
        layout,
        complex: false,
        range: 1.0,
        unit,
    }
}

/// Index of `item` in `table`, added if it is not there.
fn intern<T: PartialEq>(table: &mut Vec<T>, item: T) -> u32 {
    let found = table.iter().position(|known| *known == item);
    found.unwrap_or_else(|| {
        table.push(item);
        table.len() - 1
    }) as u32
}

/// A program under construction.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Its tables and templates so far.
    pub program: Program<Packed>,
    /// What its polynomials stand for.
    pub approximations: Vec<Approximation>,
}

/// One template under construction, with the program whose tables it names.
///
/// Layouts, rotations and plaintexts are given in slots of one token; where the program takes a block of tokens side by side, each
/// such slot becomes one for every token.
pub struct Builder<'p> {
    /// The whole.
    pub draft: &'p mut Draft,
    /// Tokens side by side.
    pub block: u32,
    params: Vec<Param<Packed>>,
    nodes: Vec<Node<Packed>>,
    next: u32,
}

impl<'p> Builder<'p> {
    /// An empty template.
    pub fn new(draft: &'p mut Draft) -> Self {
        Self {
            block: draft.program.block,
            draft,
            params: Vec::new(),
            nodes: Vec::new(),
            next: 0,
        }
    }

    /// Adds the finished template to the program and gives its index.
    pub fn finish(self, name: &str, results: &[&Val]) -> usize {
        self.draft.program.templates.push(Template {
            name: name.into(),
            params: self.params,
            nodes: self.nodes,
            results: results.iter().map(|v| v.id).collect(),
        });
        self.draft.program.templates.len() - 1
    }

    /// A parameter.
    pub fn param(&mut self, mut ty: ValueType) -> Val {
        ty.layout = ty.layout.block(self.block);
        let id = self.fresh();
        self.params.push(Param {
            value: id,
            ty: ty.clone(),
            note: (),
        });
        Val { id, ty }
    }

    fn fresh(&mut self) -> ValueId {
        self.next += 1;
        ValueId(self.next - 1)
    }

    /// A node with one result.
    pub fn emit(&mut self, site: &str, op: Op<ValueId>, mut ty: ValueType) -> Val {
        ty.layout = ty.layout.block(self.block);
        self.emit_whole(site, op, ty)
    }

    /// A node with one result whose layout is that of the whole ciphertext.
    pub fn emit_whole(&mut self, site: &str, op: Op<ValueId>, ty: ValueType) -> Val {
        let id = self.fresh();
        self.nodes.push(Node {
            results: vec![id],
            op,
            types: vec![ty.clone()],
            notes: vec![()],
            site: site.into(),
        });
        Val { id, ty }
    }

    /// A sum of values of one unit.
    pub fn add(&mut self, site: &str, a: &Val, b: &Val) -> Val {
        let mut ty = wider(&a.ty, &b.ty);
        ty.complex = a.ty.complex || b.ty.complex;
        self.emit(site, Op::Add { a: a.id, b: b.id }, ty)
    }

    /// A sum of values of one unit and of the first's layout, which is that of the whole ciphertext.
    pub fn add_whole(&mut self, site: &str, a: &Val, b: &Val) -> Val {
        self.emit_whole(site, Op::Add { a: a.id, b: b.id }, a.ty.clone())
    }

    /// A product; units multiply.
    pub fn mul(&mut self, site: &str, a: &Val, b: &Val) -> Val {
        let mut ty = wider(&a.ty, &b.ty);
        ty.complex = a.ty.complex || b.ty.complex;
        ty.unit = a.ty.unit * b.ty.unit;
        self.emit(site, Op::Mul { a: a.id, b: b.id }, ty)
    }

    /// 2^doublings · v, by additions: no level. The unit shrinks to match.
    pub fn double(&mut self, site: &str, v: &Val, doublings: u32) -> Val {
        let mut v = v.clone();
        for _ in 0..doublings {
            let mut ty = v.ty.clone();
            ty.unit /= 2.0;
            v = self.emit(site, Op::Add { a: v.id, b: v.id }, ty);
        }
        v
    }

    /// v + c.
    pub fn add_const(&mut self, site: &str, v: &Val, c: f64) -> Val {
        self.emit(site, Op::AddConst { v: v.id, c }, v.ty.clone())
    }

    /// Sum with a plaintext.
    pub fn add_plain(&mut self, site: &str, v: &Val, plain: PlainId) -> Val {
        self.emit(site, Op::AddPlain { v: v.id, plain }, v.ty.clone())
    }

    /// Product with a plaintext; `layout` and `unit` are the result's.
    pub fn mul_plain(
        &mut self,
        site: &str,
        v: &Val,
        plain: PlainId,
        layout: Layout,
        unit: f64,
    ) -> Val {
        let op = Op::MulPlain { v: v.id, plain };
        self.emit(site, op, real(layout, unit))
    }

    /// Left rotation; `layout` is the result's.
    pub fn rotate(&mut self, site: &str, v: &Val, by: i32, layout: Layout) -> Val {
        let by = by * self.block as i32;
        let ty = ValueType {
            layout,
            ..v.ty.clone()
        };
        self.emit(site, Op::Rotate { v: v.id, by }, ty)
    }

    /// Sum of rotations.
    pub fn fold(&mut self, site: &str, v: &Val, step: i32, count: u32, layout: Layout) -> Val {
        if count == 1 {
            return v.clone();
        }
        let op = Op::Fold {
            v: v.id,
            step: step * self.block as i32,
            count,
        };
        let mut ty = v.ty.clone();
        ty.layout = layout;
        self.emit(site, op, ty)
    }

    /// Sum of rotations that ends in the current token's slots.
    pub fn fold_current(&mut self, site: &str, v: &Val, count: u32, layout: Layout) -> Val {
        let mut ty = v.ty.clone();
        ty.layout = layout;
        self.emit(site, Op::FoldCurrent { v: v.id, count }, ty)
    }

    /// Both parts of a complex value z whose stored parts are half of what is wanted: (z + z̄, i(z̄ - z)).
    pub fn split(&mut self, sites: (&str, &str), z: &Val, units: (f64, f64)) -> (Val, Val) {
        let conj = self.emit(sites.0, Op::Conjugate { v: z.id }, z.ty.clone());
        let part = |unit| real(z.ty.layout.clone(), unit);
        let re = Op::Add {
            a: z.id,
            b: conj.id,
        };
        let re = self.emit(sites.0, re, part(units.0));
        let difference = Op::Sub {
            a: conj.id,
            b: z.id,
        };
        let difference = self.emit(sites.1, difference, z.ty.clone());
        let im = self.emit(sites.1, Op::MulI { v: difference.id }, part(units.1));
        (re, im)
    }

    /// Twice the real part, z + z̄.
    pub fn real_part(&mut self, site: &str, z: &Val) -> Val {
        let conj = self.emit(site, Op::Conjugate { v: z.id }, z.ty.clone());
        let op = Op::Add {
            a: z.id,
            b: conj.id,
        };
        self.emit(site, op, real(z.ty.layout.clone(), z.unit()))
    }

    /// The polynomial `fit` of a value in [-1, 1].
    pub fn poly(&mut self, site: &str, v: &Val, fit: &Fit, unit: f64) -> Val {
        let window = fit.function.window();
        self.draft.approximations.push(Approximation {
            site: site.into(),
            function: fit.function.name().into(),
            interval: (window.lo, window.hi),
            degree: fit.degree() as u32,
            error: fit.absolute / fit.function.scale(),
        });
        let poly = Poly {
            name: site.into(),
            coefficients: fit.coefficients.clone(),
            error: fit.absolute,
        };
        let poly = PolyId(intern(&mut self.draft.program.polys, poly));
        let mut ty = v.ty.clone();
        ty.unit = unit;
        self.emit(site, Op::Poly { v: v.id, poly }, ty)
    }

    /// Adds a value to the current group of a state.
    pub fn append(&mut self, site: &str, state: StateId, v: &Val) {
        self.nodes.push(Node {
            results: Vec::new(),
            op: Op::Append { state, v: v.id },
            types: Vec::new(),
            notes: Vec::new(),
            site: site.into(),
        });
    }

    /// Runs a group template on every group and sums.
    pub fn sum_groups(
        &mut self,
        site: &str,
        template: usize,
        states: &[StateId],
        args: &[&Val],
        types: Vec<ValueType>,
    ) -> Vec<Val> {
        let block = self.block;
        let whole = |ty: ValueType| ValueType {
            layout: ty.layout.block(block),
            ..ty
        };
        let types: Vec<ValueType> = types.into_iter().map(whole).collect();
        let results: Vec<ValueId> = types.iter().map(|_| self.fresh()).collect();
        self.nodes.push(Node {
            results: results.clone(),
            op: Op::SumGroups {
                template,
                states: states.to_vec(),
                args: args.iter().map(|v| v.id).collect(),
            },
            notes: vec![(); types.len()],
            types: types.clone(),
            site: site.into(),
        });
        let values = results.into_iter().zip(types);
        values.map(|(id, ty)| Val { id, ty }).collect()
    }

    /// A declared array. One of another program's that differs has taken the name, so this one is marked.
    pub fn data(&mut self, mut decl: DataDecl) -> DataId {
        let declared = &mut self.draft.program.data;
        while declared.iter().any(|d| d.name == decl.name && *d != decl) {
            decl.name.push('\'');
        }
        DataId(intern(declared, decl))
    }

    /// A plaintext operand.
    pub fn plain(&mut self, name: &str, factors: Vec<PlainFactor>) -> PlainId {
        let block = self.block;
        let factors = factors.into_iter().map(|factor| whole(factor, block));
        self.whole_plain(name, factors.collect())
    }

    /// A plaintext operand whose factors are those of the whole ciphertext.
    pub fn whole_plain(&mut self, name: &str, factors: Vec<PlainFactor>) -> PlainId {
        let plain = Plain {
            name: name.into(),
            factors,
        };
        PlainId(intern(&mut self.draft.program.plains, plain))
    }

    /// A matrix.
    pub fn matrix(&mut self, mut matrix: Matrix) -> MatrixId {
        matrix.block = self.block;
        MatrixId(intern(&mut self.draft.program.matrices, matrix))
    }
}

/// A factor in slots of one token as that of `block` tokens side by side.
pub fn whole(factor: PlainFactor, block: u32) -> PlainFactor {
    match factor {
        PlainFactor::Vector { data, stride } => PlainFactor::Vector {
            data,
            stride: stride * block,
        },
        PlainFactor::PositionRow { data, stride, .. } => PlainFactor::PositionRow {
            data,
            stride: stride * block,
            block,
        },
        PlainFactor::CurrentToken { group, .. } => PlainFactor::CurrentToken { group, block },
        PlainFactor::CachedTokens { group, .. } => PlainFactor::CachedTokens { group, block },
        PlainFactor::FirstOf { width, first } => PlainFactor::FirstOf {
            width: width * block,
            first: first * block,
        },
        PlainFactor::InverseCount { .. } => PlainFactor::InverseCount { block },
        // of all slots, or of the tokens themselves
        PlainFactor::Const(_) | PlainFactor::LastOf { .. } => factor,
    }
}

/// The type of the operand with the longer period, real.
fn wider(a: &ValueType, b: &ValueType) -> ValueType {
    let chosen = if b.layout.period() > a.layout.period() {
        b
    } else {
        a
    };
    real(chosen.layout.clone(), chosen.unit)
}
