//! `sottoc inspect` and `sottoc compare` as a user meets them.

mod common;

use common::{done, edit, fixture, refusal};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::LazyLock;

/// A compiled fixture with its dumps, on an INSECURE test ring.
struct Compiled {
    dir: tempfile::TempDir,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let output = Command::new(env!("CARGO_BIN_EXE_sottoc"))
        .arg("compile")
        .arg(fixture("llama-gqa"))
        .args(["--insecure-ring", "12", "--context", "24", "-o"])
        .arg(path("plan"))
        .arg("--dump-dir")
        .arg(path("dumps"))
        .output()
        .unwrap();
    done(output);
    Compiled { dir }
});

fn path(name: &str) -> PathBuf {
    COMPILED.dir.path().join(name)
}

fn sottoc(arguments: &str) -> Output {
    let model = fixture("llama-gqa");
    let golden = model.join("golden.safetensors");
    let words = arguments.split(' ').map(|word| match word {
        "MODEL" => model.clone().into_os_string(),
        "GOLDEN" => golden.clone().into_os_string(),
        word => word.into(),
    });
    Command::new(env!("CARGO_BIN_EXE_sottoc"))
        .args(words)
        .current_dir(COMPILED.dir.path())
        .output()
        .unwrap()
}

#[test]
fn a_plan_is_shown_by_site_and_a_part_of_it_by_operation() {
    let all = done(sottoc("inspect plan"));
    for word in [
        "program decode",
        "program prefill",
        "1 bootstrapped",
        "16→15",
    ] {
        assert!(all.contains(word), "{word}: {all}");
    }
    let site = done(sottoc(
        "inspect plan --site layers.1.mlp.gate_proj --program decode",
    ));
    assert!(
        site.contains("linear") && !site.contains("layers.0-0"),
        "{site}"
    );
    let said = refusal(sottoc("inspect plan --site layers.{i}.mlp.gateproj"));
    assert!(
        said.contains("did you mean layers.{i}.mlp.gate_proj"),
        "{said}"
    );
    let said = refusal(sottoc("inspect plan --template layer.0-0"));
    assert!(said.contains("did you mean layers.0-0"), "{said}");
}

#[test]
fn every_stage_can_be_shown_without_its_weights() {
    for (stage, word) in [
        ("decoder", "rmsnorm"),
        ("packed", "template layers.0-0"),
        ("leveled", "rescale"),
    ] {
        let shown = done(sottoc(&format!("inspect dumps --stage {stage}")));
        assert!(
            shown.contains(word) && shown.contains("q_proj.weight"),
            "{shown}"
        );
        let json = done(sottoc(&format!("inspect dumps --stage {stage} --json")));
        let page: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(page["stage"], stage);
        assert!(page["programs"][0]["templates"].as_array().unwrap().len() >= 3);
    }
    let said = refusal(sottoc("inspect plan --stage packed"));
    assert!(said.contains("--dump-dir"), "{said}");
    let said = refusal(sottoc("inspect GOLDEN"));
    assert!(said.contains("sottoc compare"), "{said}");
}

#[test]
fn a_template_is_drawn_and_only_one_at_a_time() {
    let dot = done(sottoc(
        "inspect plan --program decode --template layers.0-0 --dot",
    ));
    assert!(
        dot.starts_with("digraph \"layers.0-0\" {") && dot.ends_with("}\n"),
        "{dot}"
    );
    assert!(dot.contains("\"%0\" -> \"%1\";"), "{dot}");
    let said = refusal(sottoc("inspect plan --program decode --dot"));
    assert!(
        said.contains("--template") && said.contains("layers.1-1"),
        "{said}"
    );
}

#[test]
fn whoever_reads_enough_hears_no_complaint() {
    for arguments in ["inspect plan", "compare plan plan"] {
        let sottoc = env!("CARGO_BIN_EXE_sottoc");
        let script = format!("set -o pipefail; (sleep 0.2; {sottoc} {arguments}) | true");
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(path(""))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && said.is_empty(),
            "{arguments}: {said}"
        );
    }
}

#[test]
fn stages_plan_and_golden_of_one_model_agree() {
    let (decoder, packed) = ("dumps/01.decoder.txt", "dumps/02.packed.decode.txt");
    let leveled = "dumps/03.leveled.decode.txt";
    for (a, b, by) in [
        (packed, leveled, "operations"),
        (leveled, "plan", "operations"),
        ("plan", "plan", "operations"),
        (decoder, packed, "sites"),
        (decoder, "plan", "sites"),
        ("GOLDEN", decoder, "sites"),
        ("GOLDEN", "plan", "sites"),
    ] {
        let line = done(sottoc(&format!("compare {a} {b} --model MODEL --json")));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["agree"], true, "{a} {b}: {line}");
        assert_eq!(line["aligned_by"], by, "{a} {b}");
        assert_eq!(line["steps"], 8, "{a} {b}");
        assert!(line["values"].as_u64().unwrap() >= 16, "{a} {b}: {line}");
    }
}

#[test]
fn an_edit_is_named_where_it_matters_first() {
    let packed = path("dumps/02.packed.decode.txt");
    let edited = path("edited.packed");
    std::fs::copy(&packed, &edited).unwrap();
    edit(&edited, "rotate %14, by=128", "rotate %14, by=124");
    let at = |output: Output| -> Value {
        assert_eq!(output.status.code(), Some(1));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let original = "dumps/02.packed.decode.txt";
    let line = at(sottoc(&format!(
        "compare {original} edited.packed --model MODEL --json"
    )));
    assert_eq!(line["divergence"]["site"], "layers.0.attention.kv_append");
    assert_eq!(line["divergence"]["op"], "rotate");
    assert_eq!(line["declared_otherwise"][0]["what"], "rotation");
    // against the model itself, where the wrong key is first read: after the second token
    let line = at(sottoc(
        "compare dumps/01.decoder.txt edited.packed --model MODEL --json",
    ));
    assert_eq!(line["divergence"]["site"], "layers.0.attention.attend");
    assert_eq!(line["divergence"]["position"], 1);
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_remedy() {
    let packed = "dumps/02.packed.decode.txt";
    let said = refusal(sottoc(&format!("compare {packed} plan")));
    assert!(said.contains("--model"), "{said}");
    let other = fixture("llama-variants");
    let other = other.to_str().unwrap();
    let said = refusal(sottoc(&format!("compare {packed} plan --model {other}")));
    assert!(said.contains("made from checkpoint"), "{said}");
    let said = refusal(sottoc("compare plan plan --input 1,300"));
    assert!(
        said.contains("token 300") && said.contains("vocabulary of 300"),
        "{said}"
    );
    let said = refusal(sottoc("compare plan plan --input nowhere"));
    assert!(said.contains("nowhere"), "{said}");
    let said = refusal(sottoc("compare plan GOLDEN --input 1,2"));
    assert!(said.contains("its own tokens"), "{said}");
}

/// What slots hold otherwise than the decoder has it: biases after their products, heads interleaved, a stream without its mean.
#[test]
fn models_with_biases_compare_at_every_site_too() {
    for (name, pin) in [
        ("llama-variants", "layers.{i}.attention.o_proj=inputs"),
        ("gpt2", "layers.{i}.attention.o_proj=inputs"),
        ("gpt2", "layers.{i}.attention.attend=inside:8"),
    ] {
        let (dir, model) = (tempfile::tempdir().unwrap(), fixture(name));
        let run = |arguments: &[&str]| {
            let words = arguments.iter().map(|word| match *word {
                "MODEL" => model.clone().into_os_string(),
                "GOLDEN" => model.join("golden.safetensors").into_os_string(),
                word => word.into(),
            });
            let mut sottoc = Command::new(env!("CARGO_BIN_EXE_sottoc"));
            done(sottoc.args(words).current_dir(dir.path()).output().unwrap())
        };
        let compile = "compile MODEL --insecure-ring 11 --context 24 --block 1 -o plan --dump-dir dumps --pin";
        let compile: Vec<&str> = compile.split(' ').chain([pin]).collect();
        run(&compile);
        let decoder = "dumps/01.decoder.txt";
        for (a, b) in [
            (decoder, "dumps/02.packed.decode.txt"),
            (decoder, "plan"),
            ("GOLDEN", "plan"),
            ("GOLDEN", decoder),
        ] {
            let said = run(&["compare", a, b, "--model", "MODEL"]);
            assert!(said.contains("no value differs"), "{name}, {a} {b}: {said}");
            assert!(said.contains("8 whole steps"), "{name}, {a} {b}: {said}");
        }
    }
}
