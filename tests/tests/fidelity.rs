//! The bundled model at secure-128 with the scheme's noise, against float64 on text it was never trained on: teacher-forced over 128
//! positions of one conversation, and free-running over 64 tokens.
//!
//! Ciphertexts are replaced by cleartext slots with the noise of every operation (which `noise.rs` holds against the scheme), so
//! that minutes suffice for what would take an hour.

use sotto_compiler::frontend::Checkpoint;
use sotto_compiler::input;
use sotto_compiler::reference::reference;
use sotto_ir::decoder::Interpreter;
use sotto_ir::fidelity::{Agreement, Fidelity, largest, most_likely};
use sotto_ir::golden::Golden;
use sotto_ir::slot::StateId;
use sotto_tests::*;
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// What `sotto check` allows, in standard deviations of the float64 logits.
const TOLERANCE: f64 = 0.02;
const TEACHER_FORCED: usize = 128;
const FREE_RUNNING: usize = 64;
const PROMPT: &str = "Once upon a time";

static TINY: LazyLock<Compiled> = LazyLock::new(|| compile_tiny().unwrap());

/// Float64's word on a text: its first `tokens` tokens, and `generate` more after those.
fn truth(text: &str, tokens: usize, generate: usize) -> Result<Golden> {
    let checkpoint = Checkpoint::open(&tiny())?;
    let dir = tempfile::TempDir::new()?;
    let path = dir.path().join("text.txt");
    std::fs::write(&path, text)?;
    let mut ids = input::sequence(&checkpoint, &path)?;
    ids.truncate(tokens);
    let decoder = checkpoint.decoder()?;
    let interpreter = Interpreter::new(&decoder, &checkpoint)?;
    Ok(reference(
        &interpreter,
        &ids,
        ids.len(),
        generate,
        &mut |_| (),
    )?)
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn held_out_text_is_read_as_in_float64() {
    let heldout = std::fs::read_to_string(tiny().join("heldout.txt")).unwrap();
    let story = heldout.lines().next().unwrap();
    let truth = truth(story, TEACHER_FORCED, 0).unwrap();
    assert_eq!(truth.input_ids.len(), TEACHER_FORCED);
    let mut run = clear(&TINY.plan, Some(1)).unwrap();
    let steps: Vec<Fidelity> = truth
        .input_ids
        .iter()
        .enumerate()
        .map(|(t, &id)| Fidelity::of(&run.step(id).unwrap(), truth.logits.row(t)).unwrap())
        .collect();
    let top1 = Agreement::of(&steps, TOLERANCE);
    let worst = largest(steps.iter().map(|f| f.error_sigma));
    println!(
        "top-1 agrees in {} of {} positions compared; largest error {worst:.6} σ",
        top1.agree, top1.compared
    );
    // Few near-ties, else agreement would say little.
    assert!(top1.compared >= TEACHER_FORCED * 9 / 10);
    assert!(top1.share() >= 0.98);
    assert!(worst < TOLERANCE, "{worst} σ");
    let escapes = run.ranges().escapes();
    assert!(escapes.is_empty(), "{escapes:?}");
}

/// With a matrix of keys and one of values for 64 tokens: the third pair is entered.
#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn keys_and_values_in_several_matrices_are_read_as_in_float64() {
    const POSITIONS: usize = 136;
    let pins = ["layers.{i}.attention.attend=diagonals:2"];
    let compiled = compile_with_pins(&pins, tiny_request).unwrap();
    let plan = compiled.plan.plan();
    assert_eq!(plan.tables().tokens(StateId(0)), Some(64));
    let heldout = std::fs::read_to_string(tiny().join("heldout.txt")).unwrap();
    let story = heldout.lines().next().unwrap();
    let truth = truth(story, POSITIONS, 0).unwrap();
    assert_eq!(truth.input_ids.len(), POSITIONS);
    let mut run = clear(&compiled.plan, None).unwrap();
    for (t, &id) in truth.input_ids.iter().enumerate() {
        let step = Fidelity::of(&run.step(id).unwrap(), truth.logits.row(t)).unwrap();
        assert!(step.error_sigma < TOLERANCE, "{t}: {} σ", step.error_sigma);
    }
    let escapes = run.ranges().escapes();
    assert!(escapes.is_empty(), "{escapes:?}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn a_free_running_continuation_leaves_float64_at_a_near_tie_if_at_all() {
    let prompt = truth(PROMPT, usize::MAX, FREE_RUNNING).unwrap();
    let expected = &prompt.greedy_ids[prompt.input_ids.len()..];
    let mut run = clear(&TINY.plan, Some(2)).unwrap();
    let mut logits = Vec::new();
    for &id in &prompt.input_ids {
        logits = run.step(id).unwrap();
    }
    let mut made = vec![most_likely(&logits)];
    while made.len() < FREE_RUNNING {
        made.push(most_likely(&run.step(*made.last().unwrap()).unwrap()));
    }
    let distinct: BTreeSet<u32> = made.iter().copied().collect();
    println!("{} tokens, {} distinct", made.len(), distinct.len());
    assert!(distinct.len() >= 20, "{made:?}");
    if let Some(at) = made.iter().zip(expected).position(|(m, e)| m != e) {
        let gap = gap_after(&prompt.greedy_ids[..prompt.input_ids.len() + at]);
        println!("token {at} differs, where float64's gap is {gap:.4} σ");
        assert!(
            gap < 2.0 * TOLERANCE,
            "token {at} differs at a gap of {gap} σ"
        );
    }
}

/// Distance of float64's two most likely tokens after `ids`, in σ.
fn gap_after(ids: &[u32]) -> f64 {
    let checkpoint = Checkpoint::open(&tiny()).unwrap();
    let decoder = checkpoint.decoder().unwrap();
    let interpreter = Interpreter::new(&decoder, &checkpoint).unwrap();
    let golden = reference(&interpreter, ids, ids.len(), 0, &mut |_| ()).unwrap();
    let last = golden.logits.row(ids.len() - 1);
    Fidelity::of(last, last).unwrap().gap_sigma
}

/// Text that begins as no calibration story does, or is no story at all.
const OTHERWISE: [&str; 6] = [
    "The old king and Anna were very good",
    "Tom and Anna went",
    "Ben and Anna",
    "What is 2+2?",
    "def main(): return 0",
    "was broke played only was bridge. They rest. Now friend of Lily",
];

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn conversations_may_begin_as_they_like() {
    for text in OTHERWISE {
        let truth = truth(text, usize::MAX, 0).unwrap();
        let mut run = clear(&TINY.plan, Some(3)).unwrap();
        let ids = truth.input_ids.iter().enumerate();
        let errors = ids.map(|(t, &id)| {
            let found = Fidelity::of(&run.step(id).unwrap(), truth.logits.row(t)).unwrap();
            found.error_sigma
        });
        let worst = largest(errors);
        println!("{worst:.6} σ: {text}");
        assert!(worst < TOLERANCE, "{text}: {worst} σ");
        let escapes = run.ranges().escapes();
        assert!(escapes.is_empty(), "{text}: {escapes:?}");
    }
}
