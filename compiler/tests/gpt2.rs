//! GPT-2 checkpoints: how they are stored, what their configurations say, and what is refused.

mod common;

use common::{copy, edit, fixture, rewrite};
use safetensors::Dtype;
use sotto_compiler::frontend::Checkpoint;
use sotto_ir::decoder::{Activation, Interpreter, KvCache, WeightSource};
use std::path::Path;

fn refusal(dir: &Path) -> String {
    let opened = Checkpoint::open(dir);
    opened.err().expect("opening fails").to_string()
}

fn logits(dir: &Path) -> Vec<f64> {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let decoder = checkpoint.decoder().unwrap();
    let interpreter = Interpreter::new(&decoder, &checkpoint).unwrap();
    let mut cache = KvCache::new(&decoder);
    let pass = interpreter.pass(&mut cache, &[0, 7, 200], &mut |_| ());
    pass.unwrap().logits.as_slice().to_vec()
}

/// Copies a file of tensors, some of them under other names or left out, and others added.
fn rename(dir: &Path, name: impl Fn(&str) -> Option<String>, more: &[(&str, Vec<usize>)]) {
    let path = dir.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept = file.tensors().into_iter();
    let mut tensors: Vec<_> = kept
        .filter_map(|(old, view)| Some((name(&old)?, view)))
        .collect();
    let ones = [1u8; 1 << 14];
    for (name, shape) in more {
        let size = shape.iter().product();
        let view = safetensors::tensor::TensorView::new(Dtype::BOOL, shape.clone(), &ones[..size]);
        tensors.push((name.to_string(), view.unwrap()));
    }
    std::fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

#[test]
fn the_fused_projection_is_three_transposed_ones() {
    let checkpoint = Checkpoint::open(&fixture("gpt2")).unwrap();
    let fused = std::fs::read(fixture("gpt2").join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&fused).unwrap();
    let stored = file
        .tensor("transformer.h.1.attn.c_attn.weight")
        .unwrap()
        .data();
    let entry = |row: usize, column: usize| {
        let at = 4 * (row * 144 + column);
        f32::from_le_bytes(stored[at..at + 4].try_into().unwrap())
    };
    for (index, part) in ["q", "k", "v"].into_iter().enumerate() {
        let name = format!("transformer.h.1.attn.c_attn.weight[{part}]");
        // by itself first, before all of it is kept
        let some = checkpoint.rows(&name, 5..9).unwrap();
        let all = checkpoint.tensor(&name).unwrap();
        assert_eq!(all.shape, [48, 48]);
        assert_eq!(some, all.slice(5..9));
        assert_eq!(some, checkpoint.rows(&name, 5..9).unwrap());
        for (out, input) in [(0, 0), (47, 3), (11, 46)] {
            assert_eq!(all.row(out)[input], entry(input, 48 * index + out));
        }
        let bias = format!("transformer.h.1.attn.c_attn.bias[{part}]");
        let whole = file.tensor("transformer.h.1.attn.c_attn.bias").unwrap();
        let bytes: Vec<u8> = checkpoint
            .tensor(&bias)
            .unwrap()
            .data
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        assert_eq!(bytes, whole.data()[192 * index..192 * (index + 1)]);
    }
    assert!(
        checkpoint
            .rows("transformer.h.1.attn.c_attn.weight[v]", 40..49)
            .is_err()
    );
    assert!(
        checkpoint
            .tensor("transformer.h.1.attn.c_attn.weight[x]")
            .is_err()
    );
}

/// The model saved without its head, as GPT-2's own checkpoints are, with the mask buffers of older versions.
#[test]
fn names_without_their_prefix_are_the_same_model_and_masks_are_not_read() {
    let dir = copy("gpt2");
    let masks = [
        ("h.0.attn.bias", vec![1, 1, 64, 64]),
        ("h.0.attn.masked_bias", vec![1]),
    ];
    let bare = |name: &str| Some(name.strip_prefix("transformer.")?.to_string());
    rename(dir.path(), bare, &masks);
    assert_eq!(logits(dir.path()), logits(&fixture("gpt2")));
    let decoder = |dir: &Path| Checkpoint::open(dir).unwrap().decoder().unwrap();
    assert_eq!(decoder(dir.path()), decoder(&fixture("gpt2")));
}

#[test]
fn an_untied_head_is_another_tensor() {
    let dir = copy("gpt2");
    let config = dir.path().join("config.json");
    let (tied, untied) = (
        "\"tie_word_embeddings\": true",
        "\"tie_word_embeddings\": false",
    );
    edit(&config, tied, untied);
    let error = refusal(dir.path());
    assert!(
        error.contains("`lm_head.weight` is missing") && error.contains("tie_word_embeddings"),
        "{error}"
    );
    let weights = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = file.tensors();
    let head = file.tensor("transformer.wte.weight").unwrap();
    tensors.push(("lm_head.weight".into(), head));
    std::fs::write(&weights, safetensors::serialize(tensors, None).unwrap()).unwrap();
    assert_eq!(logits(dir.path()), logits(&fixture("gpt2")));
}

#[test]
fn what_is_stored_wrongly_is_named_as_it_is_stored() {
    let weights = |dir: &tempfile::TempDir| dir.path().join("model.safetensors");
    let dir = copy("gpt2");
    rewrite(&weights(&dir), |name, _| {
        name != "transformer.h.1.attn.c_attn.bias"
    });
    let error = refusal(dir.path());
    assert!(
        error.contains("tensor `transformer.h.1.attn.c_attn.bias` is missing; save the model"),
        "{error}"
    );
    let dir = copy("gpt2");
    rewrite(&weights(&dir), |name, stored| {
        if name == "transformer.h.0.attn.c_attn.weight" {
            stored.shape.reverse();
        }
        true
    });
    let error = refusal(dir.path());
    assert!(
        error.contains("c_attn.weight` has shape [144, 48], config.json makes it [48, 144]"),
        "{error}"
    );
    let dir = copy("gpt2");
    edit(
        &dir.path().join("config.json"),
        "\"n_inner\": null",
        "\"n_inner\": 200",
    );
    let error = refusal(dir.path());
    assert!(
        error.contains("mlp.c_fc.weight` has shape [48, 192], config.json makes it [48, 200]"),
        "{error}"
    );
    let dir = copy("gpt2");
    rewrite(&weights(&dir), |name, stored| {
        if name == "transformer.h.0.mlp.c_proj.weight" {
            stored.bytes[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        true
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let error = checkpoint.tensor("transformer.h.0.mlp.c_proj.weight");
    let error = std::error::Error::source(&error.unwrap_err())
        .unwrap()
        .to_string();
    assert!(
        error.contains("c_proj.weight` holds NaN at entry 100"),
        "{error}"
    );
}

#[test]
fn configurations_of_another_model_are_refused_with_what_is_known() {
    for (from, to, words) in [
        (
            "\"gelu_new\"",
            "\"relu\"",
            "activation_function = relu is not supported; supported: gelu_new",
        ),
        (
            "\"scale_attn_by_inverse_layer_idx\": false",
            "\"scale_attn_by_inverse_layer_idx\": true",
            "scale_attn_by_inverse_layer_idx = true is not supported; supported: false",
        ),
        (
            "\"scale_attn_weights\": true",
            "\"scale_attn_weights\": false",
            "scale_attn_weights = false",
        ),
        (
            "\"add_cross_attention\": false",
            "\"add_cross_attention\": true",
            "add_cross_attention = true",
        ),
        ("\"n_head\": 4", "\"n_head\": 5", "divisors of n_embd = 48"),
        ("\"n_head\": 4", "\"n_head\": 0", "divisors of n_embd = 48"),
        ("\"n_head\": 4", "\"n_head\": 16", "head_dim = 3 is odd"),
        ("\"n_positions\": 64,", "", "\"n_positions\" is missing"),
        (
            "\"n_layer\": 2",
            "\"n_layer\": 100000",
            "n_layer = 100000 is not supported",
        ),
        (
            "\"n_positions\": 64,",
            "\"n_positions\": 65,",
            "wpe.weight` has shape [64, 48], config.json makes it [65, 48]",
        ),
        (
            "\"GPT2LMHeadModel\"",
            "\"GPT2Model\"",
            "architectures = GPT2Model is not supported; supported: LlamaForCausalLM",
        ),
    ] {
        let dir = copy("gpt2");
        edit(&dir.path().join("config.json"), from, to);
        let error = match Checkpoint::open(dir.path()) {
            Err(error) => format!(
                "{error}: {}",
                std::error::Error::source(&error).map_or(String::new(), |e| e.to_string())
            ),
            Ok(_) => "nothing".into(),
        };
        assert!(error.contains(words), "{from} → {to}: {error}");
    }
}

#[test]
fn the_activation_is_the_one_named() {
    let dir = copy("gpt2");
    let config = dir.path().join("config.json");
    let known = logits(dir.path());
    edit(&config, "\"gelu_new\"", "\"gelu_pytorch_tanh\"");
    assert_eq!(logits(dir.path()), known);
    edit(&config, "\"gelu_pytorch_tanh\"", "\"gelu\"");
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.facts().activation, Activation::Gelu);
    let other = logits(dir.path());
    let differences = other.iter().zip(&known).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f64::max);
    assert!(largest > 1e-6 && largest < 1e-2, "{largest}");
}
