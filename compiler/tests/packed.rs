//! The packed stage against goldens made by the transformers library: every fixture, on rings large and small.

use sotto_compiler::cost;
use sotto_compiler::frontend::{Checkpoint, Preset, SiteProfile};
use sotto_compiler::lower::{Choices, Options, Ranges, Way, lower};
use sotto_compiler::pack::{CheckpointData, input, output, recalibrate};
use sotto_compiler::search::{Form, Found, Guidance, Pin, choose};
use sotto_ir::fidelity::{Fidelity, largest};
use sotto_ir::golden;
use sotto_ir::plan::{Placement, Weights};
use sotto_ir::slot::{Interpreter, Packed, Program, Session};
use std::path::PathBuf;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

/// Largest logit error of the packed program over the golden's steps, in standard deviations of the golden's logits.
fn error(name: &str, options: &Options, choices: &Choices) -> f64 {
    let dir = fixture(name);
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let decoder = checkpoint.decoder().unwrap();
    let sequences = golden::read_ids(&dir.join("calibration.safetensors")).unwrap();
    let ranges = Ranges::calibrate(&decoder, &checkpoint, &sequences, &mut |_| ()).unwrap();
    let mut program = lower(&decoder, &ranges, options, choices).unwrap().program;
    program.verify().unwrap();
    let decls = program.data.clone();
    let data = CheckpointData::new(&decls, &checkpoint, &decoder.model.positions);
    let vector = |program: &_, token: u32, at: usize| {
        input(program, &decoder, &checkpoint, (&[token], at)).unwrap()
    };
    let inputs: Vec<Vec<_>> = sequences
        .iter()
        .map(|ids| {
            let steps = ids.iter().enumerate();
            steps
                .map(|(at, &token)| (vector(&program, token, at), 1))
                .collect()
        })
        .collect();
    recalibrate(&mut program, &data, &inputs, options.margin, |_, _, _| ()).unwrap();
    program.verify().unwrap();
    assert_eq!(
        program.to_string().parse::<Program<Packed>>().unwrap(),
        program
    );

    let golden = golden::Golden::read(&dir.join("golden.safetensors")).unwrap();
    let mut session = Session::default();
    let interpreter = Interpreter::new(&program, &data);
    let mut worst = 0.0f64;
    for (t, &token) in golden.input_ids.iter().enumerate() {
        let x = vector(&program, token, t);
        let out = interpreter
            .decode(&mut session, vec![x], &mut |_| ())
            .unwrap();
        let logits = output(&program, &out);
        let step = Fidelity::of(&logits, golden.logits.row(t)).unwrap();
        worst = largest([worst, step.error_sigma]);
    }
    println!("{name}: {worst:.5} σ");
    worst
}

const FIXTURES: [&str; 4] = ["llama-gqa", "llama-tied-sharded", "llama-variants", "gpt2"];

fn pairs() -> Choices {
    let site = |name: &str| format!("layers.{{i}}.{name}");
    let pair = |a, b| (site(a), site(b));
    Choices {
        pairs: vec![
            pair("attention.k_proj", "attention.v_proj"),
            pair("mlp.gate_proj", "mlp.up_proj"),
        ],
        ..Choices::default()
    }
}

const LINEARS: [&str; 6] = [
    "attention.q_proj",
    "attention.k_proj",
    "attention.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Choices with the ways of some sites of the layers changed.
fn ways(mut choices: Choices, names: &[&str], change: impl Fn(&mut Way)) -> Choices {
    for name in names {
        let way = choices
            .ways
            .entry(format!("layers.{{i}}.{name}"))
            .or_default();
        change(way);
    }
    choices
}

/// What the search chooses for a fixture.
fn chosen(name: &str, options: &Options) -> Found {
    let dir = fixture(name);
    let checkpoint = Checkpoint::open(&dir).unwrap();
    let decoder = checkpoint.decoder().unwrap();
    let sequences = golden::read_ids(&dir.join("calibration.safetensors")).unwrap();
    let ranges = Ranges::calibrate(&decoder, &checkpoint, &sequences, &mut |_| ()).unwrap();
    let found = choose(
        &decoder,
        &ranges,
        options,
        &Guidance::default(),
        &cost::committed().unwrap(),
    )
    .unwrap();
    assert!(found.note.saturated && found.exact, "{name}: {found:?}");
    assert_eq!(
        found,
        choose(
            &decoder,
            &ranges,
            options,
            &Guidance::default(),
            &cost::committed().unwrap()
        )
        .unwrap()
    );
    found
}

#[test]
fn fixtures_stay_far_below_two_percent_of_sigma() {
    for name in FIXTURES {
        let options = Options::new(32768, 24);
        let found = chosen(name, &options);
        println!("{found:#?}");
        let worst = error(name, &options, &found.choices);
        assert!(worst < 0.003, "{name}: {worst} σ");
    }
}

#[test]
fn several_groups_give_the_same_answer_as_one() {
    for name in FIXTURES {
        for tokens in [1, 4, 8] {
            let choices = Choices {
                tokens: Some(tokens),
                ..pairs()
            };
            let worst = error(name, &Options::new(512, 24), &choices);
            assert!(worst < 0.003, "{name}, {tokens} tokens a group: {worst} σ");
        }
    }
}

#[test]
fn every_choice_computes_the_same_model() {
    for name in ["llama-gqa", "gpt2"] {
        every_choice_of(name);
    }
}

fn every_choice_of(name: &str) {
    let norms = [
        "layers.{i}.attention_norm",
        "layers.{i}.mlp_norm",
        "final_norm",
    ];
    let variants = [
        Choices::default(),
        Choices {
            squarings: 2,
            ..pairs()
        },
        Choices {
            scaled_norms: norms.map(String::from).into(),
            ..pairs()
        },
        ways(pairs(), &["mlp.down_proj"], |way| way.baby = Some(2)),
        // spread vectors, with and without pairs; their tokens inside or outside the features
        ways(pairs(), &["mlp.gate_proj", "mlp.up_proj"], |way| {
            way.stride = 4;
        }),
        ways(
            Choices::default(),
            &["mlp.gate_proj", "mlp.up_proj"],
            |way| {
                way.stride = 8;
            },
        ),
        // all tokens inside the features, few, and some inside and some outside
        Choices {
            inner: u32::MAX,
            ..pairs()
        },
        Choices {
            inner: 4,
            tokens: Some(4),
            ..Choices::default()
        },
        Choices {
            inner: 4,
            ..pairs()
        },
        Choices {
            inner: 2,
            tokens: Some(4),
            ..pairs()
        },
        // halves of the diagonals as one complex matrix, of every kind of product
        ways(
            Choices {
                inner: 8,
                ..pairs()
            },
            &LINEARS,
            |way| (way.inputs, way.stride) = (true, 2),
        ),
        ways(Choices::default(), &LINEARS, |way| way.inputs = true),
    ];
    for choices in variants {
        let worst = error(name, &Options::new(2048, 24), &choices);
        assert!(worst < 0.003, "{name}, {choices:?}: {worst} σ");
    }
}

#[test]
fn the_server_can_hold_the_embedding_and_the_client_the_head() {
    let mut options = Options::new(2048, 24);
    options.embedding = Placement::Server;
    for name in ["llama-tied-sharded", "gpt2"] {
        let worst = error(name, &options, &pairs());
        assert!(worst < 0.003, "{name}: {worst} σ");
    }
}

/// Every alternative of the search, by itself or with what it needs.
const PINS: [&[&str]; 17] = [
    &[],
    &["layers.{i}.mlp.silu=window"],
    &["layers.{i}.mlp.silu=about-zero"],
    &[
        "layers.{i}.mlp.up_proj=alone",
        "layers.{i}.attention.k_proj=alone",
    ],
    &["layers.{i}.mlp.up_proj=with:layers.{i}.mlp.gate_proj"],
    &["layers.{i}.attention.k_proj=with:layers.{i}.attention.v_proj"],
    &[
        "layers.{i}.attention.o_proj=real",
        "layers.{i}.mlp.down_proj=real",
    ],
    &[
        "layers.{i}.attention.o_proj=inputs",
        "layers.{i}.attention.q_proj=inputs",
    ],
    &[
        "layers.{i}.attention.k_proj=copies",
        "layers.{i}.attention.v_proj=copies",
    ],
    &["layers.{i}.mlp.up_proj=spread:4"],
    &["layers.{i}.mlp.down_proj=tiled"],
    &["layers.{i}.attention.attend=inside:8"],
    &["layers.{i}.attention.attend=outside:4"],
    &["layers.{i}.attention.attend=diagonals:4"],
    &[
        "layers.{i}.attention.attend=diagonals:2",
        "layers.{i}.attention.attend=stored-once",
    ],
    &[
        "layers.{i}.attention.attend=squarings:2",
        "final_norm=exact",
    ],
    &[
        "layers.{i}.attention_norm=additions",
        "layers.{i}.mlp.down_proj=baby:4",
    ],
];

/// An activation's form by the reach of its argument to both sides.
#[test]
fn an_activation_has_its_own_window_where_that_lies_aside() {
    let mut preset = Preset::of("tinyllama-1.1b", Some(1), Weights::Synthetic(1)).unwrap();
    let table = cost::committed().unwrap();
    for (min, max, form) in [
        (-11.0, 11.0, "half its argument"),
        (-24.0, 1.0, "over its own window"),
    ] {
        let gate = |site: &&mut SiteProfile| site.site == "silu_in";
        let site = preset.profile.layers[0].iter_mut().find(gate).unwrap();
        (site.min, site.max) = (min, max);
        let ranges = Ranges::assumed(&preset.decoder, &preset.profile).unwrap();
        let options = Options::new(32768, 32);
        let guidance = Guidance::default();
        let found = choose(&preset.decoder, &ranges, &options, &guidance, &table).unwrap();
        let silu = found.decisions.iter().find(|d| d.site.contains("silu"));
        let chosen = &silu.unwrap().chosen;
        assert!(chosen.contains(form), "{min} to {max}: {chosen}");
    }
}

#[test]
fn every_alternative_can_be_pinned_and_computes_the_same_model() {
    let options = Options::new(2048, 24);
    let table = cost::committed().unwrap();
    for name in FIXTURES {
        let dir = fixture(name);
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let decoder = checkpoint.decoder().unwrap();
        let sequences = golden::read_ids(&dir.join("calibration.safetensors")).unwrap();
        let ranges = Ranges::calibrate(&decoder, &checkpoint, &sequences, &mut |_| ()).unwrap();
        // what is gated has a partner
        let gated = |pin: &&str| pin.contains("gate_proj");
        let gateless = name == "gpt2";
        for pins in PINS {
            let once = |pin: &&str| pin.contains("stored-once");
            let alone = decoder.model.heads == decoder.model.kv_heads;
            if gateless && pins.iter().any(gated) || alone && pins.iter().any(once) {
                continue;
            }
            // its activation has another name
            let named = |pin: &&str| match gateless {
                true => pin.replace("mlp.silu", "mlp.gelu"),
                false => pin.to_string(),
            };
            let pins = pins.iter().map(|pin| named(pin).parse().unwrap());
            let pins: Vec<Pin> = pins.collect();
            let guidance = Guidance {
                pins,
                ..Guidance::default()
            };
            let pins = &guidance.pins;
            let found = choose(&decoder, &ranges, &options, &guidance, &table).unwrap();
            for pin in pins {
                let mut decisions = found.decisions.iter();
                let mut said = |words: &str| {
                    decisions.any(|d| d.site.contains(&pin.site) && d.chosen.contains(words))
                };
                let ever = |words: &str| {
                    let mut here = found
                        .decisions
                        .iter()
                        .filter(|d| d.site.contains(&pin.site));
                    here.any(|d| d.chosen.contains(words))
                };
                let honoured = match &pin.form {
                    Form::Spread(n) => said(&format!("spread {n} slots")),
                    Form::Inside(n) => said(&format!("{n} inside")) || said(", inside the"),
                    Form::Diagonals(n) => {
                        said(&format!("in diagonals, {n} tokens inside each head"))
                    }
                    Form::Outside(n) => said(&format!("groups of {n} tokens, outside")),
                    Form::StoredOnce => said("stored once for"),
                    Form::StoredCopies => !ever("stored once for"),
                    Form::Squarings(n) => said(&format!("by {n} squarings")),
                    Form::Inputs => said("two diagonals in one"),
                    Form::With(_) => said("one complex product"),
                    Form::Exact => said("exact window"),
                    Form::Additions => said("additions"),
                    Form::Window => said("over its own window"),
                    Form::AboutZero => said("half its argument"),
                    Form::Baby(n) => said(&format!("{n} baby steps")),
                    Form::Once => said("once per KV head"),
                    Form::Copies => !ever("once per KV head"),
                    Form::Alone => !ever("one complex product"),
                    Form::Real => !ever("two diagonals"),
                    Form::Tiled => !ever("gathered") && !ever("spread"),
                    Form::Gather(n) => said(&format!("gathered from {n} slots")),
                };
                assert!(honoured, "{name}: {pin:?} in {:#?}", found.decisions);
            }
            let worst = error(name, &options, &found.choices);
            assert!(worst < 0.003, "{name}, {pins:?}: {worst} σ");
        }
        for wrong in [
            "nowhere=tiled",
            "layers.{i}.mlp.up_proj=spread:1024",
            "layers.{i}.mlp.up_proj=exact",
            "layers.{i}.attention_norm=spread:4",
            "layers.{i}.mlp.silu=baby:4",
        ] {
            let guidance = Guidance {
                pins: vec![wrong.parse().unwrap()],
                ..Guidance::default()
            };
            let refused = choose(&decoder, &ranges, &options, &guidance, &table);
            assert!(refused.is_err(), "{wrong}");
        }
    }
}
