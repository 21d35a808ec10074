use super::*;
use proptest::prelude::*;

/// A one-head, two-layer model, as text.
const SMALL: &str = r#"
decoder 2
checkpoint "blake3:0000000000000000000000000000000000000000000000000000000000000000"
model {
  architecture = llama
  hidden = 2
  layers = 2
  heads = 1
  kv_heads = 1
  head_dim = 2
  intermediate = 3
  vocab = 4
  norm_eps = 0.5
  positions = rope, theta=100.0
  activation = silu
  tied = false
  attention_bias = false
  mlp_bias = false
  bos = 0
  eos = [1]
  max_positions = 8
}
state "kv", kv_heads=1, head_dim=2

template embed(%0: token) -> %1 {
  %1 = embed %0, weight="table" : [2]  @embed
}

template layer(%0: [2]) -> %8 {      ; attention only
  %1 = rmsnorm %0, weight="{i}.norm", eps=0.5 : [2]  @{i}.norm
  %2 = linear %1, weight="{i}.q", bias="{i}.q.bias" : [2]  @{i}.q
  %3 = rope %2, head_dim=2 : [2]  @{i}.q.rope
  kv_append %1, %1, state="kv"  @{i}.append
  %4 = attend %3, state="kv", heads=1, scale=2.0 : [2]  @{i}.attend
  %5 = silu %4 : [2]  @{i}.silu
  %6 = mul %5, %1 : [2]  @{i}.mul
  %8 = add %0, %6 : [2]  @{i}.add
}

template final(%0: [2]) -> %1 {
  %1 = linear %0, weight="head" : [4]  @head
}
"#;

fn small() -> Decoder {
    SMALL.parse().unwrap()
}

fn tensor(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor {
        shape: shape.into(),
        data: data.into(),
    }
}

fn weights() -> Tensors {
    let mut tensors = Tensors::default();
    let mut put = |name: &str, t: Tensor| tensors.0.insert(name.into(), t.into());
    put(
        "table",
        tensor(&[4, 2], &[1.0, 0.0, 0.0, 1.0, 2.0, -1.0, -1.0, 0.5]),
    );
    put(
        "head",
        tensor(&[4, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, -1.0]),
    );
    for i in 0..2 {
        put(&format!("{i}.norm"), tensor(&[2], &[1.0, 2.0]));
        put(&format!("{i}.q"), tensor(&[2, 2], &[0.0, 1.0, 1.0, 0.0]));
        put(&format!("{i}.q.bias"), tensor(&[2], &[0.25, 0.0]));
    }
    tensors
}

#[test]
fn the_sample_verifies_and_round_trips() {
    let decoder = small();
    decoder.verify().unwrap();
    assert_eq!(decoder.to_string().parse(), Ok(decoder));
}

/// One token, one layer, by hand: every operation's definition, not its implementation.
#[test]
fn one_step_is_what_the_definitions_say() {
    let mut decoder = small();
    decoder.model.layers = 1;
    let weights = weights();
    let interpreter = Interpreter::new(&decoder, &weights).unwrap();
    let mut seen = Vec::new();
    let mut cache = KvCache::new(&decoder);
    let pass = interpreter
        .pass(&mut cache, &[2], &mut |o| {
            seen.push((o.name(), o.position, o.values.to_vec()))
        })
        .unwrap();
    // x = (2, −1): mean square 2.5, plus eps 3; norm = (1·2, 2·−1)/√3; a single token gets its own value back.
    let norm = [2.0 / 3f64.sqrt(), -2.0 / 3f64.sqrt()];
    let silu = norm.map(|x| x / (1.0 + (-x).exp()));
    let out = [2.0 + silu[0] * norm[0], -1.0 + silu[1] * norm[1]];
    let close = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12) && a.len() == b.len()
    };
    assert!(close(pass.hidden[0].row(0), &[2.0, -1.0]));
    assert!(close(pass.hidden[1].row(0), &out));
    assert!(close(
        pass.logits.row(0),
        &[out[0], out[1], out[0] + out[1], out[0] - out[1]]
    ));
    assert!(close(cache.keys(0).row(0), &norm));
    let find = |name: &str| {
        &seen
            .iter()
            .find(|(n, p, _)| n == name && *p == 0)
            .unwrap()
            .2
    };
    assert!(close(find("0.norm.mean_square"), &[2.5]));
    assert!(close(find("0.q"), &[norm[1] + 0.25, norm[0]]));
    assert!(close(
        find("0.attend.scores"),
        &[2.0 * (norm[0] * (norm[1] + 0.25) + norm[1] * norm[0])]
    ));
    assert!(close(find("0.attend.probabilities"), &[1.0]));
}

#[test]
fn one_pass_equals_steps_and_a_failed_pass_changes_nothing() {
    let (decoder, weights) = (small(), weights());
    let interpreter = Interpreter::new(&decoder, &weights).unwrap();
    let tokens = [0, 2, 3, 1, 2];
    let mut whole = KvCache::new(&decoder);
    let pass = interpreter.pass(&mut whole, &tokens, &mut |_| {}).unwrap();
    let mut steps = KvCache::new(&decoder);
    for (t, token) in tokens.into_iter().enumerate() {
        let step = interpreter.pass(&mut steps, &[token], &mut |_| {}).unwrap();
        assert_eq!(step.logits.row(0), pass.logits.row(t));
    }
    assert_eq!(steps, whole);
    let refused = interpreter.pass(&mut steps, &[1, 4], &mut |_| {});
    assert!(matches!(
        refused,
        Err(InterpretError::Token {
            token: 4,
            position: 6,
            vocab: 4
        })
    ));
    let refused = interpreter.pass(&mut steps, &[1; 4], &mut |_| {});
    assert!(matches!(
        refused,
        Err(InterpretError::Capacity {
            needed: 9,
            capacity: 8
        })
    ));
    assert!(matches!(
        interpreter.pass(&mut steps, &[], &mut |_| {}),
        Err(InterpretError::Empty)
    ));
    assert_eq!(steps, whole);
}

#[test]
fn weights_are_checked_before_anything_runs() {
    let (decoder, mut weights) = (small(), weights());
    weights
        .0
        .insert("1.q".into(), tensor(&[2, 1], &[0.0, 0.0]).into());
    let error = Interpreter::new(&decoder, &weights)
        .err()
        .unwrap()
        .to_string();
    assert_eq!(
        error,
        "tensor `1.q` has shape [2, 1], the model's configuration needs [2, 2]"
    );
    weights.0.remove("1.q");
    let error = Interpreter::new(&decoder, &weights)
        .err()
        .unwrap()
        .to_string();
    assert_eq!(error, "the checkpoint has no tensor `1.q`");
}

/// Each rule of the verifier's specification, by a textual change that breaks it.
#[test]
fn the_verifier_names_each_violation() {
    for (from, to, message) in [
        ("hidden = 2", "hidden = 0", "hidden is 0"),
        (
            "kv_heads = 1",
            "kv_heads = 2",
            "heads = 1 is not a multiple of kv_heads = 2",
        ),
        ("head_dim = 2", "head_dim = 3", "head_dim = 3 is odd"),
        ("norm_eps = 0.5", "norm_eps = NaN", "norm_eps = NaN"),
        ("theta=100.0", "theta=-1.0", "rope theta = -1 "),
        (
            "theta=100.0",
            "theta=100.0, scaling=linear, factor=inf",
            "factor=inf: a number",
        ),
        ("eos = [1]", "eos = [4]", "token 4 is not in the vocabulary"),
        (
            "state \"kv\", kv_heads=1",
            "state \"kv\", kv_heads=0",
            "a size is 0",
        ),
        (
            "state \"kv\"",
            "state \"kv\", kv_heads=1, head_dim=2\nstate \"kv\"",
            "the name is taken",
        ),
        (
            "state \"kv\"",
            "state \"x\", kv_heads=1, head_dim=2\nstate \"kv\"",
            "nothing is appended to state \"x\"",
        ),
        (
            "embed(%0: token)",
            "embed(%0: [2])",
            "the argument is a [2], the model needs a token",
        ),
        ("-> %8", "-> %9", "the result %9 is not defined"),
        ("-> %8", "-> %10", "the result %10 is not defined"),
        (
            "-> %1 {\n  %1 = linear",
            "-> %0 {\n  %1 = linear",
            "the result %0 is a [2], the model needs a [4]",
        ),
        ("%6 = mul", "%5 = mul", "%5 is defined twice"),
        ("silu %4", "silu %7", "%7 is read before it is defined"),
        (
            "silu %4 : [2]",
            "silu %4 : [3]",
            "the result is a [3], its operands give a [2]",
        ),
        (
            "silu %4 : [2]",
            "silu %4 : token",
            "the result is a token, not a vector",
        ),
        (
            "embed %0, weight=\"table\"",
            "silu %0",
            "an operand is a token",
        ),
        (
            "rope %2, head_dim=2",
            "rope %2, head_dim=4",
            "not made of heads of an even 4",
        ),
        (
            "rope %2, head_dim=2",
            "rope %2, head_dim=1",
            "not made of heads of an even 1",
        ),
        (
            "kv\"  @{i}.append",
            "vk\"  @{i}.append",
            "no state \"vk\" is declared",
        ),
        (
            "  kv_append",
            "  kv_append %1, %1, state=\"kv\"  @{i}.x\n  kv_append",
            "\"kv\" is appended to twice",
        ),
        (
            "  kv_append %1, %1, state=\"kv\"  @{i}.append\n",
            "",
            "attended to before this token is in it",
        ),
        (
            "heads=1, scale=2.0",
            "heads=2, scale=2.0",
            "width 2 is not 2 heads",
        ),
        ("scale=2.0", "scale=inf", "scale = inf is not finite"),
        ("eps=0.5", "eps=-0.5", "eps = -0.5 is not a number"),
        ("\"{i}.q\"", "\"q\"", "`q` does not name its layer"),
        (
            "\"head\"",
            "\"{i}.head\"",
            "`{i}.head` names a layer outside of one",
        ),
        ("\"table\"", "\"\"", "a tensor name or the site is empty"),
        ("tied = false", "tied = true", "the model is tied, but"),
        ("\"head\"", "\"table\"", "the model is untied, but"),
        (
            "linear %0, weight=\"head\" : [4]",
            "rmsnorm %0, weight=\"head\", eps=0.0 : [2]",
            "so there is no head",
        ),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let decoder: Decoder = SMALL
            .replacen(from, to, 1)
            .parse()
            .unwrap_or_else(|e| panic!("{to}: {e}"));
        let report = decoder
            .verify()
            .map_or_else(|e| e.to_string(), |()| "nothing".into());
        assert!(
            report.contains(message),
            "{from} → {to}: wanted `{message}`, got {report}"
        );
    }
}

#[test]
fn all_violations_are_reported_with_their_statements() {
    let text = SMALL
        .replace("silu %4", "silu %7")
        .replace("add %0, %6", "add %0, %9");
    let error = text.parse::<Decoder>().unwrap().verify().unwrap_err();
    assert_eq!(error.list.len(), 2);
    assert_eq!(
        error.list[1].statement.as_deref(),
        Some("%8 = add %0, %9 : [2]  @{i}.add")
    );
}

#[test]
fn parse_errors_say_where_and_what() {
    for (from, to, message) in [
        (
            "decoder 2",
            "decoder 9",
            "line 2, column 9: expected version 2 of the decoder stage, found the number 9",
        ),
        (
            "hidden = 2",
            "hiden = 2",
            "line 6, column 3: expected `hidden`, found `hiden`",
        ),
        (
            "silu %4",
            "sillu %4",
            "line 35, column 8: expected an operation: embed, position, linear",
        ),
        (
            "%5 = silu",
            "silu",
            "line 35, column 3: expected a statement",
        ),
        (
            "%5 = silu",
            "%5 = kv_append",
            "line 35, column 8: expected an operation with a result, found `kv_append`",
        ),
        ("%4 : [2]", "%4", "expected `:`, found @{i}.silu"),
        (
            "blake3:00",
            "blake3:",
            "expected the checkpoint's digest, found \"blake3:",
        ),
    ] {
        let error = SMALL
            .replacen(from, to, 1)
            .parse::<Decoder>()
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{from} → {to}: {error}");
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z{}. \"\\\\]{0,12}"
}

fn site() -> impl Strategy<Value = String> {
    "[a-z{}._;\"]{1,12}"
}

fn val() -> impl Strategy<Value = Value> {
    any::<u32>().prop_map(Value)
}

fn ty() -> impl Strategy<Value = Type> {
    prop_oneof![Just(Type::Token), any::<usize>().prop_map(Type::Vector)]
}

fn finite() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("NaN is not equal to itself", |x| !x.is_nan())
}

fn activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(Activation::ALL.to_vec())
}

fn positions() -> impl Strategy<Value = Positions> {
    prop_oneof![
        Just(Positions::Learned),
        (finite(), scaling())
            .prop_map(|(theta, scaling)| Positions::Rotary(Rope { theta, scaling })),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (val(), name()).prop_map(|(token, weight)| Op::Embed { token, weight }),
        (val(), name(), prop::option::of(name())).prop_map(|(x, weight, bias)| Op::Linear {
            x,
            weight,
            bias
        }),
        (val(), name()).prop_map(|(token, weight)| Op::Position { token, weight }),
        (val(), name(), finite()).prop_map(|(x, weight, eps)| Op::RmsNorm { x, weight, eps }),
        (val(), name(), name(), finite()).prop_map(|(x, weight, bias, eps)| Op::LayerNorm {
            x,
            weight,
            bias,
            eps
        }),
        (val(), any::<usize>()).prop_map(|(x, head_dim)| Op::Rope { x, head_dim }),
        (val(), val(), name()).prop_map(|(k, v, state)| Op::KvAppend { state, k, v }),
        (val(), name(), any::<usize>(), finite()).prop_map(|(q, state, heads, scale)| Op::Attend {
            q,
            state,
            heads,
            scale
        }),
        (val(), activation()).prop_map(|(x, function)| Op::Activate { x, function }),
        (val(), val()).prop_map(|(a, b)| Op::Mul { a, b }),
        (val(), val()).prop_map(|(a, b)| Op::Add { a, b }),
    ]
}

fn inst() -> impl Strategy<Value = Inst> {
    (op(), val(), ty(), site()).prop_map(|(op, value, ty, site)| {
        let result = (!matches!(op, Op::KvAppend { .. })).then_some((value, ty));
        Inst { result, op, site }
    })
}

fn template() -> impl Strategy<Value = Template> {
    let insts = prop::collection::vec(inst(), 0..6);
    (val(), ty(), insts, val()).prop_map(|(value, ty, insts, result)| Template {
        param: (value, ty),
        insts,
        result,
    })
}

fn scaling() -> impl Strategy<Value = RopeScaling> {
    prop_oneof![
        Just(RopeScaling::None),
        finite().prop_map(|factor| RopeScaling::Linear { factor }),
        (finite(), finite(), finite(), any::<usize>()).prop_map(
            |(factor, low_freq_factor, high_freq_factor, original_max_positions)| {
                RopeScaling::Llama3 {
                    factor,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_positions,
                }
            }
        ),
    ]
}

fn facts() -> impl Strategy<Value = ModelFacts> {
    let ids = (
        prop::option::of(any::<u32>()),
        prop::collection::vec(any::<u32>(), 0..3),
    );
    (
        any::<[usize; 8]>(),
        (
            any::<bool>(),
            prop::sample::select(AttentionBias::ALL.to_vec()),
            any::<bool>(),
            prop::sample::select(Architecture::ALL.to_vec()),
            activation(),
        ),
        finite(),
        positions(),
        ids,
    )
        .prop_map(|(sizes, flags, norm_eps, positions, (bos, eos))| {
            let [
                hidden,
                layers,
                heads,
                kv_heads,
                head_dim,
                intermediate,
                vocab,
                max_positions,
            ] = sizes;
            let (tied, attention_bias, mlp_bias, architecture, activation) = flags;
            ModelFacts {
                architecture,
                hidden,
                layers,
                heads,
                kv_heads,
                head_dim,
                intermediate,
                vocab,
                norm_eps,
                positions,
                activation,
                tied,
                attention_bias,
                mlp_bias,
                bos,
                eos,
                max_positions,
            }
        })
}

fn state() -> impl Strategy<Value = State> {
    (name(), any::<usize>(), any::<usize>()).prop_map(|(name, kv_heads, head_dim)| State {
        name,
        kv_heads,
        head_dim,
    })
}

proptest! {
    #[test]
    fn print_then_parse_is_the_identity(
        checkpoint: [u8; 32],
        model in facts(),
        states in prop::collection::vec(state(), 0..3),
        (embed, layer, final_) in (template(), template(), template()),
    ) {
        let decoder = Decoder { checkpoint: Digest(checkpoint), model, states, embed, layer, final_ };
        let text = decoder.to_string();
        prop_assert_eq!(text.parse::<Decoder>(), Ok(decoder), "{}", text);
    }

    /// A damaged text is an error or another stage, and verifying it never panics.
    #[test]
    fn any_damage_is_survived(at in 0..SMALL.len(), length in 0..40usize, insert in "[0-9%\\[\\]a-z =@]{0,6}") {
        let end = (at + length).min(SMALL.len());
        let damaged = format!("{}{insert}{}", &SMALL[..at], &SMALL[end..]);
        if let Ok(decoder) = damaged.parse::<Decoder>() {
            let _ = decoder.verify();
        }
    }

    #[test]
    fn llama3_frequencies_lie_between_the_scaled_and_the_plain(factor in 1.0..16.0f64, low in 0.5..4.0f64, wider in 0.5..4.0f64) {
        let scaling = RopeScaling::Llama3 { factor, low_freq_factor: low, high_freq_factor: low + wider, original_max_positions: 64 };
        let plain = Rope { theta: 10000.0, scaling: RopeScaling::None }.frequencies(64);
        let scaled = Rope { theta: 10000.0, scaling }.frequencies(64);
        prop_assert_eq!(scaled[0], plain[0]);
        for (scaled, plain) in scaled.iter().zip(&plain) {
            prop_assert!(*scaled >= plain / factor * (1.0 - 1e-12) && *scaled <= plain * (1.0 + 1e-12));
        }
        prop_assert!((scaled[31] / (plain[31] / factor) - 1.0).abs() < 1e-12);
    }
}
