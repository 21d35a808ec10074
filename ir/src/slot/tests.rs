//! A small attention without softmax, against its definition.

use super::*;

const TOKENS: u32 = 2;
const WIDTH: u32 = 4;
const CAPACITY: u32 = 7;

fn ty(layout: Layout) -> ValueType {
    ValueType {
        layout,
        complex: false,
        range: 1.0,
        unit: 1.0,
    }
}

fn periodic() -> ValueType {
    ty(Layout::Periodic {
        count: WIDTH,
        width: WIDTH,
    })
}

fn group() -> ValueType {
    ty(Layout::Tokens(GROUP))
}

fn node(result: Option<u32>, op: Op<ValueId>, ty: ValueType) -> Node<Packed> {
    Node {
        results: result.map(ValueId).into_iter().collect(),
        types: result.map(|_| ty).into_iter().collect(),
        notes: result.map(|_| ()).into_iter().collect(),
        op,
        site: "layers.{i}.attention".into(),
    }
}

fn param(value: u32, ty: ValueType) -> Param<Packed> {
    Param {
        value: ValueId(value),
        ty,
        note: (),
    }
}

fn plain(factors: Vec<PlainFactor>) -> Plain {
    Plain {
        name: "mask".into(),
        factors,
    }
}

const GROUP: Group = Group {
    tokens: TOKENS,
    width: WIDTH,
    inner: 1,
};

/// out = Σ over cached tokens r of mean-weighted <Wx, k_r> v_r with k_r = v_r = the layer's input of token r.
pub(crate) fn attention() -> Program<Packed> {
    let v = ValueId;
    let current = PlainFactor::CurrentToken {
        group: GROUP,
        block: 1,
    };
    let cached = PlainFactor::CachedTokens {
        group: GROUP,
        block: 1,
    };
    let first = PlainFactor::FirstOf {
        width: WIDTH,
        first: 1,
    };
    let partial = ty(Layout::Partial {
        period: TOKENS * WIDTH,
    });
    let layer = Template {
        name: "layer".into(),
        params: vec![param(0, periodic())],
        nodes: vec![
            node(
                Some(1),
                Op::MulPlain {
                    v: v(0),
                    plain: PlainId(0),
                },
                group(),
            ),
            node(
                None,
                Op::Append {
                    state: StateId(0),
                    v: v(1),
                },
                group(),
            ),
            node(
                None,
                Op::Append {
                    state: StateId(1),
                    v: v(1),
                },
                group(),
            ),
            node(
                Some(2),
                Op::Linear {
                    v: v(0),
                    matrix: MatrixId(0),
                },
                periodic(),
            ),
            node(
                Some(3),
                Op::SumGroups {
                    template: 1,
                    states: vec![StateId(0), StateId(1)],
                    args: vec![v(2)],
                },
                group(),
            ),
            node(
                Some(4),
                Op::Fold {
                    v: v(3),
                    step: WIDTH as i32,
                    count: TOKENS,
                },
                periodic(),
            ),
            node(
                Some(5),
                Op::MulPlain {
                    v: v(4),
                    plain: PlainId(3),
                },
                periodic(),
            ),
        ],
        results: vec![v(5)],
    };
    let visit = Template {
        name: "visit".into(),
        params: vec![param(0, periodic()), param(1, group()), param(2, group())],
        nodes: vec![
            node(Some(3), Op::Mul { a: v(0), b: v(1) }, group()),
            node(
                Some(4),
                Op::Fold {
                    v: v(3),
                    step: 1,
                    count: WIDTH,
                },
                partial.clone(),
            ),
            node(
                Some(5),
                Op::MulPlain {
                    v: v(4),
                    plain: PlainId(1),
                },
                partial,
            ),
            node(
                Some(6),
                Op::Fold {
                    v: v(5),
                    step: -1,
                    count: WIDTH,
                },
                group(),
            ),
            node(
                Some(7),
                Op::MulPlain {
                    v: v(6),
                    plain: PlainId(2),
                },
                group(),
            ),
            node(Some(8), Op::Mul { a: v(7), b: v(2) }, group()),
        ],
        results: vec![v(8)],
    };
    Program {
        name: "decode".into(),
        model_digest: "0".into(),
        slots: 256,
        block: 1,
        capacity: CAPACITY,
        data: vec![DataDecl {
            name: "w".into(),
            per_layer: true,
            shape: vec![WIDTH, WIDTH],
            recipe: Recipe::Matrix(vec![]),
        }],
        plains: vec![
            plain(vec![current]),
            plain(vec![first]),
            plain(vec![cached]),
            plain(vec![PlainFactor::InverseCount { block: 1 }]),
        ],
        matrices: vec![Matrix {
            name: "w".into(),
            in_width: WIDTH,
            out_width: WIDTH,
            form: Form::Spread { stride: 1 },
            block: 1,
            pairing: Pairing::None,
            baby: 2,
            data: DataId(0),
        }],
        polys: vec![],
        states: ["k", "v"]
            .map(|name| StateDecl {
                name: name.into(),
                ty: group(),
                level: None,
            })
            .to_vec(),
        templates: vec![layer, visit],
        steps: vec![Step {
            template: 0,
            first: 0,
            count: 2,
        }],
    }
}

pub(crate) fn weights() -> MemoryData {
    let mut data = MemoryData::default();
    for layer in 0..2 {
        data.insert(DataId(0), layer, weight(layer));
    }
    data
}

fn weight(layer: u32) -> Vec<f64> {
    (0..WIDTH * WIDTH)
        .map(|i| f64::from((7 * i + 3 * layer) % 11) / 10.0 - 0.4)
        .collect()
}

pub(crate) fn input(position: u32) -> Vec<f64> {
    (0..WIDTH)
        .map(|f| f64::from((5 * f + 3 * position) % 7) / 7.0 - 0.3)
        .collect()
}

/// The same by definition: rows of inputs in, rows of outputs out.
fn reference(rows: &[Vec<f64>], weight: &[f64]) -> Vec<Vec<f64>> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let at = |position: usize| {
        let q: Vec<f64> = weight
            .chunks(WIDTH as usize)
            .map(|w| dot(w, &rows[position]))
            .collect();
        let mut out = vec![0.0; WIDTH as usize];
        for row in &rows[..=position] {
            let score = dot(&q, row) / (position as f64 + 1.0);
            out.iter_mut().zip(row).for_each(|(o, x)| *o += score * x);
        }
        out
    };
    (0..rows.len()).map(at).collect()
}

#[test]
fn attention_over_four_groups_is_its_definition() {
    let program = attention();
    let weights = weights();
    let interpreter = Interpreter::new(&program, &weights);
    let mut session = Session::default();
    let mut expected: Vec<_> = (0..CAPACITY).map(input).collect();
    for layer in 0..2 {
        expected = reference(&expected, &weight(layer));
    }
    let mut seen = 0;
    for (position, expected) in expected.iter().enumerate() {
        let x = Slots::real(&input(position as u32)).unwrap();
        let out = interpreter
            .decode(&mut session, vec![x], &mut |_| seen += 1)
            .unwrap();
        for (f, y) in expected.iter().enumerate() {
            assert!(
                (out[0].at(f).re - y).abs() < 1e-12,
                "position {position} feature {f}"
            );
        }
        assert_eq!(out[0].period(), WIDTH as usize);
    }
    assert_eq!(session.groups(StateId(1), 1).len(), 4);
    // Per layer 6 values and, per group, 9 more; groups 1 1 2 2 3 3 4.
    assert_eq!(seen, 2 * (7 * 6 + 16 * 9));

    let x = Slots::real(&input(0)).unwrap();
    let full = interpreter.decode(&mut session, vec![x], &mut |_| ());
    assert!(matches!(
        full,
        Err(InterpError::Capacity { capacity: CAPACITY })
    ));
    assert_eq!(session.position(), CAPACITY);
}

#[test]
fn a_failing_step_leaves_the_session_as_it_was() {
    let mut program = attention();
    let weights = weights();
    let mut session = Session::default();
    let x = || vec![Slots::real(&input(0)).unwrap()];
    Interpreter::new(&program, &weights)
        .decode(&mut session, x(), &mut |_| ())
        .unwrap();
    let before = session.groups(StateId(0), 0).to_vec();
    program.matrices.clear();
    let failed = Interpreter::new(&program, &weights).decode(&mut session, x(), &mut |_| ());
    assert!(matches!(failed, Err(InterpError::Malformed { .. })));
    assert_eq!(
        (session.position(), session.groups(StateId(0), 0)),
        (1, &before[..])
    );
}
