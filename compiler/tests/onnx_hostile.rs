//! ONNX graphs that are none of ours, damaged, or contradict themselves.

mod common;

use common::graph::{Bench, bytes, graph, initializer, insert, node, places};
use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::{Message, ModelProto, StringStringEntryProto};
use proptest::prelude::*;

const OLDER: &str = "llama-gqa-20-past-sdpa-dynamic";
const NEWER: &str = "llama-gqa-23-whole-sdpa-dynamic";
const FIXED: &str = "llama-gqa-20-whole-eager-fixed";

/// GPT-2's, of the same forms, and with its GELU as one operation.
const GPT2: [&str; 4] = [
    "gpt2-20-past-sdpa-dynamic",
    "gpt2-23-whole-sdpa-dynamic",
    "gpt2-20-whole-eager-fixed",
    "gpt2-20-past-sdpa-gelu",
];

/// What is inserted, cut and damaged.
const ALL: [&str; 7] = [OLDER, NEWER, FIXED, GPT2[0], GPT2[1], GPT2[2], GPT2[3]];

#[test]
fn a_foreign_operation_is_named_wherever_it_stands() {
    let bench = Bench::new();
    for name in ALL {
        let other = match GPT2.contains(&name) {
            true => "part of a Llama decoder",
            false => "part of a GPT-2 decoder",
        };
        for at in places(name) {
            for (op, domain) in [("Relu", ""), ("Erf", ""), ("FusedThing", "com.example")] {
                let error = bench.refusal(name, |model| insert(model, at, op, domain));
                let printed = if domain.is_empty() {
                    op.into()
                } else {
                    format!("{domain}.{op}")
                };
                let place = format!("node `the_foreign_one` ({printed}, {} of ", at + 2);
                assert!(
                    error.contains(&place) && error.contains("expected here: "),
                    "{name} behind {at}: {error}"
                );
                assert!(!error.contains(other), "{name} behind {at}: {error}");
            }
        }
    }
}

#[test]
fn a_known_operation_where_it_does_not_belong_is_refused() {
    let bench = Bench::new();
    let float = [
        "MatMul",
        "Add",
        "Mul",
        "Gather",
        "Gemm",
        "RMSNormalization",
        "LayerNormalization",
        "Pow",
        "Tanh",
        "Gelu",
        "Softmax",
        "Attention",
    ];
    for name in ALL {
        let nodes = graph(name).graph.unwrap().node;
        // What comes before the first norm of GPT-2's shorter graphs is shapes, positions and masks.
        let first = nodes
            .iter()
            .position(|node| node.op_type == "LayerNormalization");
        let first = first.unwrap_or(41);
        let made_late = |at: &usize| *at >= first && float.contains(&nodes[*at].op_type.as_str());
        for at in places(name).into_iter().filter(made_late) {
            for op in ["Sigmoid", "Neg", "Softmax", "Sqrt", "Reciprocal", "Tanh"] {
                let mut model = graph(name);
                insert(&mut model, at, op, "");
                let imported = bench.import(&model.write_to_bytes().unwrap());
                assert!(imported.is_err(), "{name}: {op} behind {}", nodes[at].name);
            }
        }
    }
}

#[test]
fn blocks_put_together_otherwise_are_refused_at_their_node() {
    let bench = Bench::new();
    let swap = |model: &mut ModelProto, name: &str, operand: usize, value: &str| {
        node(model, name).input[operand] = value.into();
    };
    let rotated = node(&mut graph(OLDER), "node_cat_7").input[1].clone();
    // The gate of the stream without its norm; a skipped residual; rotated keys for values; earlier keys for earlier values;
    // another layer's earlier values.
    for (name, change, at, expected) in [
        (
            "node_linear_4",
            ("node_linear_4", 0, "add_7"),
            "node_mul_73",
            "gate and up projections of one norm",
        ),
        (
            "node_add_9",
            ("node_add_9", 0, "embedding"),
            "node_add_9",
            "attention",
        ),
        (
            "node_cat_8",
            ("node_cat_8", 1, rotated.as_str()),
            "node_scaled_dot_product_attention",
            "the value projection",
        ),
        (
            "node_cat_8",
            ("node_cat_8", 0, "past_key_values.0.key"),
            "node_scaled_dot_product_attention",
            "in inputs of their own",
        ),
        (
            "node_cat_12",
            ("node_cat_12", 0, "past_key_values.0.value"),
            "node_scaled_dot_product_attention",
            "in inputs of their own",
        ),
    ] {
        let error = bench.refusal(OLDER, |model| swap(model, change.0, change.1, change.2));
        assert!(
            error.contains(at) && error.contains("expected here: ") && error.contains(expected),
            "{name}: {error}"
        );
    }
    let error = bench.refusal(NEWER, |model| {
        let nodes = &mut model.graph.as_mut().unwrap().node;
        let mut norms = nodes.iter_mut().filter(|n| n.op_type == "RMSNormalization");
        let node = norms.next().unwrap();
        let epsilon = node.attribute.iter_mut().find(|a| a.name == "epsilon");
        epsilon.unwrap().f = 1e-3;
    });
    assert!(error.contains("the same eps in every RMSNorm"), "{error}");
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let bench = Bench::new();
    let weight = weight_of("node_linear_4");
    let error = bench.refusal(OLDER, |model| {
        let tensors = &mut model.graph.as_mut().unwrap().initializer;
        tensors.retain(|tensor| tensor.name != weight);
    });
    assert!(
        error.contains("node_linear_4") && error.contains(&format!("`{weight}` is not defined")),
        "{error}"
    );
    // A matrix of the other orientation, and one that is too short for its shape.
    let error = bench.refusal(OLDER, |model| initializer(model, &weight).dims.reverse());
    assert!(
        error.contains("node_linear_4") && error.contains("[176, 64]"),
        "{error}"
    );
    let error = bench.refusal(OLDER, |model| initializer(model, &weight).dims[0] = 63);
    assert!(error.contains("its shape needs 44352"), "{error}");
    let error = bench.refusal(OLDER, |model| {
        initializer(model, &weight).dims[0] = i64::MAX
    });
    assert!(error.contains("impossible shape"), "{error}");
    let error = bench.refusal(OLDER, |model| initializer(model, &weight).dims[0] = -1);
    assert!(error.contains("impossible shape"), "{error}");
    let error = bench.refusal(OLDER, |model| initializer(model, &weight).data_type = 3);
    assert!(error.contains("ONNX format 3"), "{error}");
}

/// The matrix that a node multiplies by.
fn weight_of(name: &str) -> String {
    node(&mut graph(OLDER), name).input[1].clone()
}

#[test]
fn weights_that_no_f32_is_are_not_written() {
    let bench = Bench::new();
    let mut model = graph(OLDER);
    let norm = initializer(&mut model, "model.model.norm.weight");
    assert!(!norm.raw_data.is_empty());
    norm.raw_data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let import = bench.import(&model.write_to_bytes().unwrap()).unwrap();
    let out = bench.dir.path().join("out");
    let error = import.write(&out, None).unwrap_err().to_string();
    assert!(
        error.contains("model.norm.weight") && error.contains("no f32"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn data_files_are_read_beside_the_graph_only() {
    let bench = Bench::new();
    let weight = weight_of("node_linear_4");
    let place = |model: &mut ModelProto, key: &str, value: &str| {
        let entries = &mut initializer(model, &weight).external_data;
        entries.iter_mut().find(|e| e.key == key).unwrap().value = value.into();
    };
    for (key, value, message) in [
        ("location", "/etc/passwd", "is no file name"),
        ("location", "../llama-gqa.weights", "is no file name"),
        ("location", "", "is no file name"),
        ("location", "other.weights", "other.weights"),
        ("offset", "500000", "which has only 522240 bytes"),
        ("offset", "18446744073709551615", "which has only"),
        ("offset", "first", "which is no number"),
        ("length", "7", "has 7 bytes"),
    ] {
        let error = bench.refusal(OLDER, |model| place(model, key, value));
        assert!(
            error.contains(message) && error.contains(&format!("`{weight}`")),
            "{key} = {value}: {error}"
        );
    }
    let error = bench.refusal(OLDER, |model| {
        let tensor = initializer(model, "model.model.norm.weight");
        tensor.raw_data.clear();
        tensor.data_location = DataLocation::EXTERNAL.into();
        tensor.external_data = vec![StringStringEntryProto {
            key: "location".into(),
            value: "graph.onnx/..".into(),
            ..Default::default()
        }];
    });
    assert!(error.contains("is no file name"), "{error}");
    std::fs::remove_file(bench.dir.path().join("llama-gqa.weights")).unwrap();
    let error = bench.refusal(OLDER, |_| ());
    assert!(
        error.contains("keep the data file beside the model"),
        "{error}"
    );
}

#[test]
fn graphs_of_other_kinds_are_refused_as_a_whole() {
    let bench = Bench::new();
    let error = bench.refusal(OLDER, |model| model.opset_import[0].version = 11);
    assert!(
        error.contains("opset 11") && error.contains("20 or 23"),
        "{error}"
    );
    let error = bench.refusal(OLDER, |model| model.graph = None.into());
    assert!(error.contains("there is no graph"), "{error}");
    let error = bench.refusal(OLDER, |model| model.graph.as_mut().unwrap().output.clear());
    assert!(error.contains("no outputs"), "{error}");
    let error = bench.refusal(OLDER, |model| {
        model.graph.as_mut().unwrap().input[0].name = "position".into();
    });
    assert!(error.contains("no input holds token ids"), "{error}");
    let error = bench.refusal(OLDER, |model| model.graph.as_mut().unwrap().node.clear());
    assert!(error.contains("does not hold the logits"), "{error}");
    let error = bench.refusal(OLDER, |model| {
        // Logits are no logits if they are some layer's keys.
        model.graph.as_mut().unwrap().output.swap_remove(0);
    });
    assert!(error.contains("does not hold the logits"), "{error}");
    let error = bench.refusal(OLDER, |model| {
        let nodes = &mut model.graph.as_mut().unwrap().node;
        nodes.reverse();
    });
    assert!(error.contains("is not defined before it"), "{error}");
}

#[test]
fn a_truncated_file_is_an_error_wherever_it_ends() {
    let bench = Bench::new();
    for name in [NEWER, GPT2[1]] {
        let whole = bytes(name);
        for length in (0..whole.len()).step_by(13) {
            let cut = bench.import(&whole[..length]);
            assert!(cut.is_err(), "{length} bytes of {name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1200) })]

    /// Damage gives an error, or a model that holds together: never a panic.
    #[test]
    fn damage_never_panics(
        name in prop::sample::select(ALL.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let bench = Bench::new();
        let mut bytes = bytes(name);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(import) = bench.import(&bytes) {
            prop_assert!(!import.sites().is_empty());
        }
    }

    /// Whole numbers that shapes, axes and slices are made with, replaced by any.
    #[test]
    fn shapes_gone_wrong_never_panic(
        name in prop::sample::select(ALL.to_vec()),
        which in any::<prop::sample::Index>(),
        entry in any::<prop::sample::Index>(),
        value in prop_oneof![any::<i64>(), -9i64..9, Just(i64::MIN), Just(i64::MAX)],
    ) {
        let bench = Bench::new();
        let mut model = graph(name);
        let tensors = &mut model.graph.as_mut().unwrap().initializer;
        let mut whole: Vec<_> = tensors
            .iter_mut()
            .filter(|tensor| tensor.data_type == 7 && tensor.raw_data.len() >= 8)
            .collect();
        let place = which.index(whole.len());
        let raw = &mut whole[place].raw_data;
        let entry = entry.index(raw.len() / 8) * 8;
        raw[entry..entry + 8].copy_from_slice(&value.to_le_bytes());
        if let Ok(import) = bench.import(&model.write_to_bytes().unwrap()) {
            prop_assert!(!import.sites().is_empty());
        }
    }
}
