//! A small plan on an INSECURE ring, its keys, and a server that runs it. Each test file uses its part.
//!
//! The plan's function, for tokens t_0 … t_n so far: s = Σ 0.2·e_{(t_i + 1) mod 8}, logits = s - s³/4 in each place. The shift is a
//! matrix, the sum a KV state of groups of two tokens, and the logits pass a bootstrap.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod process;

use sotto_ckks::{Ciphertext, Context, Encoder, KeyGenerator, SecretKey};
use sotto_ir::params::{ParamSet, bootstrap::BootstrapSpec};
use sotto_ir::plan::*;
use sotto_ir::slot::*;
use sotto_runtime::cipher::{EngineOptions, PlanEngine, request};
use sotto_runtime::client::{CkksSealer, ClientError, ClientModel, Connection, Keyring};
use sotto_runtime::keys::KEY_FILE;
use sotto_runtime::plan::PlanDir;
use sotto_runtime::server::{KeyStore, Service, bind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

pub const VOCABULARY: u32 = 8;
const CAPACITY: u32 = 4;
const GROUP: u32 = 2;
const STEP: f64 = 0.2;
/// How long a session may be idle: longer than any test.
const IDLE: Duration = Duration::from_secs(3600);
const OUTPUT_LEVEL: u32 = 1;
const KIND: BootstrapKind = BootstrapKind {
    slots: VOCABULARY,
    complex: false,
};

/// The plan's function in float64.
pub fn expected(tokens: &[u32]) -> Vec<f64> {
    let mut sums = [0.0; VOCABULARY as usize];
    for token in tokens {
        sums[((token + 1) % VOCABULARY) as usize] += STEP;
    }
    sums.map(|s: f64| s - s.powi(3) / 4.0).into()
}

fn periodic() -> ValueType {
    ValueType {
        layout: Layout::Periodic {
            count: VOCABULARY,
            width: VOCABULARY,
        },
        complex: false,
        range: 1.0,
        unit: 1.0,
    }
}

fn tokens() -> Group {
    Group {
        tokens: GROUP,
        width: VOCABULARY,
        inner: 1,
    }
}

fn grouped() -> ValueType {
    ValueType {
        layout: Layout::Tokens(tokens()),
        ..periodic()
    }
}

fn at(level: u32, degree: u8) -> At {
    At { level, degree }
}

/// Adds instructions whose operand dies at once, each into a buffer of its own.
struct Stream {
    instrs: Vec<Instr>,
    last: u32,
}

impl Stream {
    fn push(&mut self, op: impl Fn(Buf) -> Op<Buf>, to: At, ty: ValueType) {
        let v = Buf(self.last);
        let stores = matches!(op(v), Op::Append { .. });
        let reads_nothing = matches!(op(v), Op::SumGroups { .. });
        self.last += u32::from(!stores);
        self.instrs.push(Instr {
            op: op(v),
            dst: if stores { vec![] } else { vec![Buf(self.last)] },
            at: if stores { vec![] } else { vec![to] },
            types: if stores { vec![] } else { vec![ty] },
            free: if reads_nothing { vec![] } else { vec![v] },
            site: "test".into(),
        });
    }
}

fn program(spec: &BootstrapSpec, top: u32) -> PlanProgram {
    let refresh = spec.input_level as u32;
    let state = refresh + 2;
    let input = state + 2;
    let weights = DataDecl {
        name: "shift".into(),
        per_layer: false,
        shape: vec![VOCABULARY, VOCABULARY],
        recipe: Recipe::Matrix(vec![MatrixPart {
            tensor: "shift".into(),
            transposed: false,
            rows: FeatureMap::plain(VOCABULARY),
            columns: FeatureMap::plain(VOCABULARY),
            gain: None,
            centred: false,
            scale: 1.0,
        }]),
    };
    let mut main = Stream {
        instrs: vec![],
        last: 0,
    };
    let matrix = MatrixId(0);
    main.push(|v| Op::Linear { v, matrix }, at(input, 2), periodic());
    main.push(|v| Op::Rescale { v }, at(input - 1, 1), periodic());
    let plain = PlainId(0);
    main.push(|v| Op::MulPlain { v, plain }, at(input - 1, 2), grouped());
    main.push(|v| Op::Rescale { v }, at(state, 1), grouped());
    let append = |v| Op::Append {
        state: StateId(0),
        v,
    };
    main.push(append, at(state, 1), grouped());
    let sum = |_| Op::SumGroups {
        template: 1,
        states: vec![StateId(0)],
        args: vec![],
    };
    main.push(sum, at(state, 1), periodic());
    let poly = PolyId(0);
    main.push(|v| Op::Poly { v, poly }, at(refresh, 1), periodic());
    main.push(|v| Op::Bootstrap { v, kind: KIND }, at(top, 1), periodic());
    let down = |v| Op::Drop {
        v,
        level: OUTPUT_LEVEL,
    };
    main.push(down, at(OUTPUT_LEVEL, 1), periodic());

    let mut group = Stream {
        instrs: vec![],
        last: 0,
    };
    let fold = |v| Op::Fold {
        v,
        step: VOCABULARY as i32,
        count: GROUP,
    };
    group.push(fold, at(state, 1), periodic());

    let template = |name: &str, stream: Stream, entry, ty| PlanTemplate {
        name: name.into(),
        params: vec![(Buf(0), entry, ty)],
        results: vec![Buf(stream.last)],
        buffers: stream.last + 1,
        instrs: stream.instrs,
    };
    PlanProgram {
        name: "decode".into(),
        block: 1,
        data: vec![weights],
        plains: vec![Plain {
            name: "current".into(),
            factors: vec![PlainFactor::CurrentToken {
                group: tokens(),
                block: 1,
            }],
        }],
        matrices: vec![Matrix {
            name: "shift".into(),
            in_width: VOCABULARY,
            out_width: VOCABULARY,
            form: Form::Spread { stride: 1 },
            block: 1,
            pairing: Pairing::None,
            baby: 2,
            data: DataId(0),
        }],
        polys: vec![Poly {
            name: "x - x³/4".into(),
            // x³ = (3 T_1 + T_3) / 4.
            coefficients: vec![0.0, 1.0 - 3.0 / 16.0, 0.0, -1.0 / 16.0],
            error: 0.0,
        }],
        states: vec![StateDecl {
            name: "sum".into(),
            ty: grouped(),
            level: Some(state),
        }],
        templates: vec![
            template("main", main, at(input, 1), periodic()),
            template("group", group, at(state, 1), grouped()),
        ],
        steps: vec![Step {
            template: 0,
            first: 0,
            count: 1,
        }],
    }
}

/// The letters a to h, one token each.
fn tokenizer() -> String {
    let letters: Vec<_> = ('a'..='h').enumerate().collect();
    let vocab: Vec<_> = letters
        .iter()
        .map(|(id, c)| format!("\"{c}\":{id}"))
        .collect();
    format!(
        r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
        "pre_tokenizer":{{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}},
        "post_processor":null,
        "decoder":{{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}},
        "model":{{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
        "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,
        "vocab":{{{}}},"merges":[]}}}}"#,
        vocab.join(",")
    )
}

/// Writes the plan directory.
pub fn write_plan(dir: &Path) {
    write_plan_with(dir, STEP);
}

/// The same for tokens of another size: a large one leaves the declared ranges.
pub fn write_plan_with(dir: &Path, step: f64) {
    let params = ParamSet::insecure_test(9);
    let spec = BootstrapSpec::new(&params, KIND.slots as usize, KIND.complex).unwrap();
    let decode = program(&spec, params.top_app_level() as u32);
    let wire = |level| Wire {
        block: 1,
        count: VOCABULARY,
        width: VOCABULARY,
        unit: 1.0,
        level,
    };
    let mut writer = PlanWriter::create(dir).unwrap();
    let n = VOCABULARY as usize;
    let shift: Vec<f64> = (0..n * n)
        .map(|i| f64::from(u8::from(i / n == (i % n + 1) % n)))
        .collect();
    let mut data = MemoryData::default();
    data.insert(DataId(0), 0, shift);
    writer
        .write_arrays(
            &decode,
            Weights::Checkpoint,
            &data,
            Encoding::I16,
            &mut |_, _| (),
        )
        .unwrap();
    let embedding = (0..n * n).map(|i| if i / n == i % n { step as f32 } else { 0.0 });
    let mut table = writer.client_table("embedding").unwrap();
    table.write(&embedding.collect::<Vec<_>>()).unwrap();
    let table = table.finish().unwrap();
    let tokenizer = tokenizer();
    let tokenizer = writer
        .write_client_file("tokenizer.json", tokenizer.as_bytes())
        .unwrap();
    let plan = Plan {
        version: PLAN_VERSION,
        compiler: "test".into(),
        model: ModelFacts {
            name: "test".into(),
            digest: "test".into(),
            weights: Weights::Checkpoint,
            hidden: VOCABULARY,
            intermediate: VOCABULARY,
            layers: 1,
            heads: 1,
            kv_heads: 1,
            head_dim: VOCABULARY,
            vocab: VOCABULARY,
        },
        security: Security::of(&params),
        disclosures: vec![],
        client: ClientPart {
            input: wire(decode.templates[0].params[0].1.level),
            outputs: vec![wire(OUTPUT_LEVEL)],
            output_kind: OutputKind::Logits,
            embedding: Placement::Client,
            head: Placement::Server,
            bos: None,
            eos: vec![],
            tokenizer: Some(tokenizer),
            embedding_table: Some(table),
            learned_positions: false,
            position_table: None,
            head_table: None,
        },
        capacity: CAPACITY,
        estimate: Estimate {
            plaintext_bytes: 1 << 20,
            bootstraps: vec![BootstrapCount {
                kind: KIND,
                count: 1,
            }],
            ..Estimate::default()
        },
        keys: KeyList::of(
            [&decode],
            std::slice::from_ref(&spec),
            params.slots() as u32,
        ),
        bootstraps: vec![spec],
        approximations: vec![],
        sites: vec![],
        search: SearchNote::default(),
        decisions: vec![],
        params,
        decode,
        prefill: None,
        arrays: vec![],
    };
    writer.finish(plan).unwrap();
}

/// A plan, its keys, and a server that runs it.
pub struct World {
    folder: TempDir,
    pub dir: PlanDir,
    pub addr: String,
}

impl World {
    /// Writes the plan, generates keys and starts the server, which has no keys yet.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan");
        write_plan(&path);
        let dir = PlanDir::open(&path).unwrap();
        dir.check().unwrap_or_else(|error| panic!("{error}"));
        let context = Context::new(dir.plan().params.clone()).unwrap();
        Keyring::at(&folder.path().join("keys"))
            .generate(dir.plan(), &context, |_, _| {})
            .unwrap();
        let data = dir.data().unwrap();
        let options = EngineOptions::default();
        let engine = PlanEngine::new(dir.plan().clone(), dir.digest(), data, options).unwrap();
        let store = KeyStore::open(&folder.path().join("store")).unwrap();
        let server = bind("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
        let addr = server.addr().to_string();
        // Ends with the test's runtime.
        tokio::spawn(server.run(Service::new(engine, store, IDLE), std::future::pending()));
        Self { folder, dir, addr }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn plan(&self) -> &Plan {
        self.dir.plan()
    }

    pub fn keys(&self) -> Keyring {
        Keyring::at(&self.folder().join("keys"))
    }

    pub fn sealer(&self) -> CkksSealer {
        let context = Context::new(self.plan().params.clone()).unwrap();
        let secret = self.keys().secret(&context).unwrap();
        let model = Arc::new(ClientModel::load(&self.dir).unwrap());
        CkksSealer::new(context, secret, model)
    }

    pub async fn open(&self) -> Result<Connection, ClientError> {
        let keys = self.keys().evaluation();
        Connection::open(&self.addr, &self.dir.digest(), &keys, |_, _| {}).await
    }

    /// The client's own key, at a level of one's choice.
    pub fn encrypt_at(&self, context: &Context, level: usize) -> Ciphertext {
        let secret = self.keys().secret(context).unwrap();
        let plaintext = Encoder::new(context).encode_real(&[0.5], level, 1).unwrap();
        secret.encrypt(&plaintext).unwrap()
    }

    /// A folder with a key file of the same secret that lacks the last Galois key.
    pub fn keys_without_last(&self, name: &str) -> PathBuf {
        let context = Context::new(self.plan().params.clone()).unwrap();
        let secret: SecretKey = self.keys().secret(&context).unwrap();
        let mut wanted = request(&self.plan().keys, &context);
        wanted.galois.pop_last();
        let dir = self.folder().join(name);
        std::fs::create_dir(&dir).unwrap();
        KeyGenerator::new(&secret)
            .write_evaluation_keys(&wanted, dir.join(KEY_FILE), |_, _| {})
            .unwrap();
        dir
    }
}
