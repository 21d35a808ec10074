//! Reference = plan in the clear = decrypted result, on an INSECURE test ring with real bootstrapping.
//!
//! The truth is the goldens that the transformers library computed. Rings are small so that KV groups are too: the cache here
//! fills at least three, and every step, so every group boundary, is compared.

use sotto_ckks::Context;
use sotto_ir::fidelity::Fidelity;
use sotto_ir::golden::Golden;
use sotto_ir::params::ParamSet;
use sotto_ir::plan::Placement;
use sotto_ir::slot::{Form, Layout, Matrix, Pairing, StateDecl, StateId};
use sotto_runtime::cipher::request;
use sotto_runtime::client::Tokens;
use sotto_runtime::trial::{CipherTrial, ClearTrial};
use sotto_tests::*;
use std::collections::BTreeMap;

fn golden(name: &str) -> Golden {
    Golden::read(&fixture(name).join("golden.safetensors")).expect("fixtures are whole")
}

fn error(logits: &[f64], truth: &[f64]) -> f64 {
    Fidelity::of(logits, truth).unwrap().error_sigma
}

/// KV groups that `steps` tokens occupy.
fn groups(compiled: &Compiled, steps: usize) -> u32 {
    let tokens = compiled.plan.plan().tables().tokens(StateId(0));
    (steps as u32).div_ceil(tokens.expect("a plan has KV state"))
}

/// What the search would rather not do on a ring this small: tokens inside the features, spread and gathered vectors, halves of
/// diagonals as complex ones, keys once per KV head.
const PINS: [&str; 6] = [
    "layers.{i}.attention.attend=inside:4",
    "layers.{i}.mlp.up_proj=spread:2",
    "layers.{i}.mlp.down_proj=inputs",
    "layers.{i}.attention.q_proj=inputs",
    "layers.{i}.attention.k_proj=once",
    "layers.{i}.attention.v_proj=once",
];

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn a_cache_of_several_groups_agrees_decrypted_and_in_the_clear() {
    // as larger rings have it: with room for blocks, several groups
    let compiled = agrees(
        "llama-variants",
        &["layers.{i}.attention.attend=inside:2"],
        3,
    );
    assert!(compiled.plan.plan().prefill.is_some());
}

/// Learned positions, LayerNorm and GELU, on the ciphertexts of blocks and of single tokens.
#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn gpt2_agrees_decrypted_and_in_the_clear() {
    let plan = agrees("gpt2", &[], 2).plan;
    assert!(plan.plan().client.learned_positions && plan.plan().prefill.is_some());
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn so_it_does_with_every_kernel_that_larger_rings_want() {
    let compiled = agrees("llama-variants", &PINS, 3);
    let decode = &compiled.plan.plan().decode;
    let has = |wanted: fn(&Matrix) -> bool| decode.matrices.iter().any(wanted);
    assert!(has(|m| matches!(m.form, Form::Spread { stride: 2.. })));
    assert!(has(|m| matches!(m.form, Form::Gather { stride: 2.. })));
    assert!(has(|m| m.pairing == Pairing::Inputs));
    // 2 KV heads of 16 lanes, for 8 query heads
    assert!(has(|m| m.name.contains("k_proj") && m.out_width == 32));
    let inside = |state: &StateDecl| matches!(state.ty.layout, Layout::Tokens(g) if g.inner == 4);
    assert!(decode.states.iter().all(inside));
    assert!(compiled.plan.plan().prefill.is_none());
}

/// A prompt in blocks, the last one not full, then single tokens that read what the blocks have left: all on one key set, and at every
/// block and token as the golden says.
fn agrees_in_blocks(
    compiled: &Compiled,
    golden: &Golden,
    clear: &mut ClearTrial,
    cipher: &mut CipherTrial,
) {
    let block = compiled.plan.plan().block() as usize;
    assert!(block > 1);
    let (prompt, rest) = golden.input_ids.split_at(2 * block + 1);
    let blocks = prompt.chunks(block).map(Tokens::Block);
    let mut cached = 0;
    for tokens in blocks.chain(rest.iter().copied().map(Tokens::One)) {
        cached += tokens.count() as usize;
        let truth = golden.logits.row(cached - 1);
        let in_clear = error(&clear.run(tokens).unwrap(), truth);
        let decrypted = error(&cipher.run(tokens).unwrap(), truth);
        println!("{cached} cached: {in_clear:.5} σ in the clear, {decrypted:.5} σ decrypted");
        assert!(in_clear < 0.01, "{tokens:?}: {in_clear} σ in the clear");
        assert!(decrypted < 0.02, "{tokens:?}: {decrypted} σ decrypted");
    }
    let late = clear.run(Tokens::Block(&prompt[..block])).unwrap_err();
    assert!(late.to_string().contains("no block"), "{late}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn so_it_does_with_keys_and_values_in_diagonals() {
    // a group holds more tokens than the golden has; several groups are another test's
    let compiled = agrees(
        "llama-variants",
        &["layers.{i}.attention.attend=diagonals:4"],
        1,
    );
    let plan = compiled.plan.plan();
    let matrix =
        |state: &StateDecl| matches!(state.ty.layout, Layout::Matrix(m) if m.tokens() == 64);
    assert!(plan.decode.states.iter().all(matrix));
    assert!(plan.prefill.is_none());
}

/// 2 KV heads for 8 query heads: four parts, four times the tokens in a group.
#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn so_it_does_with_keys_and_values_stored_once_per_kv_head() {
    let pins = [
        "layers.{i}.attention.attend=diagonals:2",
        "layers.{i}.attention.attend=stored-once",
    ];
    let compiled = agrees("llama-variants", &pins, 1);
    let once = |state: &StateDecl| {
        let Layout::Matrix(m) = state.ty.layout else {
            return false;
        };
        (m.heads, m.inner, m.tokens()) == (2, 8, 128)
    };
    assert!(compiled.plan.plan().decode.states.iter().all(once));
}

fn agrees(name: &str, pins: &[&str], least: u32) -> Compiled {
    let compiled = compile_pinned(name, ParamSet::insecure_test(10), 24, pins).unwrap();
    let golden = golden(name);
    let groups = groups(&compiled, golden.input_ids.len());
    assert!(groups >= least, "{groups} groups");
    let mut clear = self::clear(&compiled.plan, None).unwrap();
    let mut cipher = cipher(&compiled.plan).unwrap();
    for (t, &token) in golden.input_ids.iter().enumerate() {
        let truth = golden.logits.row(t);
        let in_clear = error(&clear.step(token).unwrap(), truth);
        let decrypted = error(&cipher.step(token).unwrap(), truth);
        println!("step {t}: {in_clear:.5} σ in the clear, {decrypted:.5} σ decrypted");
        assert!(in_clear < 0.01, "step {t}: {in_clear} σ in the clear");
        assert!(decrypted < 0.02, "step {t}: {decrypted} σ decrypted");
    }
    if compiled.plan.plan().prefill.is_some() {
        clear = self::clear(&compiled.plan, None).unwrap();
        cipher.restart();
        agrees_in_blocks(&compiled, &golden, &mut clear, &mut cipher);
    }
    let escapes = clear.ranges().escapes();
    assert!(escapes.is_empty(), "{escapes:?}");
    // What the evaluator was asked for, bootstraps included, is the plan's key list: each key at its level, none idle.
    let plan = compiled.plan.plan();
    let context = Context::new(plan.params.clone()).unwrap();
    let listed: BTreeMap<_, _> = request(&plan.keys, &context).kinds().into_iter().collect();
    let used: BTreeMap<_, _> = cipher
        .executor()
        .backend()
        .keys()
        .uses()
        .into_iter()
        .collect();
    assert_eq!(used, listed);
    compiled
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn every_fixture_agrees_in_the_clear_at_secure_128() {
    for name in ["llama-gqa", "llama-tied-sharded", "llama-variants", "gpt2"] {
        let compiled = compile_fixture(name, ParamSet::secure_128(), 24).unwrap();
        let golden = golden(name);
        let mut single = clear(&compiled.plan, None).unwrap();
        for (t, &token) in golden.input_ids.iter().enumerate() {
            let error = error(&single.step(token).unwrap(), golden.logits.row(t));
            assert!(error < 0.02, "{name}, step {t}: {error} σ");
        }
        let block = compiled.plan.plan().block() as usize;
        assert!(block > 1, "{name}");
        let mut prefilled = clear(&compiled.plan, None).unwrap();
        let mut cached = 0;
        for tokens in golden.input_ids.chunks(block) {
            cached += tokens.len();
            let logits = prefilled.run(Tokens::Block(tokens)).unwrap();
            let error = error(&logits, golden.logits.row(cached - 1));
            assert!(error < 0.02, "{name}, {cached} cached: {error} σ");
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn either_end_may_be_the_other_sides_in_blocks_and_after_them() {
    for name in ["llama-tied-sharded", "gpt2"] {
        either_end_of(name);
    }
}

fn either_end_of(name: &str) {
    let params = ParamSet::insecure_test(11);
    let golden = golden(name);
    let (embedding, head) = (Placement::Server, Placement::Client);
    let compiled = compile_ends(name, params, 24, embedding, head).unwrap();
    let block = compiled.plan.plan().block() as usize;
    assert!(block > 1);
    // the last block is not full, and single tokens follow
    let (prompt, rest) = golden.input_ids.split_at(2 * block - 1);
    let blocks = prompt.chunks(block).map(Tokens::Block);
    let mut trial = clear(&compiled.plan, None).unwrap();
    let mut cached = 0;
    for tokens in blocks.chain(rest.iter().copied().map(Tokens::One)) {
        cached += tokens.count() as usize;
        let error = error(&trial.run(tokens).unwrap(), golden.logits.row(cached - 1));
        assert!(error < 0.02, "{name}, {cached} cached: {error} σ");
    }
}
