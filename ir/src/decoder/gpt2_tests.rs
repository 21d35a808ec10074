//! What GPT-2 adds to the stage: learned positions, LayerNorm, GELU.

use super::*;

/// A one-head, one-layer model, as text.
const SMALL: &str = r#"
decoder 2
checkpoint "blake3:0000000000000000000000000000000000000000000000000000000000000000"
model {
  architecture = gpt2
  hidden = 2
  layers = 1
  heads = 1
  kv_heads = 1
  head_dim = 2
  intermediate = 2
  vocab = 3
  norm_eps = 0.5
  positions = learned
  activation = gelu_tanh
  tied = true
  attention_bias = true
  mlp_bias = true
  bos = none
  eos = []
  max_positions = 2
}
state "kv", kv_heads=1, head_dim=2

template embed(%0: token) -> %3 {
  %1 = embed %0, weight="table" : [2]  @embed
  %2 = position %0, weight="places" : [2]  @embed.position
  %3 = add %1, %2 : [2]  @embed.sum
}

template layer(%0: [2]) -> %4 {
  %1 = layernorm %0, weight="{i}.norm", bias="{i}.norm.bias", eps=0.5 : [2]  @{i}.norm
  kv_append %1, %1, state="kv"  @{i}.append
  %2 = attend %1, state="kv", heads=1, scale=1.0 : [2]  @{i}.attend
  %3 = gelu_tanh %2 : [2]  @{i}.gelu
  %4 = add %0, %3 : [2]  @{i}.add
}

template final(%0: [2]) -> %1 {
  %1 = linear %0, weight="table" : [3]  @head
}
"#;

fn weights() -> Tensors {
    let tensor = |shape: &[usize], data: &[f32]| Tensor {
        shape: shape.into(),
        data: data.into(),
    };
    let named = [
        ("table", tensor(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 5.0, -1.0])),
        ("places", tensor(&[2, 2], &[0.5, 0.25, -2.0, 4.0])),
        ("0.norm", tensor(&[2], &[2.0, -3.0])),
        ("0.norm.bias", tensor(&[2], &[0.125, 0.75])),
    ];
    let named = named.map(|(name, tensor)| (name.to_string(), tensor.into()));
    Tensors(named.into())
}

#[test]
fn the_text_form_prints_what_it_parses() {
    let decoder: Decoder = SMALL.parse().unwrap();
    decoder.verify().unwrap();
    assert_eq!(decoder.to_string().parse(), Ok(decoder.clone()));
    let names: Vec<_> = decoder.tensors();
    assert!(names.contains(&("places".into(), vec![2, 2])));
    assert!(names.contains(&("0.norm.bias".into(), vec![2])));
}

/// Two tokens by hand: the second has another position's row, and its keys' softmax.
#[test]
fn steps_are_what_the_definitions_say() {
    let decoder: Decoder = SMALL.parse().unwrap();
    let weights = weights();
    let interpreter = Interpreter::new(&decoder, &weights).unwrap();
    let mut cache = KvCache::new(&decoder);
    let mut seen = Vec::new();
    let pass = interpreter.pass(&mut cache, &[2, 1], &mut |o| {
        seen.push((o.name(), o.position, o.values.to_vec()));
    });
    let pass = pass.unwrap();
    let streams = [[5.5, -0.75], [-2.0, 5.0]];
    let norm = |[x, y]: [f64; 2]| {
        let half = (x - y) / 2.0;
        let scaled = half / (half * half + 0.5).sqrt();
        [2.0 * scaled + 0.125, 3.0 * scaled + 0.75]
    };
    let keys = streams.map(norm);
    let gelu = |x: f64| {
        let inner = 0.7978845608028654 * (x + 0.044715 * x.powi(3));
        0.5 * x * (1.0 + inner.tanh())
    };
    let score = |p: usize| keys[1][0] * keys[p][0] + keys[1][1] * keys[p][1];
    let weight = 1.0 / (1.0 + (score(1) - score(0)).exp());
    let mixed = [0, 1].map(|f| weight * keys[0][f] + (1.0 - weight) * keys[1][f]);
    let out = [0, 1].map(|f| streams[1][f] + gelu(mixed[f]));
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12);
    assert!(close(pass.hidden[0].row(0), &streams[0]));
    assert!(close(pass.hidden[0].row(1), &streams[1]));
    assert!(close(cache.keys(0).row(1), &keys[1]));
    assert!(close(pass.hidden[1].row(1), &out), "{pass:?}");
    let input = seen.iter().find(|(n, p, _)| n == "0.norm.input" && *p == 1);
    assert!(close(&input.unwrap().2, &[-3.5, 3.5]));
    let square = seen
        .iter()
        .find(|(n, p, _)| n == "0.norm.mean_square" && *p == 1);
    assert!(close(&square.unwrap().2, &[12.25]));
}

#[test]
fn both_gelus_have_their_known_values() {
    // Φ(1) = 0.841344746068543
    assert!((Activation::Gelu.value(1.0) - 0.841344746068543).abs() < 1e-15);
    assert!((Activation::GeluTanh.value(1.0) - 0.8411919906082768).abs() < 1e-14);
    for x in [-6.0, -1.5, 0.0, 0.3, 9.0] {
        let [tanh, erf] = [Activation::GeluTanh, Activation::Gelu].map(|f| f.value(x));
        assert!((tanh - erf).abs() < 1e-3, "{x}: {tanh} {erf}");
        assert!((Activation::Gelu.value(-x) - (erf - x)).abs() < 1e-14);
    }
}

#[test]
fn the_verifier_names_each_violation() {
    for (from, to, message) in [
        (
            "positions = learned",
            "positions = rope, theta=100.0",
            "the model's positions are rotary",
        ),
        (
            "gelu_tanh %2 :",
            "rope %2, head_dim=2 :",
            "the model's positions are learned",
        ),
        (
            "position %0",
            "position %1",
            "the operand is a [2], not a token",
        ),
        ("eps=0.5 :", "eps=-0.5 :", "eps = -0.5 is not a number"),
        (
            "bias=\"{i}.norm.bias\"",
            "bias=\"norm.bias\"",
            "`norm.bias` does not name its layer",
        ),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let decoder: Decoder = SMALL.replacen(from, to, 1).parse().unwrap();
        let report = decoder.verify().unwrap_err().to_string();
        assert!(report.contains(message), "{from} → {to}: {report}");
    }
    let error = SMALL
        .replacen("gelu_tanh %2", "relu %2", 1)
        .parse::<Decoder>()
        .unwrap_err()
        .to_string();
    assert!(error.contains("expected an operation") && error.contains("`relu`"));
}
