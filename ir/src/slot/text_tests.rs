//! What prints parses back to the same value, for any program; and texts with mistakes are refused at the right place.

use super::*;
use crate::testing::level;
use proptest::collection::vec;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn site() -> impl Strategy<Value = String> {
    "[a-z0-9_.{}:/-]{1,20}"
}

fn number() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("NaN is unequal to itself", |x| !x.is_nan())
}

fn layout() -> impl Strategy<Value = Layout> {
    prop_oneof![
        any::<(u32, u32)>().prop_map(|(count, width)| Layout::Periodic { count, width }),
        any::<(u32, u32, u32)>().prop_map(|(count, width, stride)| Layout::Strided {
            count,
            width,
            stride
        }),
        group().prop_map(Layout::Tokens),
        group().prop_map(|group| Layout::Tokens(group).block(4)),
        token_matrix().prop_map(Layout::Matrix),
        Just(Layout::Scalar),
        any::<u32>().prop_map(|period| Layout::Partial { period }),
    ]
}

fn token_matrix() -> impl Strategy<Value = TokenMatrix> {
    let side = any::<bool>().prop_map(|rows| if rows { Side::Rows } else { Side::Columns });
    (any::<[u32; 4]>(), side).prop_map(|([lanes, heads, inner, baby], side)| TokenMatrix {
        lanes,
        heads,
        inner,
        baby,
        side,
    })
}

fn ty() -> impl Strategy<Value = ValueType> {
    (layout(), any::<bool>(), number(), number()).prop_map(|(layout, complex, range, unit)| {
        ValueType {
            layout,
            complex,
            range,
            unit,
        }
    })
}

fn at() -> BoxedStrategy<At> {
    let at = any::<(u32, u8)>();
    at.prop_map(|(level, degree)| At { level, degree }).boxed()
}

fn value() -> impl Strategy<Value = ValueId> {
    any::<u32>().prop_map(ValueId)
}

fn op() -> impl Strategy<Value = Op<ValueId>> {
    let v = value;
    let kind = any::<(u32, bool)>().prop_map(|(slots, complex)| BootstrapKind { slots, complex });
    let loop_ = (
        any::<usize>(),
        vec(any::<u32>().prop_map(StateId), 0..3),
        vec(v(), 0..3),
    );
    prop_oneof![
        (v(), any::<i32>()).prop_map(|(v, by)| Op::Rotate { v, by }),
        v().prop_map(|v| Op::Conjugate { v }),
        v().prop_map(|v| Op::MulI { v }),
        v().prop_map(|v| Op::Neg { v }),
        v().prop_map(|v| Op::Rescale { v }),
        (v(), v()).prop_map(|(a, b)| Op::Add { a, b }),
        (v(), v()).prop_map(|(a, b)| Op::Sub { a, b }),
        (v(), v()).prop_map(|(a, b)| Op::Mul { a, b }),
        (v(), any::<u32>()).prop_map(|(v, i)| Op::AddPlain {
            v,
            plain: PlainId(i)
        }),
        (v(), any::<u32>()).prop_map(|(v, i)| Op::MulPlain {
            v,
            plain: PlainId(i)
        }),
        (v(), number()).prop_map(|(v, c)| Op::AddConst { v, c }),
        (v(), number()).prop_map(|(v, c)| Op::MulConst { v, c }),
        (v(), any::<i32>(), any::<u32>()).prop_map(|(v, step, count)| Op::Fold { v, step, count }),
        (v(), any::<u32>()).prop_map(|(v, count)| Op::FoldCurrent { v, count }),
        (v(), any::<u32>()).prop_map(|(v, i)| Op::Linear {
            v,
            matrix: MatrixId(i)
        }),
        (v(), v(), any::<[u32; 3]>()).prop_map(|(matrix, v, [step, count, baby])| Op::Apply {
            matrix,
            v,
            step,
            count,
            baby
        }),
        (v(), any::<u32>()).prop_map(|(v, i)| Op::Poly { v, poly: PolyId(i) }),
        (v(), any::<u32>()).prop_map(|(v, i)| Op::Append {
            v,
            state: StateId(i)
        }),
        (v(), any::<u32>()).prop_map(|(v, level)| Op::Drop { v, level }),
        (v(), kind).prop_map(|(v, kind)| Op::Bootstrap { v, kind }),
        loop_.prop_map(|(template, states, args)| Op::SumGroups {
            // An index prints as 32 bits.
            template: template as u32 as usize,
            states,
            args
        }),
    ]
}

fn feature_map() -> impl Strategy<Value = FeatureMap> {
    prop_oneof![
        any::<(u32, u32)>().prop_map(|(first, count)| FeatureMap::Plain { first, count }),
        any::<[u32; 5]>().prop_map(|[heads, kv_heads, head_dim, heads_padded, lanes]| {
            FeatureMap::Heads {
                heads,
                kv_heads,
                head_dim,
                heads_padded,
                lanes,
            }
        }),
    ]
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let map = feature_map;
    let gain = proptest::option::of(name());
    let flags = any::<(bool, bool)>();
    let part = (name(), flags, map(), map(), gain, number()).prop_map(
        |(tensor, (transposed, centred), rows, columns, gain, scale)| MatrixPart {
            tensor,
            transposed,
            rows,
            columns,
            gain,
            centred,
            scale,
        },
    );
    let shift = (name(), any::<bool>(), name()).prop_map(|(weight, transposed, by)| Shift {
        weight,
        transposed,
        by,
    });
    let own = proptest::option::of(name());
    let shift = proptest::option::of(shift);
    prop_oneof![
        vec(part, 0..3).prop_map(Recipe::Matrix),
        (name(), map(), number()).prop_map(|(tensor, rows, scale)| Recipe::Vector {
            tensor,
            rows,
            scale
        }),
        (own, shift, map(), any::<bool>(), number()).prop_map(
            |(own, shift, rows, centred, scale)| Recipe::Constant {
                own,
                shift,
                rows,
                centred,
                scale
            }
        ),
        (name(), map(), any::<bool>(), number()).prop_map(|(tensor, rows, centred, scale)| {
            Recipe::Rows {
                tensor,
                rows,
                centred,
                scale,
            }
        }),
        vec(vec(number(), 0..3), 0..3).prop_map(Recipe::Values),
        (map(), number()).prop_map(|(map, scale)| Recipe::RopeCos { map, scale }),
        (map(), number()).prop_map(|(map, scale)| Recipe::RopeSin { map, scale }),
    ]
}

fn data() -> impl Strategy<Value = DataDecl> {
    (name(), any::<bool>(), vec(any::<u32>(), 0..3), recipe()).prop_map(
        |(name, per_layer, shape, recipe)| DataDecl {
            name,
            per_layer,
            shape,
            recipe,
        },
    )
}

fn group() -> impl Strategy<Value = Group> {
    any::<[u32; 3]>().prop_map(|[tokens, width, inner]| Group {
        tokens,
        width,
        inner,
    })
}

fn plain() -> impl Strategy<Value = Plain> {
    let factor = prop_oneof![
        number().prop_map(PlainFactor::Const),
        any::<(u32, u32)>().prop_map(|(i, stride)| PlainFactor::Vector {
            data: DataId(i),
            stride
        }),
        any::<(u32, u32, u32)>().prop_map(|(i, stride, block)| PlainFactor::PositionRow {
            data: DataId(i),
            stride,
            block
        }),
        (group(), any::<u32>())
            .prop_map(|(group, block)| PlainFactor::CurrentToken { group, block }),
        (group(), any::<u32>())
            .prop_map(|(group, block)| PlainFactor::CachedTokens { group, block }),
        any::<(u32, u32)>().prop_map(|(width, first)| PlainFactor::FirstOf { width, first }),
        any::<u32>().prop_map(|width| PlainFactor::LastOf { width }),
        any::<u32>().prop_map(|block| PlainFactor::InverseCount { block }),
    ];
    (name(), vec(factor, 0..4)).prop_map(|(name, factors)| Plain { name, factors })
}

fn matrix() -> impl Strategy<Value = Matrix> {
    let form = (0..3, any::<u32>()).prop_map(|(form, stride)| match form {
        0 => Form::Spread { stride },
        1 => Form::Gather { stride },
        _ => Form::Mix { run: stride },
    });
    let pairing = proptest::sample::select(vec![Pairing::None, Pairing::Outputs, Pairing::Inputs]);
    (name(), any::<[u32; 5]>(), form, pairing).prop_map(
        |(name, [in_width, out_width, baby, data, block], form, pairing)| Matrix {
            name,
            in_width,
            out_width,
            form,
            block,
            pairing,
            baby,
            data: DataId(data),
        },
    )
}

fn poly() -> impl Strategy<Value = Poly> {
    (name(), vec(number(), 0..5), number()).prop_map(|(name, coefficients, error)| Poly {
        name,
        coefficients,
        error,
    })
}

fn state() -> impl Strategy<Value = StateDecl> {
    let level = proptest::option::of(any::<u32>());
    (name(), ty(), level).prop_map(|(name, ty, level)| StateDecl { name, ty, level })
}

fn template<S: Stage + 'static>(
    note: BoxedStrategy<S::Note>,
) -> impl Strategy<Value = Template<S>> {
    let result = (value(), ty(), note.clone());
    let node = (vec(result, 0..3), op(), site()).prop_map(|(results, op, site)| Node {
        results: results.iter().map(|r| r.0).collect(),
        types: results.iter().map(|r| r.1.clone()).collect(),
        notes: results.into_iter().map(|r| r.2).collect(),
        op,
        site,
    });
    let param = (value(), ty(), note).prop_map(|(value, ty, note)| Param { value, ty, note });
    (
        name(),
        vec(param, 0..3),
        vec(node, 0..8),
        vec(value(), 0..3),
    )
        .prop_map(|(name, params, nodes, results)| Template {
            name,
            params,
            nodes,
            results,
        })
}

fn program<S: Stage + 'static>(note: BoxedStrategy<S::Note>) -> impl Strategy<Value = Program<S>> {
    let step = any::<(u32, u32, u32)>().prop_map(|(template, first, count)| Step {
        template: template as usize,
        first,
        count,
    });
    let tables = (
        vec(data(), 0..3),
        vec(plain(), 0..3),
        vec(matrix(), 0..2),
        vec(poly(), 0..3),
        vec(state(), 0..3),
    );
    let head = (name(), name(), any::<(u32, u32, u32)>());
    (
        head,
        tables,
        vec(template::<S>(note), 0..3),
        vec(step, 0..3),
    )
        .prop_map(
            |((name, model_digest, (slots, block, capacity)), tables, templates, steps)| {
                let (data, plains, matrices, polys, states) = tables;
                Program {
                    name,
                    model_digest,
                    slots,
                    block,
                    capacity,
                    data,
                    plains,
                    matrices,
                    polys,
                    states,
                    templates,
                    steps,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn packed_programs_round_trip(program in program::<Packed>(Just(()).boxed())) {
        let text = program.to_string();
        prop_assert_eq!(text.parse::<Program<Packed>>().unwrap(), program, "{}", text);
    }

    #[test]
    fn leveled_programs_round_trip(program in program::<Leveled>(at())) {
        let text = program.to_string();
        prop_assert_eq!(text.parse::<Program<Leveled>>().unwrap(), program, "{}", text);
    }

    #[test]
    fn damaged_text_never_panics(cut in 0usize..4000, insert in ".{0,3}") {
        let mut text = level(&tests::attention()).to_string();
        let cut = (0..=cut.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap();
        text.insert_str(cut, &insert);
        let _ = text.parse::<Program<Leveled>>();
        text.truncate(cut);
        if cut < text.trim_end().len() {
            prop_assert!(text.parse::<Program<Leveled>>().is_err());
        }
    }
}

#[test]
fn a_text_reads_as_written() {
    let text = level(&tests::attention()).to_string();
    assert_eq!(stage_of(&text), Some("leveled"));
    for line in [
        "program \"decode\", slots=256, block=1, capacity=7",
        "plain p2 \"mask\", [cached_tokens 2/4]",
        "matrix m0 \"w\", spread 1, unpaired, in=4, out=4, baby=2, d0",
        "state s0 \"k\" : tokens 2/4 real range 1.0 unit 1.0 at 13",
        "  append %3, s0  @layers.{i}.attention  ; \"k\"",
        "  %1 = mul_plain %0, p0 : tokens 2/4 real range 1.0 unit 1.0 at 16/2  @layers.{i}.attention  ; \"mask\"",
        "step t0, first=0, count=2",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\nis not in\n{text}");
    }
}

#[test]
fn mistakes_are_told_where_they_are() {
    let text = level(&tests::attention()).to_string();
    for (good, bad, error) in [
        (
            "leveled 3",
            "leveled 1",
            "expected version 3 of the leveled stage, found the number 1",
        ),
        (
            "leveled 3",
            "packed 3",
            "expected `leveled`, found `packed`",
        ),
        (
            "plain p1",
            "plain p2",
            "expected p1, the next number, found `p2`",
        ),
        (
            " = mul %",
            " = multiply %",
            "expected an operation such as `add`, found `multiply`",
        ),
        (
            "tokens 2/4 real",
            "tokens 2 real",
            "expected `/`, found `real`",
        ),
        ("at 16/2", "", "expected `at`"),
    ] {
        let damaged = text.replacen(good, bad, 1);
        assert_ne!(damaged, text);
        let found = damaged.parse::<Program<Leveled>>().unwrap_err().to_string();
        assert!(found.contains(error), "{found}");
    }
}
