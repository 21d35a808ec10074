//! Bytes and files: what was written comes back; anything else is an error. On an INSECURE test ring.

mod common;

use common::*;
use proptest::prelude::*;
use sotto_ckks::{
    Ciphertext, CkksError, Context, EvaluationKeyFile, Evaluator, KeyGenerator, KeyKind,
    KeyRequest, Plaintext, PublicKey, SecretKey,
};
use sotto_params::{ParamSet, galois};
use std::sync::LazyLock;

struct Samples {
    bench: Bench,
    public: PublicKey,
    plaintext: Vec<u8>,
    ciphertext: Vec<u8>,
    public_bytes: Vec<u8>,
}

static SAMPLES: LazyLock<Samples> = LazyLock::new(|| {
    let bench = Bench::new(ParamSet::insecure_test(9), 2, &[3]);
    let public = KeyGenerator::new(&bench.secret).public_key(2).unwrap();
    let plain = bench.encoder.encode(&random_slots(256, 1), 2, 1).unwrap();
    let ct = public.encrypt(&plain).unwrap();
    Samples {
        plaintext: plain.to_bytes(&bench.ctx),
        ciphertext: ct.to_bytes(&bench.ctx),
        public_bytes: public.to_bytes(),
        bench,
        public,
    }
});

fn read_any(ctx: &Context, which: usize, bytes: &[u8]) -> Result<(), CkksError> {
    match which {
        0 => Plaintext::from_bytes(ctx, bytes).map(drop),
        1 => Ciphertext::from_bytes(ctx, bytes).map(drop),
        _ => PublicKey::from_bytes(ctx, bytes).map(drop),
    }
}

fn sample(which: usize) -> &'static [u8] {
    [
        &SAMPLES.plaintext,
        &SAMPLES.ciphertext,
        &SAMPLES.public_bytes,
    ][which]
}

#[test]
fn round_trips() {
    let s = &*SAMPLES;
    let ct = Ciphertext::from_bytes(&s.bench.ctx, &s.ciphertext).unwrap();
    assert_eq!(
        (ct.level(), ct.degree(), ct.key()),
        (2, 1, s.bench.secret.id())
    );
    assert_eq!(ct.to_bytes(&s.bench.ctx), s.ciphertext);
    assert!(max_error(&s.bench.decrypt(&ct), &random_slots(256, 1)) < 1e-6);
    let plain = Plaintext::from_bytes(&s.bench.ctx, &s.plaintext).unwrap();
    assert_eq!(plain.to_bytes(&s.bench.ctx), s.plaintext);
    let public = PublicKey::from_bytes(&s.bench.ctx, &s.public_bytes).unwrap();
    assert_eq!(
        (public.level(), public.id()),
        (s.public.level(), s.public.id())
    );
    let again = public.encrypt(&plain).unwrap();
    assert!(max_error(&s.bench.decrypt(&again), &random_slots(256, 1)) < 1e-6);
}

#[test]
fn other_objects_versions_and_parameters_have_their_own_errors() {
    let ctx = &SAMPLES.bench.ctx;
    let swapped = Ciphertext::from_bytes(ctx, &SAMPLES.plaintext)
        .unwrap_err()
        .to_string();
    assert!(swapped.contains("hold plaintext instead"), "{swapped}");
    let mut newer = SAMPLES.ciphertext.clone();
    newer[8] = 9;
    let newer = Ciphertext::from_bytes(ctx, &newer).unwrap_err().to_string();
    assert!(newer.contains("version 9"), "{newer}");
    let foreign = Context::new(ParamSet::insecure_test(10)).unwrap();
    for which in 0..3 {
        assert!(matches!(
            read_any(&foreign, which, sample(which)),
            Err(CkksError::ForeignParams { .. })
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bits_are_errors(which in 0usize..3, at: prop::sample::Index, bit in 0u32..8) {
        let mut bytes = sample(which).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read_any(&SAMPLES.bench.ctx, which, &bytes).is_err());
    }

    #[test]
    fn truncated_and_extended_bytes_are_errors(which in 0usize..3, at: prop::sample::Index, extra in 1usize..40) {
        let bytes = sample(which);
        prop_assert!(read_any(&SAMPLES.bench.ctx, which, &bytes[..at.index(bytes.len())]).is_err());
        let longer = [bytes, &vec![0; extra]].concat();
        prop_assert!(read_any(&SAMPLES.bench.ctx, which, &longer).is_err());
    }

    #[test]
    fn noise_is_an_error(which in 0usize..3, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(read_any(&SAMPLES.bench.ctx, which, &bytes).is_err());
    }

    #[test]
    fn unreduced_residues_are_errors_even_under_a_right_checksum(at: prop::sample::Index) {
        let mut bytes = SAMPLES.ciphertext.clone();
        let (header, end) = (62, bytes.len() - 32);
        let word = header + 4 * at.index((end - header) / 4);
        bytes[word..word + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        let checksum = blake3::hash(&bytes[..end]);
        bytes[end..].copy_from_slice(checksum.as_bytes());
        let why = Ciphertext::from_bytes(&SAMPLES.bench.ctx, &bytes).unwrap_err().to_string();
        prop_assert!(why.contains("residue"), "{}", why);
    }

    #[test]
    fn damaged_key_files_are_errors(at: prop::sample::Index, bit in 0u32..8, cut: prop::sample::Index) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let ctx = &SAMPLES.bench.ctx;
        SAMPLES.bench.keys.write_file(ctx, &path).unwrap();
        let load = || EvaluationKeyFile::open(ctx, &path).and_then(|mut f| f.load(None, |_, _| ())).map(drop);
        load().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] ^= 1 << bit;
        std::fs::write(&path, &damaged).unwrap();
        prop_assert!(load().is_err());
        std::fs::write(&path, &bytes[..cut.index(bytes.len())]).unwrap();
        prop_assert!(load().is_err());
    }
}

#[test]
fn secret_keys_are_private_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let s = &SAMPLES.bench;
    s.secret.write_file(&path).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let again = SecretKey::read_file(&s.ctx, &path).unwrap();
    assert_eq!(again.id(), s.secret.id());
    let ct = s.encrypt(&random_slots(256, 5), 1);
    assert!(
        max_error(
            &s.encoder.decode(&again.decrypt(&ct).unwrap()),
            &random_slots(256, 5)
        ) < 1e-6
    );

    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        SecretKey::read_file(&s.ctx, &path),
        Err(CkksError::Corrupt { .. })
    ));
    std::fs::write(&path, &bytes[..middle]).unwrap();
    let why = SecretKey::read_file(&s.ctx, &path).unwrap_err().to_string();
    assert!(why.contains("truncated") && why.contains("secret"), "{why}");
    assert!(matches!(
        SecretKey::read_file(&s.ctx, folder.path().join("absent")),
        Err(CkksError::Io { .. })
    ));
}

#[test]
fn key_files_hold_what_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let s = &SAMPLES.bench;
    let log_n = s.ctx.params().log_n;
    let mut request = KeyRequest {
        bootstrap: Some(27),
        ..KeyRequest::default()
    };
    request.add_relinearization(3);
    request.add_galois(galois::rotation(3, log_n), 5);
    request.add_galois(galois::rotation(4, log_n), 2);
    let mut steps = Vec::new();
    KeyGenerator::new(&s.secret)
        .write_evaluation_keys(&request, &path, |done, all| steps.push((done, all)))
        .unwrap();
    assert_eq!(steps, (0..=5).map(|i| (i, 5)).collect::<Vec<_>>());

    let mut file = EvaluationKeyFile::open(&s.ctx, &path).unwrap();
    assert_eq!(file.index().len(), 5);
    assert_eq!(file.id(), s.secret.id());
    let all = file.load(None, |_, _| ()).unwrap();
    all.check(&s.ctx, &request).unwrap();
    assert!(all.get(KeyKind::FromEphemeral).is_some());

    // A subset, at lower levels.
    let mut less = KeyRequest::default();
    less.add_galois(galois::rotation(3, log_n), 4);
    let subset = file.load(Some(&less), |_, _| ()).unwrap();
    assert_eq!(subset.iter().count(), 1);
    let x = random_slots(256, 6);
    let turned = Evaluator::new(&s.ctx, &subset)
        .rotate(&s.encrypt(&x, 5), 3)
        .unwrap();
    assert!(max_error(&s.decrypt(&turned), &rotated(&x, 3)) < 1e-6);

    for (step, level) in [(4, 3), (7, 1)] {
        let mut missing = KeyRequest::default();
        missing.add_galois(galois::rotation(step, log_n), level);
        let why = file
            .load(Some(&missing), |_, _| ())
            .unwrap_err()
            .to_string();
        assert!(
            why.contains(&format!("step {step}")) && why.contains(&format!("level {level}")),
            "{why}"
        );
    }
}

#[test]
fn a_failed_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let s = &SAMPLES.bench;
    // The second key fails: the file must not appear, nor its partial form.
    let mut request = KeyRequest::default();
    request.add_relinearization(2);
    request.add_galois(4, 2);
    let path = folder.path().join("keys");
    let failed = KeyGenerator::new(&s.secret).write_evaluation_keys(&request, &path, |_, _| ());
    assert!(failed.is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let nowhere = folder.path().join("absent").join("keys");
    assert!(matches!(
        s.keys.write_file(&s.ctx, nowhere),
        Err(CkksError::Io { .. })
    ));
}
