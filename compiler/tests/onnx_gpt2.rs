//! GPT-2's ONNX graphs in other spellings, and put together otherwise.

mod common;

use common::graph::{Bench, bytes, graph, initializer, node};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, Message, ModelProto, NodeProto, TensorProto};
use sotto_compiler::frontend::onnx::Import;
use sotto_ir::decoder::{Decoder, WeightSource};

const PAST: &str = "gpt2-20-past-sdpa-dynamic";
const WHOLE: &str = "gpt2-20-whole-sdpa-dynamic";
/// With its GELU, the exact one, as one operation.
const GELU: &str = "gpt2-20-past-sdpa-gelu";

fn made(op: &str, name: &str, inputs: &[&str]) -> NodeProto {
    NodeProto {
        name: format!("node_{name}"),
        op_type: op.into(),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![name.into()],
        ..Default::default()
    }
}

fn float(name: &str, value: f32) -> TensorProto {
    TensorProto {
        name: name.into(),
        data_type: 1,
        raw_data: value.to_le_bytes().to_vec(),
        ..Default::default()
    }
}

/// Puts others in the place of every node of an operation; the last of them makes what it made.
fn replace(model: &mut ModelProto, op: &str, others: impl Fn(usize, &NodeProto) -> Vec<NodeProto>) {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    for at in (0..nodes.len()).rev() {
        if nodes[at].op_type == op {
            let mut others = others(at, &nodes[at]);
            others.last_mut().unwrap().output = nodes[at].output.clone();
            nodes.splice(at..=at, others);
        }
    }
}

/// The decoder, with a digest of all its weights.
fn decoder(bench: &Bench, model: &ModelProto) -> Decoder {
    let import = bench.import(&model.write_to_bytes().unwrap());
    let import: Import = import.unwrap_or_else(|error| panic!("{error}"));
    import.decoder().unwrap()
}

/// Sees that a changed graph is the model that it was.
fn same(name: &str, change: impl FnOnce(&mut ModelProto)) {
    let bench = Bench::new();
    let mut model = graph(name);
    let before = decoder(&bench, &model);
    change(&mut model);
    assert_eq!(decoder(&bench, &model), before);
}

#[test]
fn a_projection_may_be_two_operations() {
    same(PAST, |model| {
        replace(model, "Gemm", |at, gemm| {
            let product = format!("product_{at}");
            vec![
                made("MatMul", &product, &[&gemm.input[0], &gemm.input[1]]),
                made("Add", "sum", &[&gemm.input[2], &product]),
            ]
        });
    });
}

#[test]
fn positions_may_be_a_slice_of_their_table() {
    same(WHOLE, |model| {
        let gather = node(model, "node_embedding_1");
        let table = gather.input[0].clone();
        gather.op_type = "Slice".into();
        gather.attribute.clear();
        gather.input = [table.as_str(), "val_13", "val_0", "val_13"]
            .map(String::from)
            .to_vec();
    });
}

/// Puts an operation between a node and whoever reads its result.
fn behind(model: &mut ModelProto, name: &str, op: &str, inputs: &[&str]) -> usize {
    let value = node(model, name).output[0].clone();
    reread(model, &value, "moved");
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let at = nodes.iter().position(|node| node.name == name).unwrap() + 1;
    let inputs = [&[value.as_str()], inputs].concat();
    nodes.insert(at, made(op, "moved", &inputs));
    at
}

#[test]
fn positions_are_added_token_by_token() {
    same(WHOLE, |model| {
        behind(model, "node_embedding", "Squeeze", &["val_13"]);
    });
    same(WHOLE, |model| {
        behind(model, "node_embedding_1", "Squeeze", &["val_13"]);
    });
    // Every position to every token, and every token's branch to every token's stream.
    for (name, sum, expected) in [
        (
            "node_embedding_1",
            "node_add_1",
            "those of the tokens' positions",
        ),
        ("node_add_9", "node_add_10", ""),
    ] {
        refused(WHOLE, sum, expected, |model| {
            let at = behind(model, name, "Transpose", &[]);
            let perm = AttributeProto {
                name: "perm".into(),
                type_: AttributeType::INTS.into(),
                ints: vec![1, 0, 2],
                ..Default::default()
            };
            model.graph.as_mut().unwrap().node[at].attribute.push(perm);
        });
    }
}

#[test]
fn the_gelu_with_tanh_may_be_one_operation_or_others() {
    same(PAST, |model| {
        let approximate = AttributeProto {
            name: "approximate".into(),
            type_: AttributeType::STRING.into(),
            s: b"tanh".to_vec(),
            ..Default::default()
        };
        for (product, x) in [("node_mul_15", "view_11"), ("node_mul_31", "view_24")] {
            let node = node(model, product);
            node.op_type = "Gelu".into();
            node.input = vec![x.into()];
            node.attribute.push(approximate.clone());
        }
    });
    same(PAST, |model| {
        replace(model, "Pow", |at, power| {
            let (x, square) = (power.input[0].clone(), format!("square_{at}"));
            vec![
                made("Mul", &square, &[&x, &x]),
                made("Mul", "cube", &[&square, &x]),
            ]
        });
    });
    // Halved at the end, not at the beginning.
    same(PAST, |model| {
        for (product, x) in [("node_mul_15", "view_11"), ("node_mul_31", "view_24")] {
            node(model, product).input[0] = x.into();
        }
        let halves = ["mul_15", "mul_31"];
        let nodes = &mut model.graph.as_mut().unwrap().node;
        for half in halves {
            let at = nodes.iter().position(|node| node.output[0] == half);
            let at = at.unwrap();
            let twice = format!("twice_{half}");
            nodes[at].output[0] = twice.clone();
            nodes.insert(at + 1, made("Mul", half, &["val_118", &twice]));
        }
    });
}

#[test]
fn the_exact_gelu_may_be_made_with_erf() {
    same(GELU, |model| {
        let tensors = &mut model.graph.as_mut().unwrap().initializer;
        tensors.push(float("root", std::f32::consts::SQRT_2));
        tensors.push(float("half", 0.5));
        tensors.push(float("whole", 1.0));
        replace(model, "Gelu", |at, gelu| {
            let name = |step: &str| format!("{step}_{at}");
            let x = gelu.input[0].as_str();
            vec![
                made("Div", &name("scaled"), &[x, "root"]),
                made("Erf", &name("erf"), &[&name("scaled")]),
                made("Add", &name("share"), &["whole", &name("erf")]),
                made("Mul", &name("product"), &[x, &name("share")]),
                made("Mul", &name("gelu"), &[&name("product"), "half"]),
            ]
        });
    });
}

#[test]
fn an_untied_head_is_a_tensor_of_its_own() {
    let bench = Bench::new();
    let mut model = graph(PAST);
    let numbers = (0..300 * 48u32).map(|i| i as f32 / 7.0);
    let head = TensorProto {
        name: "head".into(),
        dims: vec![300, 48],
        data_type: 1,
        raw_data: numbers.clone().flat_map(f32::to_le_bytes).collect(),
        ..Default::default()
    };
    model.graph.as_mut().unwrap().initializer.push(head);
    let nodes = &mut model.graph.as_mut().unwrap().node;
    let transposed = nodes
        .iter_mut()
        .rfind(|node| node.op_type == "Transpose" && node.input[0] == "model.lm_head.weight");
    transposed.unwrap().input[0] = "head".into();
    let import = bench.import(&model.write_to_bytes().unwrap()).unwrap();
    assert!(!import.facts().tied);
    let read = import.tensor("lm_head.weight").unwrap();
    assert_eq!(read.data, numbers.collect::<Vec<_>>());
}

#[test]
fn a_bias_that_is_left_out_is_zeros() {
    let bench = Bench::new();
    let mut model = graph(PAST);
    for name in ["node_layer_norm", "node_addmm_1", "node_addmm_4"] {
        node(&mut model, name).input.pop();
    }
    let import = bench.import(&model.write_to_bytes().unwrap()).unwrap();
    for (name, width) in [
        ("transformer.h.0.ln_1.bias", 48),
        ("transformer.h.0.attn.c_proj.bias", 48),
        ("transformer.h.1.attn.c_attn.bias[v]", 48),
    ] {
        assert_eq!(
            import.tensor(name).unwrap().data,
            vec![0.0; width],
            "{name}"
        );
    }
    let sites = import.sites();
    let norm = sites.iter().find(|s| s.site == "layers.0.attention_norm");
    assert_eq!(
        norm.unwrap().tensors[1].initializer,
        "not in the graph: zeros"
    );
}

/// Sees that a changed graph is refused at a node, with what was expected there.
fn refused(name: &str, at: &str, expected: &str, change: impl FnOnce(&mut ModelProto)) {
    let error = Bench::new().refusal(name, change);
    let (place, remedy) = error.split_once("; expected here: ").unwrap();
    assert!(place.contains(&format!("node `{at}`")), "{error}");
    assert!(remedy.contains(expected), "{error}");
}

/// Lets whoever reads a value read another.
fn reread(model: &mut ModelProto, value: &str, other: &str) {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    for input in nodes.iter_mut().flat_map(|node| &mut node.input) {
        if input == value {
            *input = other.into();
        }
    }
}

#[test]
fn another_operation_for_the_gelu_is_named_with_what_a_gpt2_has_there() {
    let error = Bench::new().refusal(GELU, |model| {
        let gelu = node(model, "node_gelu");
        gelu.op_type = "Relu".into();
        gelu.attribute.clear();
    });
    assert!(
        error.ends_with(
            "(Relu, 62 of 114, output `gelu`): Relu of a projection is no part of a GPT-2 decoder; expected here: Add of a \
             bias, Split into queries, keys and values, GELU (Gelu, or Pow, Mul, Add, Mul, Tanh, Add, Mul), or Add to the \
             residual stream"
        ),
        "{error}"
    );
    let approximate = |model: &mut ModelProto, name: &str, how: &[u8]| {
        let attributes = &mut node(model, name).attribute;
        attributes[0].s = how.to_vec();
    };
    refused(GELU, "node_gelu", "none or tanh", |model| {
        approximate(model, "node_gelu", b"sigmoid");
    });
    // Each layer's by itself would do.
    refused(GELU, "node_add_6", "layers alike", |model| {
        approximate(model, "node_gelu", b"tanh");
    });
}

#[test]
fn constants_of_another_gelu_are_refused() {
    for (constant, at, expected) in [
        ("val_120", "node_mul_13", "Mul by 0.044715"),
        ("val_121", "node_tanh", "Mul by sqrt(2/pi) and Tanh"),
        ("val_118", "node_view_12", "the down projection"),
        ("val_10", "node_add_7", "Add of 1"),
    ] {
        refused(PAST, at, expected, |model| {
            initializer(model, constant).raw_data = 0.3f32.to_le_bytes().to_vec();
        });
    }
    refused(PAST, "node_pow_1", "Add of a bias", |model| {
        initializer(model, "val_119").raw_data = 4.0f32.to_le_bytes().to_vec();
    });
}

#[test]
fn thirds_of_the_fused_projection_in_other_places_are_refused() {
    let first = "node_scaled_dot_product_attention";
    let second = "node_scaled_dot_product_attention_1";
    refused(PAST, first, "queries: the first third", |model| {
        node(model, "node_Split_230").output.swap(0, 1);
    });
    refused(PAST, first, "values: the last third", |model| {
        reread(model, "split_split_2", "split_split_1");
    });
    // Another layer's keys; queries that are no part of the keys' projection.
    refused(PAST, second, "keys: the second third", |model| {
        reread(model, "split_1_split_1", "split_split_1");
    });
    refused(PAST, second, "queries: the first third", |model| {
        reread(model, "split_1_split_0", "view_9");
    });
    refused(PAST, first, "in inputs of their own", |model| {
        node(model, "node_cat_5").input[0] = "past_key_values.0.key".into();
    });
}

#[test]
fn blocks_put_together_otherwise_are_refused_at_their_node() {
    refused(
        PAST,
        "node_add_5",
        "the LayerNorm before the MLP",
        |model| {
            reread(model, "layer_norm_1", "add_5");
        },
    );
    refused(
        PAST,
        "node_layer_norm_1",
        "that the MLP is added to",
        |model| {
            node(model, "node_layer_norm_1").input[0] = "add_1".into();
        },
    );
    refused(
        PAST,
        "node_add_8",
        "attention's output projection",
        |model| {
            node(model, "node_add_8").input[0] = "add_1".into();
        },
    );
    refused(
        PAST,
        "node_layer_norm_2",
        "the same eps in every LayerNorm",
        |model| {
            let attributes = &mut node(model, "node_layer_norm_2").attribute;
            let epsilon = attributes.iter_mut().find(|a| a.name == "epsilon");
            epsilon.unwrap().f = 1e-3;
        },
    );
    refused(PAST, "node_Softmax_82", "a causal mask", |model| {
        reread(model, "val_83", "val_82");
    });
}

#[test]
fn positions_that_are_not_the_tokens_own_are_refused() {
    // Counted from the first token at hand, not from the first of all.
    refused(
        PAST,
        "node_add_1",
        "rows 1 to 4 of a table of positions",
        |model| {
            node(model, "node_embedding_1").input[1] = "arange".into();
        },
    );
    refused(
        PAST,
        "node_embedding",
        "rows of a table of positions",
        |model| {
            reread(model, "add_1", "embedding");
        },
    );
    refused(PAST, "node_embedding_1", "an axis there is", |model| {
        initializer(model, "model.transformer.wpe.weight").dims = vec![3, 48];
        let entries = &mut initializer(model, "model.transformer.wpe.weight").external_data;
        let length = entries.iter_mut().find(|entry| entry.key == "length");
        length.unwrap().value = (3 * 48 * 4).to_string();
    });
}

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let bench = Bench::new();
    let fused = "model.transformer.h.1.attn.c_attn.weight";
    refused(PAST, "node_addmm_4", "an initializer defines", |model| {
        let tensors = &mut model.graph.as_mut().unwrap().initializer;
        tensors.retain(|tensor| tensor.name != fused);
    });
    refused(
        PAST,
        "node_addmm_4",
        "shapes that ONNX's Gemm takes",
        |model| {
            initializer(model, fused).dims.reverse();
        },
    );
    let error = bench.refusal(PAST, |model| initializer(model, fused).dims[1] = 143);
    assert!(
        error.contains(fused) && error.contains("its shape needs"),
        "{error}"
    );
    let error = bench.refusal(PAST, |model| initializer(model, fused).data_type = 2);
    assert!(error.contains("ONNX format 2"), "{error}");
    std::fs::write(bench.dir.path().join("gpt2.weights"), [0; 1000]).unwrap();
    let error = bench.import(&bytes(PAST)).err().unwrap().to_string();
    assert!(error.contains("which has only 1000 bytes"), "{error}");
}
