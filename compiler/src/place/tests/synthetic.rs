//! Hand-written packed programs of the shapes that decoders lower to.

use sotto_ir::slot::{
    DataDecl, DataId, FeatureMap, Form, Group, Layout, Matrix, MatrixId, MatrixPart, MemoryData,
    Node, Op, Packed, Pairing, Param, Plain, PlainFactor, PlainId, Poly, PolyId, Program, Recipe,
    Slots, StateDecl, StateId, Step, Template, ValueId, ValueType,
};

pub const WIDTH: u32 = 128;
pub const HEADS: u32 = 4;

/// A program under construction: tables and the template being written.
pub struct Maker {
    pub program: Program<Packed>,
    pub nodes: Vec<Node<Packed>>,
    pub params: Vec<Param<Packed>>,
    next: u32,
    prefix: &'static str,
}

pub fn vector() -> ValueType {
    ValueType {
        layout: Layout::Periodic {
            count: WIDTH,
            width: WIDTH,
        },
        complex: false,
        range: 1.0,
        unit: 1.0,
    }
}

fn group(slots: u32) -> Group {
    Group {
        tokens: slots / WIDTH,
        width: WIDTH,
        inner: 1,
    }
}

pub fn tokens(slots: u32) -> ValueType {
    ValueType {
        layout: Layout::Tokens(group(slots)),
        ..vector()
    }
}

impl Maker {
    pub fn new(slots: u32, capacity: u32) -> Self {
        Self {
            program: Program {
                name: "decode".into(),
                model_digest: "none".into(),
                slots,
                block: 1,
                capacity,
                data: vec![],
                plains: vec![],
                matrices: vec![],
                polys: vec![],
                states: vec![],
                templates: vec![],
                steps: vec![],
            },
            nodes: vec![],
            params: vec![],
            next: 0,
            prefix: "layers.{i}.",
        }
    }

    fn fresh(&mut self) -> ValueId {
        self.next += 1;
        ValueId(self.next - 1)
    }

    pub fn param(&mut self, ty: ValueType) -> ValueId {
        let value = self.fresh();
        self.params.push(Param {
            value,
            ty,
            note: (),
        });
        value
    }

    pub fn op(&mut self, op: Op<ValueId>, ty: &ValueType, site: &str) -> ValueId {
        let id = self.fresh();
        self.nodes.push(Node {
            results: vec![id],
            op,
            types: vec![ty.clone()],
            notes: vec![()],
            site: format!("{}{site}", self.prefix),
        });
        id
    }

    /// An operation with any number of results.
    pub fn statement(
        &mut self,
        op: Op<ValueId>,
        types: Vec<ValueType>,
        site: &str,
    ) -> Vec<ValueId> {
        let results: Vec<ValueId> = types.iter().map(|_| self.fresh()).collect();
        self.nodes.push(Node {
            results: results.clone(),
            op,
            notes: vec![(); types.len()],
            types,
            site: format!("{}{site}", self.prefix),
        });
        results
    }

    pub fn finish(&mut self, name: &str, results: Vec<ValueId>) -> usize {
        self.next = 0;
        self.program.templates.push(Template {
            name: name.into(),
            params: std::mem::take(&mut self.params),
            nodes: std::mem::take(&mut self.nodes),
            results,
        });
        self.program.templates.len() - 1
    }

    pub fn poly(&mut self, name: &str, degree: usize) -> PolyId {
        self.program.polys.push(Poly {
            name: name.into(),
            coefficients: (0..=degree).map(|i| 0.3 / (1.0 + i as f64)).collect(),
            error: 1e-6,
        });
        PolyId(self.program.polys.len() as u32 - 1)
    }

    pub fn plain(&mut self, name: &str, factors: Vec<PlainFactor>) -> PlainId {
        self.program.plains.push(Plain {
            name: name.into(),
            factors,
        });
        PlainId(self.program.plains.len() as u32 - 1)
    }

    pub fn linear(&mut self, v: ValueId, name: &str, ty: &ValueType) -> ValueId {
        self.program.data.push(DataDecl {
            name: name.into(),
            per_layer: true,
            shape: vec![WIDTH, WIDTH],
            recipe: Recipe::Matrix(vec![MatrixPart {
                tensor: format!("model.layers.{{i}}.{name}.weight"),
                transposed: false,
                rows: FeatureMap::plain(WIDTH),
                columns: FeatureMap::plain(WIDTH),
                gain: None,
                centred: false,
                scale: 1.0,
            }]),
        });
        self.program.matrices.push(Matrix {
            name: name.into(),
            in_width: WIDTH,
            out_width: WIDTH,
            baby: 16,
            form: Form::Gather { stride: 1 },
            block: 1,
            pairing: Pairing::None,
            data: DataId(self.program.data.len() as u32 - 1),
        });
        let matrix = MatrixId(self.program.matrices.len() as u32 - 1);
        self.op(Op::Linear { v, matrix }, ty, name)
    }

    /// Seven levels: square and mean, an inverse root of degree 31, the product.
    pub fn norm(&mut self, x: ValueId, name: &str) -> ValueId {
        let ty = vector();
        let scalar = ValueType {
            layout: Layout::Scalar,
            ..vector()
        };
        let square = self.op(Op::Mul { a: x, b: x }, &ty, &format!("{name}.square"));
        let sum = self.op(
            Op::Fold {
                v: square,
                step: 1,
                count: WIDTH,
            },
            &scalar,
            &format!("{name}.sum"),
        );
        let mapped = self.op(
            Op::AddConst { v: sum, c: -0.5 },
            &scalar,
            &format!("{name}.map"),
        );
        let poly = self.poly(name, 31);
        let inverse = self.op(
            Op::Poly { v: mapped, poly },
            &scalar,
            &format!("{name}.rsqrt"),
        );
        self.op(Op::Mul { a: x, b: inverse }, &ty, name)
    }

    fn rope(&mut self, v: ValueId, name: &str, ty: &ValueType, token: bool) -> ValueId {
        let mut factors = vec![PlainFactor::InverseCount { block: 1 }];
        if token {
            factors.push(PlainFactor::CurrentToken {
                group: self::group(self.program.slots),
                block: 1,
            });
        }
        let cos = self.plain(&format!("{name}.cos"), factors.clone());
        let sin = self.plain(&format!("{name}.sin"), factors);
        let turned = self.op(
            Op::Rotate {
                v,
                by: WIDTH as i32 / 2,
            },
            &vector(),
            &format!("{name}.turn"),
        );
        let a = self.op(Op::MulPlain { v, plain: cos }, ty, &format!("{name}.cos"));
        let b = self.op(
            Op::MulPlain {
                v: turned,
                plain: sin,
            },
            ty,
            &format!("{name}.sin"),
        );
        self.op(Op::Add { a, b }, ty, &format!("{name}.rope"))
    }
}

/// The group template of attention: scores, exp, numerator, denominator.
fn attend(m: &mut Maker) -> usize {
    let slots = m.program.slots;
    let grid = tokens(slots);
    let (q, k, v) = (
        m.param(vector()),
        m.param(grid.clone()),
        m.param(grid.clone()),
    );
    let product = m.op(Op::Mul { a: q, b: k }, &grid, "attention.qk");
    let scores = m.op(
        Op::Fold {
            v: product,
            step: HEADS as i32,
            count: WIDTH / HEADS,
        },
        &grid,
        "attention.qk.fold",
    );
    let lane = m.plain(
        "lane",
        vec![
            PlainFactor::FirstOf {
                width: WIDTH,
                first: HEADS,
            },
            PlainFactor::Const(0.25),
        ],
    );
    let lane0 = m.op(
        Op::MulPlain {
            v: scores,
            plain: lane,
        },
        &grid,
        "attention.lane",
    );
    let spread = m.op(
        Op::Fold {
            v: lane0,
            step: -(HEADS as i32),
            count: WIDTH / HEADS,
        },
        &grid,
        "attention.spread",
    );
    let poly = m.poly("exp", 15);
    let exp = m.op(Op::Poly { v: spread, poly }, &grid, "attention.exp");
    let cached = m.plain(
        "cached",
        vec![
            PlainFactor::CachedTokens {
                group: self::group(slots),
                block: 1,
            },
            PlainFactor::InverseCount { block: 1 },
        ],
    );
    let masked = m.op(
        Op::MulPlain {
            v: exp,
            plain: cached,
        },
        &grid,
        "attention.mask",
    );
    let fold = |v| Op::Fold {
        v,
        step: WIDTH as i32,
        count: slots / WIDTH,
    };
    let denominator = m.op(fold(masked), &vector(), "attention.denominator");
    let pv = m.op(Op::Mul { a: masked, b: v }, &grid, "attention.pv");
    let numerator = m.op(fold(pv), &vector(), "attention.numerator");
    m.finish("attend", vec![numerator, denominator])
}

/// A decoder layer's shape, then a final norm and a head.
pub fn decoder(slots: u32, capacity: u32, layers: u32) -> Program<Packed> {
    let mut m = Maker::new(slots, capacity);
    let grid = tokens(slots);
    for name in ["k", "v"] {
        m.program.states.push(StateDecl {
            name: name.into(),
            ty: grid.clone(),
            level: None,
        });
    }
    let group = attend(&mut m);
    let ty = vector();
    let x = m.param(ty.clone());
    let n = m.norm(x, "input_norm");
    let q = m.linear(n, "attention.q_proj", &ty);
    let q = m.rope(q, "attention.q", &ty, false);
    let k = m.linear(n, "attention.k_proj", &ty);
    let k = m.rope(k, "attention.k", &grid, true);
    let v = m.linear(n, "attention.v_proj", &ty);
    let current = m.plain(
        "current",
        vec![PlainFactor::CurrentToken {
            group: self::group(slots),
            block: 1,
        }],
    );
    let v = m.op(Op::MulPlain { v, plain: current }, &grid, "attention.v");
    for (state, v) in [(StateId(0), k), (StateId(1), v)] {
        m.statement(Op::Append { state, v }, vec![], "attention.append");
    }
    let sum = Op::SumGroups {
        template: group,
        states: vec![StateId(0), StateId(1)],
        args: vec![q],
    };
    let sums = m.statement(sum, vec![ty.clone(), ty.clone()], "attention");
    let (numerator, denominator) = (sums[0], sums[1]);
    let poly = m.poly("reciprocal", 31);
    let inverse = m.op(
        Op::Poly {
            v: denominator,
            poly,
        },
        &ty,
        "attention.reciprocal",
    );
    let attended = m.op(
        Op::Mul {
            a: numerator,
            b: inverse,
        },
        &ty,
        "attention.out",
    );
    let o = m.linear(attended, "attention.o_proj", &ty);
    let x = m.op(Op::Add { a: x, b: o }, &ty, "residual.attention");
    let n = m.norm(x, "post_norm");
    let gate = m.linear(n, "mlp.gate_proj", &ty);
    let up = m.linear(n, "mlp.up_proj", &ty);
    let poly = m.poly("silu", 31);
    let gate = m.op(Op::Poly { v: gate, poly }, &ty, "mlp.silu");
    let product = m.op(Op::Mul { a: gate, b: up }, &ty, "mlp.product");
    let down = m.linear(product, "mlp.down_proj", &ty);
    let x = m.op(Op::Add { a: x, b: down }, &ty, "residual.mlp");
    let layer = m.finish("layer", vec![x]);

    m.prefix = "";
    let x = m.param(ty.clone());
    let n = m.norm(x, "norm");
    let logits = m.linear(n, "lm_head", &ty);
    let head = m.finish("head", vec![logits]);
    m.program.steps = vec![
        Step {
            template: layer,
            first: 0,
            count: layers,
        },
        Step {
            template: head,
            first: 0,
            count: 1,
        },
    ];
    m.program
}

/// Weights small enough that every value of [`decoder`] stays within its range.
pub fn weights(program: &Program<Packed>, layers: u32) -> MemoryData {
    let mut data = MemoryData::default();
    for (i, declared) in program.data.iter().enumerate() {
        for layer in 0..layers {
            let size: u32 = declared.shape.iter().product();
            let entry = |j: u32| f64::from((j * 37 + layer * 11 + i as u32) % 17) / 2000.0 - 0.004;
            let values: Vec<f64> = (0..size).map(entry).collect();
            data.insert(DataId(i as u32), layer, values);
        }
    }
    data
}

/// The client's vector of a token.
pub fn input(token: u32) -> Slots {
    let x: Vec<f64> = (0..WIDTH)
        .map(|f| f64::from((f + token) % 7) / 100.0)
        .collect();
    Slots::real(&x).unwrap()
}
