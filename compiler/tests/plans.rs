//! `sottoc compile` to a plan and `sottoc verify` of it, sound and damaged, on an INSECURE ring.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/llama-gqa")
}

fn compile(plan: &Path) {
    let out = Command::new(env!("CARGO_BIN_EXE_sottoc"))
        .args(["compile", "--insecure-ring", "11", "--context", "24", "-o"])
        .arg(plan)
        .arg(fixture())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

fn verify(plan: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sottoc"))
        .arg("verify")
        .arg(plan)
        .args(more)
        .output()
        .unwrap()
}

/// Rewrites the plan's text under a header that fits it, as a compiler with a bug would.
fn rewrite(plan: &Path, edit: impl Fn(&str) -> String) {
    let path = plan.join("plan.ron");
    let text = std::fs::read_to_string(&path).unwrap();
    let (header, body) = text.split_once('\n').unwrap();
    let edited = edit(body);
    assert_ne!(edited, body, "the edit found nothing");
    let (prefix, _) = header.rsplit_once(' ').unwrap();
    let digest = blake3::hash(edited.as_bytes()).to_hex();
    std::fs::write(&path, format!("{prefix} blake3:{digest}\n{edited}")).unwrap();
}

#[test]
fn verify_accepts_what_compile_writes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let plan = dir.path().join("plan");
    compile(&plan);
    let sound = verify(&plan, &["--summary", "--json"]);
    let said = String::from_utf8_lossy(&sound.stdout).to_string();
    assert_eq!(
        sound.status.code(),
        Some(0),
        "{said}{}",
        String::from_utf8_lossy(&sound.stderr)
    );
    let line: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&line["sound"], &line["security_bits"]),
        (&true.into(), &0.into())
    );
    assert!(
        line["bootstraps_per_token"].as_u64().unwrap() >= 2,
        "{line}"
    );

    // The same input gives the same plan, byte for byte.
    let again = dir.path().join("again");
    compile(&again);
    let bytes = |p: &Path| std::fs::read(p.join("plan.ron")).unwrap();
    assert!(bytes(&plan) == bytes(&again));

    // A missing rotation key is a broken rule: exit 1.
    rewrite(&again, |body| {
        let list = body.find("galois: [").unwrap();
        let key = list + body[list..].find("(step: Some").unwrap();
        let end = key + body[key..].find('\n').unwrap();
        format!("{}{}", &body[..key], &body[end + 1..])
    });
    let broken = verify(&again, &["--json"]);
    assert_eq!(
        broken.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&broken.stderr)
    );
    assert!(String::from_utf8_lossy(&broken.stderr).contains("key"));

    // A changed or truncated file is no plan at all: exit 2, and the file is named.
    let array = std::fs::read_dir(plan.join("server"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let content = std::fs::read(&array).unwrap();
    std::fs::write(&array, &content[..content.len() - 1]).unwrap();
    let truncated = verify(&plan, &["--json"]);
    assert_eq!(truncated.status.code(), Some(2));
    let name = array.file_name().unwrap().to_string_lossy().to_string();
    let line: serde_json::Value = serde_json::from_slice(&truncated.stdout).unwrap();
    assert_eq!(line["sound"], false);
    assert!(line["error"].as_str().unwrap().contains(&name), "{line}");
    assert!(String::from_utf8_lossy(&truncated.stderr).contains(&name));
    assert_eq!(verify(&plan, &["--side", "client"]).status.code(), Some(0));
    let mut flipped = content.clone();
    flipped[content.len() / 2] ^= 1;
    std::fs::write(&array, flipped).unwrap();
    assert_eq!(verify(&plan, &[]).status.code(), Some(2));
    std::fs::write(&array, content).unwrap();
    assert_eq!(verify(&plan, &[]).status.code(), Some(0));
}
