//! Encrypted tokens by the kernels of the GPU backend, compiled for the processor: the same bytes as the CPU backend's, for every answer
//! of whole plans, on an INSECURE test ring. With SOTTO_CARD in the environment, by that card.

use sotto_ckks::engine::{Engine, Keep};
use sotto_ckks::{Ciphertext, Context, KeyGenerator, SecretKey};
use sotto_gpu::Gpu;
use sotto_gpu_host::Any;
use sotto_ir::exec::{Executor, Session, ignore};
use sotto_ir::fidelity::Fidelity;
use sotto_ir::golden::Golden;
use sotto_ir::params::ParamSet;
use sotto_runtime::cipher::{Ciphers, Cpu, Demand, Residence, Room, Stored, request};
use sotto_runtime::client::{CkksSealer, ClientModel, Tokens};
use sotto_tests::*;
use std::sync::Arc;

/// A plan on an engine, one answer after the other.
struct Run<E: Engine> {
    executor: Executor<Ciphers<E>>,
    session: Session<Stored<E>>,
}

impl<E: Engine> Run<E> {
    fn new(compiled: &Compiled, backend: Ciphers<E>) -> Self {
        let (plan, data) = (compiled.plan.plan().clone(), compiled.plan.data().unwrap());
        Self {
            executor: Executor::new(plan, data, backend, usize::MAX),
            session: Session::default(),
        }
    }

    /// The answer to one more token, which is then forgotten.
    fn undone(&mut self, tokens: Tokens<'_>, input: &Ciphertext) -> Vec<Ciphertext> {
        let before = self.session.clone();
        let answer = self.answer(tokens, input.clone());
        self.session = before;
        let evaluator = self.executor.backend().evaluator();
        let read = |bytes: &Vec<u8>| Ciphertext::from_bytes(evaluator.context(), bytes).unwrap();
        answer.iter().map(read).collect()
    }

    /// The answer's bytes.
    fn answer(&mut self, tokens: Tokens<'_>, input: Ciphertext) -> Vec<Vec<u8>> {
        let evaluator = self.executor.backend().evaluator();
        let input = vec![evaluator.upload(input)];
        let answer = match tokens {
            Tokens::One(_) => self.executor.decode(&mut self.session, input, &mut ignore),
            Tokens::Block(tokens) => {
                let count = tokens.len() as u32;
                self.executor
                    .prefill(&mut self.session, input, count, &mut ignore)
            }
        };
        let bytes = |ct| {
            evaluator
                .download(ct)
                .unwrap()
                .to_bytes(evaluator.context())
        };
        answer.unwrap().iter().map(bytes).collect()
    }
}

/// The first `steps` of a fixture, in blocks as far as the plan takes them.
fn same_answers(
    name: &str,
    pins: &[&str],
    in_blocks: usize,
    steps: usize,
    residence: impl FnOnce(Demand) -> Residence,
) {
    let compiled = compile_pinned(name, ParamSet::insecure_test(10), 24, pins).unwrap();
    let golden = Golden::read(&fixture(name).join("golden.safetensors")).unwrap();
    let plan = compiled.plan.plan();
    assert!(in_blocks == 0 || plan.block() > 1);
    let context = Context::new(plan.params.clone()).unwrap();
    let secret = SecretKey::generate(&context).unwrap();
    let wanted = request(&plan.keys, &context);
    let keys = KeyGenerator::new(&secret).evaluation_keys(&wanted, |_, _| ());
    let keys = keys.unwrap();
    let gpu = Gpu::new(Any::chosen(), &context).unwrap();
    let on_gpu = Ciphers::on(&gpu, plan, keys.clone(), |_, _| ()).unwrap();
    let on_cpu = Cpu::new(&context, plan, keys, |_, _| ()).unwrap();
    assert_eq!(on_cpu.size_bytes(), on_gpu.size_bytes());
    let demand = Demand::of(plan);
    let residence = residence(demand);
    let on_gpu = on_gpu.residing(residence);
    let (mut on_cpu, mut on_gpu) = (Run::new(&compiled, on_cpu), Run::new(&compiled, on_gpu));
    let model = Arc::new(ClientModel::load(&compiled.plan).unwrap());
    let sealer = CkksSealer::new(context, secret, model);

    let (prompt, rest) = golden.input_ids[..steps].split_at(in_blocks);
    let blocks = prompt
        .chunks(plan.block().max(1) as usize)
        .map(Tokens::Block);
    for tokens in blocks.chain(rest.iter().copied().map(Tokens::One)) {
        let position = on_cpu.session.position();
        let input = sealer.encrypt(tokens, position).unwrap();
        let expected = on_cpu.answer(tokens, input.clone());
        let found = on_gpu.answer(tokens, input);
        assert!(
            found == expected,
            "{name} {pins:?}: {tokens:?} at {position}"
        );
    }
    // whoever keeps all there is takes what was foreseen, and what lies beside takes nothing
    let cached = on_gpu.executor.cached_bytes() as u64;
    assert!((1..=residence.matrix_bytes + demand.vectors).contains(&cached));
    // and they mean something: another token, another answer
    let position = on_cpu.session.position();
    let others = [rest[0], rest[0] + 1].map(|token| {
        let tokens = Tokens::One(token);
        let input = sealer.encrypt(tokens, position).unwrap();
        on_gpu.undone(tokens, &input)
    });
    let logits = others.map(|answer| sealer.decrypt(Tokens::One(rest[0]), &answer).unwrap());
    let distance = Fidelity::of(&logits[0], &logits[1]).unwrap().error_sigma;
    assert!(distance > 0.02, "{distance} σ apart");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn single_tokens_and_blocks() {
    same_answers(
        "llama-variants",
        &["layers.{i}.attention.attend=inside:2"],
        5,
        7,
        // some matrices on the card and some beside it, and so the layers' KV state
        |demand| Residence {
            matrices: Keep::Compact,
            cache_bytes: demand.vectors + demand.coefficients / 2,
            matrix_bytes: demand.coefficients / 2,
            kv_layers: 1,
            left: 0,
        },
    );
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes of work: run in release")]
fn keys_and_values_in_diagonals() {
    let pins = [
        "layers.{i}.attention.attend=diagonals:2",
        "layers.{i}.attention.attend=stored-once",
        "layers.{i}.mlp.up_proj=spread:2",
        "layers.{i}.mlp.down_proj=inputs",
    ];
    // everything beside
    same_answers("llama-variants", &pins, 0, 2, |demand| {
        let room = Room {
            here: demand.fixed,
            beside: Some(u64::MAX),
        };
        let residence = Residence::within(demand, room, None).unwrap();
        assert_eq!((residence.kv_layers, residence.cache_bytes), (0, 0));
        residence
    });
}
