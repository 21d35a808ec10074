//! Fixture checkpoints, and copies of them to damage.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod graph;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

/// The Llama checkpoints that have goldens beside them.
pub const LLAMAS: [&str; 3] = ["llama-gqa", "llama-tied-sharded", "llama-variants"];

/// All checkpoints that have goldens beside them.
pub const MODELS: [&str; 4] = [LLAMAS[0], LLAMAS[1], LLAMAS[2], "gpt2"];

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A fixture's directory.
pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

/// A writable copy of a checkpoint.
pub fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        std::fs::write(dir.path().join(path.file_name().unwrap()), content).unwrap();
    }
    dir
}

/// Every file below a directory, by path.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(
                files(&path).into_iter().map(|(name, bytes)| {
                    (PathBuf::from(path.file_name().unwrap()).join(name), bytes)
                }),
            );
        } else {
            let name = PathBuf::from(path.file_name().unwrap());
            found.insert(name, std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Standard output of a command that succeeded.
pub fn done(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that refused its input.
pub fn refusal(output: Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// Replaces text in a copied file.
pub fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{} has no {from}", path.display());
    std::fs::write(path, text.replace(from, to)).unwrap();
}

/// Rewrites a safetensors file, each tensor changed or left out by `change`.
pub fn rewrite(path: &Path, change: impl Fn(&str, &mut Stored) -> bool) {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        let mut stored = Stored {
            dtype: view.dtype(),
            shape: view.shape().into(),
            bytes: view.data().into(),
        };
        if change(&name, &mut stored) {
            tensors.push((name, stored));
        }
    }
    let views = tensors.iter().map(|(name, stored)| {
        let view =
            safetensors::tensor::TensorView::new(stored.dtype, stored.shape.clone(), &stored.bytes);
        (name, view.unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A tensor as stored.
pub struct Stored {
    pub dtype: safetensors::Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}
