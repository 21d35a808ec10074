//! What the frontend reads, and what it says of what it cannot read.

mod common;

use common::{LLAMAS, Stored, copy, edit, fixture, rewrite};
use safetensors::Dtype;
use sotto_compiler::frontend::{Checkpoint, FrontendError};
use sotto_ir::decoder::{Decoder, RopeScaling, WeightSource};
use std::path::Path;

/// The error of opening `dir`, printed.
fn refusal(dir: &Path) -> String {
    Checkpoint::open(dir)
        .err()
        .expect("opening fails")
        .to_string()
}

fn config(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("config.json")
}

fn weights(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join("model.safetensors")
}

#[test]
fn stages_verify_and_round_trip_as_text() {
    for model in LLAMAS {
        let stage = Checkpoint::open(&fixture(model))
            .unwrap()
            .decoder()
            .unwrap();
        stage.verify().unwrap();
        assert_eq!(stage.to_string().parse::<Decoder>(), Ok(stage), "{model}");
    }
}

#[test]
fn older_keys_mean_the_same_as_newer_ones() {
    let newer = Checkpoint::open(&fixture("llama-variants")).unwrap();
    let dir = copy("llama-variants");
    edit(&config(&dir), "\"rope_parameters\"", "\"rope_scaling\"");
    edit(&config(&dir), "\"rope_theta\": 500000.0,", "");
    edit(
        &config(&dir),
        "\"attention_bias\"",
        "\"rope_theta\": 500000.0, \"attention_bias\"",
    );
    edit(&config(&dir), "\"dtype\"", "\"torch_dtype\"");
    let older = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(older.facts(), newer.facts());
    assert!(matches!(
        older.facts().positions.rope().unwrap().scaling,
        RopeScaling::Llama3 { factor: 4.0, .. }
    ));
    edit(
        &config(&dir),
        "\"rope_type\": \"llama3\"",
        "\"type\": \"llama3\"",
    );
    assert_eq!(Checkpoint::open(dir.path()).unwrap().facts(), newer.facts());
}

#[test]
fn what_the_configuration_leaves_out_has_the_familys_defaults() {
    let dir = copy("llama-tied-sharded");
    edit(&config(&dir), "\"num_key_value_heads\": 6,", "");
    edit(&config(&dir), "\"head_dim\": 8,", "");
    edit(
        &config(&dir),
        "\"eos_token_id\": 1,",
        "\"eos_token_id\": [1, 2], \"rope_scaling\": null,",
    );
    let facts = Checkpoint::open(dir.path()).unwrap().facts().clone();
    assert_eq!(
        (facts.kv_heads, facts.head_dim, facts.eos),
        (6, 8, vec![1, 2])
    );
}

#[test]
fn half_precision_is_widened_exactly() {
    let dir = copy("llama-gqa");
    // Weights that f16 holds exactly: 1, 1.5, 2, 2.5 … by entry.
    let entry = |i: usize| 1.0 + (i % 100) as f32 / 2.0;
    rewrite(&weights(&dir), |_, stored: &mut Stored| {
        let count = stored.shape.iter().product::<usize>();
        stored.bytes = (0..count)
            .flat_map(|i| half::f16::from_f32(entry(i)).to_le_bytes())
            .collect();
        stored.dtype = Dtype::F16;
        true
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let tensor = checkpoint
        .tensor("model.layers.1.mlp.up_proj.weight")
        .unwrap();
    assert_eq!(tensor.shape, [176, 64]);
    assert!(tensor.data.iter().enumerate().all(|(i, &x)| x == entry(i)));
}

#[test]
fn the_digest_names_content_not_files() {
    let digest = |dir: &Path| Checkpoint::open(dir).unwrap().digest().unwrap();
    let original = digest(&fixture("llama-tied-sharded"));
    let dir = copy("llama-tied-sharded");
    // Another sharding: the same tensors in one file.
    let mut bytes = Vec::new();
    for i in 1..=4 {
        bytes.push(
            std::fs::read(
                dir.path()
                    .join(format!("model-0000{i}-of-00004.safetensors")),
            )
            .unwrap(),
        );
    }
    let files: Vec<_> = bytes
        .iter()
        .map(|b| safetensors::SafeTensors::deserialize(b).unwrap())
        .collect();
    let tensors: Vec<_> = files.iter().flat_map(|file| file.tensors()).collect();
    std::fs::write(
        weights(&dir),
        safetensors::serialize(tensors, None).unwrap(),
    )
    .unwrap();
    std::fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    assert_eq!(digest(dir.path()), original);
    rewrite(&weights(&dir), |name, stored| {
        if name == "model.norm.weight" {
            stored.bytes[0] ^= 1;
        }
        true
    });
    assert_ne!(digest(dir.path()), original);
}

#[test]
fn a_missing_tensor_is_named_with_its_remedy() {
    let dir = copy("llama-gqa");
    rewrite(&weights(&dir), |name, _| {
        name != "model.layers.1.mlp.up_proj.weight"
    });
    let error = refusal(dir.path());
    assert!(
        error.contains("model.safetensors: tensor `model.layers.1.mlp.up_proj.weight` is missing"),
        "{error}"
    );
    rewrite(&weights(&dir), |name, _| name != "lm_head.weight");
    edit(
        &config(&dir),
        "\"num_hidden_layers\": 2",
        "\"num_hidden_layers\": 1",
    );
    let error = refusal(dir.path());
    assert!(
        error.contains("`lm_head.weight`") && error.contains("tie_word_embeddings"),
        "{error}"
    );
    edit(
        &config(&dir),
        "\"attention_bias\": false",
        "\"attention_bias\": true",
    );
    let error = refusal(dir.path());
    assert!(
        error.contains("q_proj.bias` is missing") && error.contains("attention_bias"),
        "{error}"
    );
}

#[test]
fn a_wrong_shape_is_named_with_both_shapes() {
    let dir = copy("llama-gqa");
    edit(
        &config(&dir),
        "\"intermediate_size\": 176",
        "\"intermediate_size\": 192",
    );
    let error = refusal(dir.path());
    assert!(
        error.contains("gate_proj.weight` has shape [176, 64], config.json makes it [192, 64]"),
        "{error}"
    );
}

#[test]
fn truncated_and_foreign_files_are_refused() {
    let dir = copy("llama-gqa");
    let bytes = std::fs::read(weights(&dir)).unwrap();
    for length in [bytes.len() - 1, bytes.len() / 2, 100] {
        std::fs::write(weights(&dir), &bytes[..length]).unwrap();
        let error = refusal(dir.path());
        assert!(
            error.contains(&format!("the file has {length} bytes")),
            "{error}"
        );
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    std::fs::write(weights(&dir), longer).unwrap();
    assert!(matches!(
        Checkpoint::open(dir.path()),
        Err(FrontendError::Length { .. })
    ));
    for damage in [
        b"".as_slice(),
        b"short",
        b"PK\x03\x04 this is a zip archive, not a model",
    ] {
        std::fs::write(weights(&dir), damage).unwrap();
        assert!(matches!(
            Checkpoint::open(dir.path()),
            Err(FrontendError::Header { .. })
        ));
    }
    let mut broken = bytes.clone();
    broken[9] = b'!';
    std::fs::write(weights(&dir), broken).unwrap();
    assert!(matches!(
        Checkpoint::open(dir.path()),
        Err(FrontendError::Header { .. })
    ));
}

#[test]
fn a_sharded_checkpoint_must_be_whole() {
    let dir = copy("llama-tied-sharded");
    let shard = dir.path().join("model-00002-of-00004.safetensors");
    let content = std::fs::read(&shard).unwrap();
    std::fs::remove_file(&shard).unwrap();
    let error = refusal(dir.path());
    assert!(
        error.contains("model-00002-of-00004.safetensors, which is not there"),
        "{error}"
    );
    std::fs::write(&shard, content).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    edit(
        &index,
        "\"model.norm.weight\": \"model-00004",
        "\"model.norm.weight\": \"model-00001",
    );
    let error = refusal(dir.path());
    assert!(
        error.contains("model-00001-of-00004.safetensors: tensor `model.norm.weight` is missing"),
        "{error}"
    );
    edit(
        &index,
        "\"model.norm.weight\": \"model-00001",
        "\"model.norm.weight\": \"../model-00001",
    );
    assert!(matches!(
        Checkpoint::open(dir.path()),
        Err(FrontendError::ShardName { .. })
    ));
    std::fs::write(&index, "{}").unwrap();
    assert!(matches!(
        Checkpoint::open(dir.path()),
        Err(FrontendError::Json { .. })
    ));
}

#[test]
fn other_models_are_refused_by_name() {
    let other = copy("llama-gqa");
    edit(&config(&other), "LlamaForCausalLM", "GPTNeoXForCausalLM");
    let error = refusal(other.path());
    assert!(
        error.contains(
            "architectures = GPTNeoXForCausalLM is not supported; supported: LlamaForCausalLM"
        ),
        "{error}"
    );
    let dir = copy("llama-variants");
    for (from, to, message) in [
        (
            "\"rope_type\": \"llama3\"",
            "\"rope_type\": \"yarn\"",
            "rope_parameters.rope_type = yarn is not supported",
        ),
        (
            "\"hidden_act\": \"silu\"",
            "\"hidden_act\": \"gelu\"",
            "hidden_act = gelu is not supported",
        ),
        (
            "\"factor\": 4.0,",
            "",
            "\"rope_parameters.factor\" is missing",
        ),
        ("\"hidden_size\": 64,", "", "\"hidden_size\" is missing"),
        (
            "\"vocab_size\": 320",
            "\"vocab_size\": \"many\"",
            "config.json: not as expected",
        ),
        (
            "\"vocab_size\": 320",
            "\"vocab_size\": 320, \"quantization_config\": {\"bits\": 4}",
            "quantization_config",
        ),
        (
            "\"num_key_value_heads\": 2",
            "\"num_key_value_heads\": 3",
            "contradicts itself",
        ),
        (
            "\"eos_token_id\": 1",
            "\"eos_token_id\": 999",
            "contradicts itself",
        ),
    ] {
        let original = std::fs::read_to_string(config(&dir)).unwrap();
        edit(&config(&dir), from, to);
        let error = refusal(dir.path());
        assert!(error.contains(message), "{from} → {to}: {error}");
        std::fs::write(config(&dir), original).unwrap();
    }
}

#[test]
fn more_layers_than_any_decoder_has_are_refused() {
    let dir = copy("llama-gqa");
    let found = "\"num_hidden_layers\": ";
    edit(&config(&dir), found, &format!("{found}1000000000000"));
    let error = refusal(dir.path());
    assert!(
        error.contains("num_hidden_layers = 10000000000002"),
        "{error}"
    );
}

#[test]
fn odd_weights_are_refused() {
    let dir = copy("llama-gqa");
    rewrite(&weights(&dir), |name, stored| {
        if name == "model.norm.weight" {
            stored.bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        true
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let error = checkpoint.tensor("model.norm.weight").unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        cause.contains("`model.norm.weight` holds NaN at entry 2"),
        "{cause}"
    );
    rewrite(&weights(&dir), |_, stored| {
        stored.dtype = Dtype::I32;
        true
    });
    assert!(refusal(dir.path()).contains("is stored as I32; supported: F32, F16, BF16"));
}

#[test]
fn a_directory_without_weights_says_so() {
    let dir = copy("llama-gqa");
    std::fs::remove_file(weights(&dir)).unwrap();
    assert!(matches!(
        Checkpoint::open(dir.path()),
        Err(FrontendError::NoWeights { .. })
    ));
    std::fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    assert!(refusal(dir.path()).contains("safe_serialization"));
    assert!(matches!(
        Checkpoint::open(&dir.path().join("nowhere")),
        Err(FrontendError::NoConfig { .. })
    ));
}

#[test]
fn mistral_is_a_llama_whose_window_hides_nothing() {
    let dir = copy("llama-gqa");
    edit(&config(&dir), "LlamaForCausalLM", "MistralForCausalLM");
    // Without the key it has the family's window of 4096, which is more than its 128 positions.
    let llama = Checkpoint::open(&fixture("llama-gqa")).unwrap();
    let open = || Checkpoint::open(dir.path());
    assert_eq!(open().unwrap().facts(), llama.facts());
    for (window, accepted) in [("null", true), ("128", true), ("127", false)] {
        let dir = copy("llama-gqa");
        edit(&config(&dir), "LlamaForCausalLM", "MistralForCausalLM");
        let with = format!("\"sliding_window\": {window}, \"mlp_bias\"");
        edit(&config(&dir), "\"mlp_bias\"", &with);
        match Checkpoint::open(dir.path()) {
            Ok(checkpoint) => assert!(accepted && checkpoint.facts() == llama.facts()),
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !accepted
                        && error.contains("sliding_window = 127 is not supported")
                        && error.contains("so both can be 127"),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn qwen2_is_a_llama_with_biases_on_q_k_and_v() {
    let dir = copy("llama-variants");
    edit(&config(&dir), "LlamaForCausalLM", "Qwen2ForCausalLM");
    edit(
        &config(&dir),
        "\"attention_bias\": true",
        "\"sliding_window\": 16, \"use_sliding_window\": false",
    );
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let decoder = checkpoint.decoder().unwrap();
    let names: Vec<String> = decoder
        .tensors()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let has = |name: &str| names.iter().any(|known| known == name);
    assert!(has("model.layers.1.self_attn.v_proj.bias"));
    assert!(!has("model.layers.1.self_attn.o_proj.bias"));
    assert_eq!(decoder.to_string().parse::<Decoder>(), Ok(decoder));
    edit(
        &config(&dir),
        "\"use_sliding_window\": false",
        "\"use_sliding_window\": true",
    );
    let error = refusal(dir.path());
    assert!(error.contains("sliding_window = 16"), "{error}");
}
