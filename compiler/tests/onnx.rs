//! Importing ONNX graphs: exports of the fixtures against their goldens.

mod common;

use common::{copy, done, edit, files, fixture, refusal, rewrite};
use sotto_compiler::frontend::Checkpoint;
use sotto_compiler::frontend::onnx::{Import, Unsaid};
use sotto_ir::decoder::{
    Activation, AttentionBias, Interpreter, KvCache, ModelFacts, WeightSource,
};
use sotto_ir::golden::{Array, Golden};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Worst logit error that is accepted, relative to the largest logit of its position.
const ACCEPTED: f64 = 1e-6;

/// Every export that must be read, with the checkpoint it is of.
fn exports() -> Vec<(String, PathBuf)> {
    let mut found = vec![(
        "llama-gqa".into(),
        fixture("llama-gqa").join("decode-dynamo.onnx"),
    )];
    for entry in std::fs::read_dir(fixture("onnx")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let other = ["window", "qwen2", "gelu"].iter();
        if name.ends_with(".onnx") && !other.clone().any(|kind| name.contains(kind)) {
            let opset = name.find("-2").unwrap();
            found.push((name[..opset].into(), path));
        }
    }
    found.sort();
    found
}

/// Whether the graph is for one number of tokens, from the first on.
fn is_fixed(path: &Path) -> bool {
    path.to_str().unwrap().contains("whole-eager-fixed")
}

fn open(path: &Path) -> Import {
    Import::open(path, &Unsaid::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The checkpoint's facts, with what a graph does not say as the import has it.
fn said(checkpoint: &Checkpoint, import: &Import) -> ModelFacts {
    let of = import.facts();
    ModelFacts {
        bos: None,
        eos: Vec::new(),
        max_positions: of.max_positions,
        ..checkpoint.facts().clone()
    }
}

/// Logits of a whole sequence, in float64.
fn logits(
    decoder: &sotto_ir::decoder::Decoder,
    weights: &dyn WeightSource,
    ids: &[u32],
) -> Vec<f64> {
    let interpreter = Interpreter::new(decoder, weights).unwrap();
    let pass = interpreter
        .pass(&mut KvCache::new(decoder), ids, &mut |_| ())
        .unwrap();
    pass.logits.iter().flatten().copied().collect()
}

/// Largest difference relative to the largest entry of its position.
fn distance(ours: &[f64], golden: &Array) -> f64 {
    assert_eq!(ours.len(), golden.data.len());
    let width = *golden.shape.last().unwrap();
    let rows = ours
        .chunks_exact(width)
        .zip(golden.data.chunks_exact(width));
    rows.map(|(a, b)| {
        let scale = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let off = a.iter().zip(b).map(|(a, b)| (a - b).abs());
        off.fold(0.0f64, |m, d| if d <= m { m } else { d }) / scale
    })
    .fold(0.0, |m, d| if d <= m { m } else { d })
}

#[test]
fn every_export_agrees_with_its_checkpoints_golden() {
    let all = exports();
    assert_eq!(all.len(), 24);
    for (model, path) in all {
        let import = open(&path);
        let checkpoint = Checkpoint::open(&fixture(&model)).unwrap();
        assert_eq!(import.facts(), &said(&checkpoint, &import), "{path:?}");
        let golden = Golden::read(&fixture(&model).join("golden.safetensors")).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let written = dir.path().join("model");
        import.write(&written, None).unwrap();
        let again = Checkpoint::open(&written).unwrap();
        assert_eq!(again.facts(), import.facts(), "{path:?}");
        let decoder = again.decoder().unwrap();
        for (name, shape) in decoder.tensors() {
            let ours = again.tensor(&name).unwrap();
            // A graph of fixed size holds no more positions than it uses.
            let theirs = checkpoint.rows(&name, 0..shape[0]).unwrap();
            assert_eq!(*ours, theirs, "{path:?} {name}");
            let whole = checkpoint.shape(&name).unwrap() == shape;
            assert!(whole || is_fixed(&path) && name == "transformer.wpe.weight");
        }
        let through_checkpoint = logits(&decoder, &again, &golden.input_ids);
        let worst = distance(&through_checkpoint, &golden.logits);
        println!("{}: {worst:.1e}", path.file_name().unwrap().display());
        assert!(worst < ACCEPTED, "{path:?}: {worst:e}");
        let direct = logits(&import.decoder().unwrap(), &import, &golden.input_ids);
        assert_eq!(direct, through_checkpoint, "{path:?}");
    }
}

#[test]
fn one_graph_gives_one_checkpoint_byte_for_byte() {
    let (_, path) = exports().remove(3);
    let dir = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| dir.path().join(name));
    let tokenizer = fixture("llama-gqa").join("tokenizer.json");
    open(&path).write(&one, Some(&tokenizer)).unwrap();
    open(&path).write(&two, Some(&tokenizer)).unwrap();
    assert_eq!(files(&one), files(&two));
    assert_eq!(files(&one).len(), 3);
    // An earlier import gives way, tokenizer and all; anything else does not.
    open(&path).write(&one, None).unwrap();
    assert_eq!(files(&one).len(), 2);
    std::fs::write(one.join("model.safetensors.index.json"), "{}").unwrap();
    let error = open(&path).write(&one, None).unwrap_err().to_string();
    assert!(
        error.contains("holds `model.safetensors.index.json`"),
        "{error}"
    );
}

#[test]
fn qwen2_is_a_llama_with_biases_on_q_k_and_v() {
    let import = open(&fixture("onnx").join("llama-variants-23-past-sdpa-qwen2.onnx"));
    assert_eq!(import.facts().attention_bias, AttentionBias::Qkv);
    // The same as a checkpoint: Qwen2's configuration has no key for its biases.
    let dir = copy("llama-variants");
    let config = dir.path().join("config.json");
    edit(&config, "LlamaForCausalLM", "Qwen2ForCausalLM");
    edit(
        &config,
        "\"attention_bias\": true,",
        "\"sliding_window\": 32,",
    );
    rewrite(&dir.path().join("model.safetensors"), |name, _| {
        !name.ends_with("o_proj.bias")
    });
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(import.facts(), &said(&checkpoint, &import));
    let written = dir.path().join("import");
    import.write(&written, None).unwrap();
    let again = Checkpoint::open(&written).unwrap();
    assert_eq!(again.facts(), import.facts());
    let ids: Vec<u32> = (0..20).collect();
    let of = |checkpoint: &Checkpoint| logits(&checkpoint.decoder().unwrap(), checkpoint, &ids);
    assert_eq!(of(&again), of(&checkpoint));
}

#[test]
fn a_sliding_window_is_refused_even_where_no_token_is_out_of_sight() {
    for name in [
        "llama-gqa-20-whole-sdpa-window.onnx",
        "llama-gqa-23-past-sdpa-window.onnx",
    ] {
        let error = Import::open(&fixture("onnx").join(name), &Unsaid::default());
        let error = error.err().expect("refused").to_string();
        assert!(
            error.contains("4096") && error.contains("sliding window"),
            "{error}"
        );
    }
}

/// The graph of the GPT-2 fixture in this form.
fn gpt2(form: &str) -> PathBuf {
    fixture("onnx").join(format!("gpt2-{form}.onnx"))
}

#[test]
fn a_gpt2_is_written_as_its_checkpoint_stores_it() {
    let import = open(&gpt2("20-past-sdpa-masked"));
    let about = import.about();
    assert_eq!(about.assumed_inputs, ["attention_mask", "position_ids"]);
    let dir = tempfile::tempdir().unwrap();
    import.write(dir.path(), None).unwrap();
    let [ours, theirs] = [dir.path().into(), fixture("gpt2")]
        .map(|dir: PathBuf| std::fs::read(dir.join("model.safetensors")).unwrap());
    let read = |bytes| safetensors::SafeTensors::deserialize(bytes).unwrap();
    let (ours, theirs) = (read(&ours), read(&theirs));
    assert_eq!(ours.len(), theirs.len());
    for (name, view) in theirs.tensors() {
        let written = ours.tensor(&name).unwrap();
        assert_eq!(written.shape(), view.shape(), "{name}");
        assert_eq!(written.data(), view.data(), "{name}");
    }
}

#[test]
fn the_exact_gelu_is_told_from_the_one_with_tanh() {
    let dir = copy("gpt2");
    let config = dir.path().join("config.json");
    edit(&config, "\"gelu_new\"", "\"gelu\"");
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let ids: Vec<u32> = (0..20).collect();
    let expected = logits(&checkpoint.decoder().unwrap(), &checkpoint, &ids);
    for form in ["20-past-sdpa-gelu", "23-whole-sdpa-gelu"] {
        let import = open(&gpt2(form));
        assert_eq!(import.facts().activation, Activation::Gelu);
        assert_eq!(import.facts(), &said(&checkpoint, &import));
        let ours = logits(&import.decoder().unwrap(), &import, &ids);
        assert_eq!(ours, expected, "{form}");
    }
}

#[test]
fn a_graph_holds_as_many_learned_positions_as_its_table() {
    let asked = |form: &str, most: usize| {
        let unsaid = Unsaid {
            max_positions: Some(most),
            ..Unsaid::default()
        };
        Import::open(&gpt2(form), &unsaid)
    };
    for (form, rows) in [("20-whole-eager-fixed", 10), ("20-past-eager-fixed", 64)] {
        let import = asked(form, rows).unwrap();
        assert_eq!(import.facts().max_positions, rows);
        let table = WeightSource::shape(&import, "transformer.wpe.weight");
        assert_eq!(table.unwrap(), [rows, 48]);
        let error = asked(form, 32).err().unwrap().to_string();
        assert!(
            error.contains(&format!("has {rows} rows")) && error.contains("--max-positions"),
            "{error}"
        );
    }
}

fn sottoc(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottoc"))
        .args(arguments.iter().map(|a| a.as_ref()))
        .output()
        .unwrap()
}

#[test]
fn the_command_prints_what_it_recognized_and_writes_a_checkpoint_to_compile() {
    let graph = fixture("llama-gqa").join("decode-dynamo.onnx");
    let said = done(sottoc(&[&"import", &graph]));
    for part in [
        "a Llama decoder; a decode step with earlier keys and values; opset 20",
        "2 layers, hidden 64, 4 heads on 2 key and value heads of 16, MLP 176, vocabulary 300",
        "layers.1.mlp.down_proj",
        "[64, 176]",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let found: serde_json::Value =
        serde_json::from_str(&done(sottoc(&[&"import", &graph, &"--json"]))).unwrap();
    assert_eq!(found["model"]["kv_heads"], 2);
    assert_eq!(found["sites"].as_array().unwrap().len(), 1 + 2 * 9 + 2);
    assert_eq!(found["sites"][1]["site"], "layers.0.attention_norm");
    assert_eq!(found["graph"]["fixed_tokens"], 1);

    let dir = tempfile::tempdir().unwrap();
    let (model, stage) = (dir.path().join("model"), dir.path().join("stage"));
    let tokenizer = fixture("llama-gqa").join("tokenizer.json");
    let more: [&dyn AsRef<std::ffi::OsStr>; 9] = [
        &"-o",
        &model,
        &"--tokenizer",
        &tokenizer,
        &"--bos",
        &"0",
        &"--eos=1",
        &"--max-positions",
        &"128",
    ];
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"import", &graph];
    arguments.extend(more);
    done(sottoc(&arguments));
    let original = Checkpoint::open(&fixture("llama-gqa")).unwrap();
    assert_eq!(Checkpoint::open(&model).unwrap().facts(), original.facts());
    done(sottoc(&[
        &"compile",
        &model,
        &"--stop-after",
        &"decoder",
        &"-o",
        &stage,
    ]));
    assert!(stage.is_file());
}

#[test]
fn the_command_says_what_a_gpt2_is_and_writes_a_checkpoint_to_compile() {
    let dir = tempfile::tempdir().unwrap();
    let (model, stage) = (dir.path().join("model"), dir.path().join("stage"));
    let graph = gpt2("23-past-sdpa-dynamic");
    let tokenizer = fixture("gpt2").join("tokenizer.json");
    let said = done(sottoc(&[
        &"import",
        &graph,
        &"-o",
        &model,
        &"--tokenizer",
        &tokenizer,
        &"--bos=0",
        &"--eos=1",
    ]));
    for part in [
        "a GPT-2 decoder; any number of tokens with earlier keys and values; opset 23",
        "2 layers, hidden 48, 4 heads on 4 key and value heads of 12, MLP 192, vocabulary 300",
        "learned positions up to 64, activation gelu_tanh",
        "not in the graph: BOS 0, end [1]",
        "layers.1.attention.k_proj",
        "model.transformer.h.1.attn.c_attn.weight",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let original = Checkpoint::open(&fixture("gpt2")).unwrap();
    assert_eq!(Checkpoint::open(&model).unwrap().facts(), original.facts());
    done(sottoc(&[
        &"compile",
        &model,
        &"--stop-after",
        &"decoder",
        &"-o",
        &stage,
    ]));
    assert!(stage.is_file());
}

#[test]
fn the_command_refuses_what_is_no_graph_of_ours() {
    let gqa = fixture("llama-gqa");
    for (path, message) in [
        (gqa.join("nowhere.onnx"), "nowhere.onnx"),
        (gqa.join("config.json"), "not an ONNX file"),
        (gqa.join("model.safetensors"), "not an ONNX file"),
    ] {
        let error = refusal(sottoc(&[&"import", &path]));
        assert!(
            error.starts_with("error[") && error.contains(message),
            "{error}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let graph = gqa.join("decode-dynamo.onnx");
    let late = sottoc(&[&"import", &graph, &"-o", &dir.path(), &"--bos", &"300"]);
    assert!(refusal(late).contains("token 300 is not in the vocabulary"));
    let config = Checkpoint::open(dir.path()).err().unwrap().to_string();
    assert!(config.contains("does not exist"), "{config}");
}
