//! The `sottoc` binary as a user meets it.

mod common;

use common::{fixture, root};
use sotto_ir::golden::Golden;
use std::path::Path;
use std::process::{Command, Output};

fn sottoc(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottoc"))
        .args(arguments.iter().map(|a| a.as_ref()))
        .output()
        .unwrap()
}

fn reference(model: &Path, input: &Path, output: &Path, more: &[&str]) -> Output {
    let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
        vec![&"reference", &model, &"--input", &input, &"-o", &output];
    arguments.extend(more.iter().map(|a| a as &dyn AsRef<std::ffi::OsStr>));
    sottoc(&arguments)
}

#[test]
fn reference_of_token_ids_is_a_golden_of_the_fixtures_format() {
    let dir = tempfile::tempdir().unwrap();
    let (model, output) = (fixture("llama-gqa"), dir.path().join("golden.safetensors"));
    let golden_path = model.join("golden.safetensors");
    assert!(
        reference(&model, &golden_path, &output, &[])
            .status
            .success()
    );
    let layout = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors: Vec<_> = file
            .tensors()
            .into_iter()
            .map(|(name, t)| (name, format!("{:?}", t.dtype()), t.shape().to_vec()))
            .collect();
        tensors.sort();
        tensors
    };
    // beside what the fixtures' maker writes, what the greedy tokens were chosen by
    let mut written = layout(&output);
    written.retain(|(name, ..)| name != "logits.greedy");
    assert_eq!(written.len() + 1, layout(&output).len());
    assert_eq!(written, layout(&golden_path));
    assert_eq!(
        Golden::read(&output).unwrap().greedy_ids,
        Golden::read(&golden_path).unwrap().greedy_ids
    );
}

#[test]
fn reference_of_text_continues_the_whole_prompt_after_bos() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (
        dir.path().join("prompt.txt"),
        dir.path().join("golden.safetensors"),
    );
    std::fs::write(&input, "Once upon a time there was\n").unwrap();
    let done = reference(
        &root().join("models/tiny"),
        &input,
        &output,
        &["--generate", "5"],
    );
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let golden = Golden::read(&output).unwrap();
    assert_eq!(golden.input_ids[0], 0);
    assert!(golden.input_ids.len() > 3);
    assert_eq!(
        golden.greedy_ids[..golden.input_ids.len()],
        golden.input_ids
    );
    assert_eq!(golden.greedy_ids.len(), golden.input_ids.len() + 5);
}

#[test]
fn bad_input_exits_2_names_the_cause_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("golden.safetensors");
    let gqa = fixture("llama-gqa");
    let other = common::copy("llama-gqa");
    let config = other.path().join("config.json");
    common::edit(&config, "LlamaForCausalLM", "OPTForCausalLM");
    let other = other.path().to_str().unwrap();
    // Ids of a larger vocabulary, more tokens than positions, many sequences, another architecture.
    for (model, input, message) in [
        (other, gqa.join("golden.safetensors"), "OPTForCausalLM"),
        (
            "llama-tied-sharded",
            fixture("llama-variants").join("golden.safetensors"),
            "is not in the vocabulary",
        ),
        (
            "llama-gqa",
            gqa.join("calibration.safetensors"),
            "holds 16 sequences",
        ),
        ("llama-gqa", gqa.join("nowhere.txt"), "nowhere.txt"),
        (
            "llama-gqa",
            gqa.join("model.safetensors"),
            "no tensor `input_ids`",
        ),
    ] {
        let done = reference(&fixture(model), &input, &output, &[]);
        let error = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{model}: {error}");
        assert!(
            error.starts_with("error[") && error.contains(message),
            "{model}: {error}"
        );
        assert!(!output.exists());
    }
    let done = reference(&gqa, &gqa.join("nowhere.txt"), &output, &[]);
    let error = String::from_utf8(done.stderr).unwrap();
    assert_eq!(
        error.matches("os error 2").count(),
        1,
        "the cause is said once: {error}"
    );
    let long = dir.path().join("long.txt");
    std::fs::write(&long, "a b c d e f g h ".repeat(50)).unwrap();
    let done = reference(&gqa, &long, &output, &[]);
    assert!(
        String::from_utf8(done.stderr)
            .unwrap()
            .contains("exceed the model's context of 128")
    );
    // what does not fit is the continuation, not the input
    std::fs::write(&long, "a b c").unwrap();
    let done = reference(&gqa, &long, &output, &["--generate", "128"]);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        said.contains("--generate 128") && said.contains("has 128 positions"),
        "{said}"
    );
    assert_eq!(sottoc(&[&"reference"]).status.code(), Some(2));
    assert!(!output.exists());
}

#[test]
fn a_golden_that_gives_way_and_a_tokenizer_that_is_missing_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (text, output) = (dir.path().join("in.txt"), dir.path().join("out"));
    std::fs::write(&text, "a b c").unwrap();
    let model = common::copy("llama-gqa");
    let said = |done: Output| String::from_utf8(done.stderr).unwrap();
    assert_eq!(said(reference(model.path(), &text, &output, &[])), "");
    let again = said(reference(model.path(), &text, &output, &[]));
    assert_eq!(again, format!("replacing {}\n", output.display()));

    std::fs::remove_file(model.path().join("tokenizer.json")).unwrap();
    let done = reference(model.path(), &text, &output, &[]);
    assert_eq!(done.status.code(), Some(2));
    let error = said(done);
    assert!(error.contains("tokenizer.json is missing"), "{error}");
}

#[test]
fn help_shows_examples() {
    let help = String::from_utf8(sottoc(&[&"reference", &"--help"]).stdout).unwrap();
    assert!(help.contains("Examples:") && help.contains("--generate"));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "a search over 32 layers: run in release")]
fn a_preset_of_eight_billion_weights_is_planned_without_them() {
    let estimate = |more: &[&dyn AsRef<std::ffi::OsStr>]| {
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"estimate", &"--preset"];
        arguments.extend(more);
        sottoc(&arguments)
    };
    let once = || estimate(&[&"llama-3-8b", &"--context", &"512", &"--json"]);
    let (first, second) = (once(), once());
    assert!(first.status.success());
    assert_eq!(first.stdout, second.stdout);
    let found: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    let token = &found["token"];
    let count = |of: &serde_json::Value, what: &str| of[what].as_u64().unwrap();
    // padded width² / slots for each matrix, halved where two are one complex product: 3,712 a layer, keys and values once per KV
    // head, and 8,192 for the head
    let matrices = count(token, "matrix_products");
    assert!(
        (32 * 3000..=32 * 3712 + 8192).contains(&matrices),
        "{matrices}"
    );
    let said = String::from_utf8(first.stderr).unwrap();
    assert!(said.contains("once per KV head"), "{said}");
    // a token has few slots beside its features, and 512 are cached
    assert!(said.contains("keys and values in diagonals"), "{said}");
    assert!(count(token, "mask_products") < 32 * 600);
    let bootstraps = token["bootstraps"].as_array().unwrap();
    let total: u64 = bootstraps.iter().map(|b| count(b, "count")).sum();
    assert!(total <= 32 * 6, "{bootstraps:?}");
    let dense = token["dense_bootstraps"].as_f64().unwrap();
    assert!(dense > 1.0 && dense < total as f64, "{dense}");
    // Layers and head add up to the token.
    let templates = found["templates"].as_array().unwrap();
    for what in [
        "matrix_products",
        "mask_products",
        "products",
        "rotations",
        "key_switches",
        "encodings",
        "stored_plaintexts",
        "kv_bytes",
    ] {
        let each = templates
            .iter()
            .map(|t| count(t, "count") * count(&t["each"], what));
        assert_eq!(each.sum::<u64>(), count(token, what), "{what}");
    }
    assert_eq!(count(token, "kv_bytes"), count(&found, "state_bytes"));
    let (sum, stated) = (
        token["seconds"].as_f64().unwrap(),
        found["seconds"].as_f64().unwrap(),
    );
    assert!((sum / stated - 1.0).abs() < 1e-9, "{sum} {stated}");
    // eight query heads to a key head, but narrow: where products are dear, their copies cost more
    let prices = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tables/slower.ron");
    let narrow = [
        "tinyllama-1.1b",
        "--context",
        "2048",
        "--cost-table",
        prices,
    ];
    let narrow = estimate(&narrow.each_ref().map(|a| a as &dyn AsRef<std::ffi::OsStr>));
    let said = String::from_utf8(narrow.stderr).unwrap();
    assert!(narrow.status.success() && !said.contains("once per KV head"));
    // one group holds all that is cached
    let short = estimate(&[&"tinyllama-1.1b", &"--context", &"16"]);
    let said = String::from_utf8(short.stderr).unwrap();
    assert!(short.status.success() && !said.contains("in diagonals"));
    let unknown = estimate(&[&"llama-9"]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        said.contains("llama-9") && said.contains("tinyllama-1.1b"),
        "{said}"
    );
}

#[test]
fn a_table_of_matrices_by_their_coefficients_says_what_they_take() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("card.ron");
    let mut table = sotto_compiler::cost::committed().unwrap();
    assert!(!table.print().unwrap().contains("compact"));
    table.compact = true;
    std::fs::write(&path, table.print().unwrap()).unwrap();
    let said = |form: &[&'static str]| {
        let mut words: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![
            &"estimate",
            &concat!(env!("CARGO_MANIFEST_DIR"), "/../models/tiny"),
            &"--context",
            &"16",
            &"--cost-table",
            &path,
        ];
        words.extend(form.iter().map(|word| word as &dyn AsRef<std::ffi::OsStr>));
        String::from_utf8(sottoc(&words).stdout).unwrap()
    };
    let line: serde_json::Value = serde_json::from_str(&said(&["--json"])).unwrap();
    let bytes = line["coefficient_bytes"].as_f64().unwrap();
    let said = said(&[]);
    assert!(!said.contains("encoding them anew"), "{said}");
    let (_, gib) = said.split_once("by their coefficients, in ").expect(&said);
    let gib: f64 = gib.split(' ').next().unwrap().parse().unwrap();
    assert!((0.01..1.0).contains(&gib), "{said}");
    assert!((bytes / f64::from(1 << 30) - gib).abs() < 0.005, "{said}");
}

#[test]
fn what_is_estimated_is_one_model_placed_by_a_placer_there_is() {
    let said = |arguments: &[&dyn AsRef<std::ffi::OsStr>]| {
        let done = sottoc(arguments);
        assert_eq!(done.status.code(), Some(2));
        String::from_utf8(done.stderr).unwrap()
    };
    let tiny = root().join("models/tiny");
    for command in ["estimate", "ablate"] {
        assert!(said(&[&command]).contains("<MODEL|--preset <NAME>>"));
        let both = said(&[&command, &tiny, &"--preset", &"tinyllama-1.1b"]);
        assert!(both.contains("cannot be used with"), "{both}");
        let nowhere = said(&[&command, &"nowhere"]);
        assert!(nowhere.contains("nowhere"), "{nowhere}");
    }
    let unknown = said(&[&"estimate", &tiny, &"--placement", &"best"]);
    assert!(unknown.contains("min-cut"), "{unknown}");
}
