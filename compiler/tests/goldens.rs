//! The float64 reference against goldens that the transformers library computed.

mod common;

use common::{MODELS, fixture, root};
use sotto_compiler::frontend::Checkpoint;
use sotto_compiler::reference::reference;
use sotto_ir::decoder::Interpreter;
use sotto_ir::golden::{Array, Golden};
use std::path::Path;

/// Largest difference relative to the largest entry of the vector (the innermost extent) it is in.
fn distance(name: &str, ours: &Array, golden: &Array) -> f64 {
    assert_eq!(ours.shape, golden.shape, "{name}");
    let width = golden.shape.last().copied().unwrap();
    let rows = ours
        .data
        .chunks_exact(width)
        .zip(golden.data.chunks_exact(width));
    let distances = rows.map(|(a, b)| {
        let scale = b.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let difference = a
            .iter()
            .zip(b)
            .fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        difference / scale
    });
    // NaN is no distance: it must not be lost in a maximum.
    distances.fold(0.0, |m, d| if d <= m { m } else { d })
}

fn close(model: &str, name: &str, ours: &Array, golden: &Array) {
    let distance = distance(name, ours, golden);
    assert!(distance < 1e-9, "{model} {name}: {distance:e}");
}

fn compare(model: &str, checkpoint: &Path, golden: &Path) {
    let golden = Golden::read(golden).unwrap();
    let checkpoint = Checkpoint::open(checkpoint).unwrap();
    let decoder = checkpoint.decoder().unwrap();
    let interpreter = Interpreter::new(&decoder, &checkpoint).unwrap();
    let ours = reference(
        &interpreter,
        &golden.input_ids,
        3,
        golden.greedy_ids.len() - 3,
        &mut |_| (),
    )
    .unwrap();
    assert_eq!(ours.input_ids, golden.input_ids);
    close(model, "logits", &ours.logits, &golden.logits);
    close(
        model,
        "logits.stepwise",
        &ours.logits_stepwise,
        &golden.logits_stepwise,
    );
    for (name, ours, golden) in [
        ("hidden", &ours.hidden, &golden.hidden),
        ("keys", &ours.keys, &golden.keys),
        ("values", &ours.values, &golden.values),
    ] {
        assert_eq!(ours.len(), golden.len(), "{model} {name}");
        for (i, (ours, golden)) in ours.iter().zip(golden).enumerate() {
            close(model, &format!("{name}.{i}"), ours, golden);
        }
    }
    assert_eq!(ours.greedy_ids, golden.greedy_ids, "{model}");
}

#[test]
fn every_fixture_agrees_with_its_golden() {
    for model in MODELS {
        compare(
            model,
            &fixture(model),
            &fixture(model).join("golden.safetensors"),
        );
    }
}

#[test]
fn the_bundled_model_agrees_with_its_golden() {
    let golden = fixture("tiny-golden").join("golden.safetensors");
    compare("tiny", &root().join("models/tiny"), &golden);
}
