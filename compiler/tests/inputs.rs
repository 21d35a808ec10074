//! Token sequences from files.

mod common;

use common::{fixture, root};
use sotto_compiler::frontend::Checkpoint;
use sotto_compiler::input::{InputError, sequence, sequences};

#[test]
fn calibration_text_is_one_sequence_per_line_each_after_bos() {
    let dir = root().join("models/tiny");
    let model = Checkpoint::open(&dir).unwrap();
    let path = dir.join("calibration.txt");
    let text = std::fs::read_to_string(&path).unwrap();
    let sequences = sequences(&model, &path).unwrap();
    assert_eq!(sequences.len(), text.lines().count());
    let bos = model.facts().bos.unwrap();
    for tokens in &sequences {
        assert_eq!(tokens.iter().filter(|&&id| id == bos).count(), 1);
        assert_eq!(tokens[0], bos);
        assert!(tokens.len() <= model.facts().max_positions);
    }
}

#[test]
fn calibration_ids_are_the_rows_cut_to_the_context() {
    let path = fixture("llama-gqa").join("calibration.safetensors");
    let dir = common::copy("llama-gqa");
    let model = Checkpoint::open(dir.path()).unwrap();
    let whole = sequences(&model, &path).unwrap();
    assert_eq!((whole.len(), whole[0].len()), (16, 24));
    common::edit(
        &dir.path().join("config.json"),
        "\"max_position_embeddings\": 128",
        "\"max_position_embeddings\": 20",
    );
    let cut = sequences(&Checkpoint::open(dir.path()).unwrap(), &path).unwrap();
    assert!(
        cut.iter()
            .zip(&whole)
            .all(|(cut, whole)| cut[..] == whole[..20])
    );
}

#[test]
fn files_without_tokens_are_refused() {
    let model = Checkpoint::open(&fixture("llama-gqa")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.txt");
    std::fs::write(&path, " \n").unwrap();
    assert!(matches!(
        sequence(&model, &path),
        Err(InputError::Empty { .. })
    ));
    assert!(matches!(
        sequences(&model, &path),
        Err(InputError::Empty { .. })
    ));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(matches!(
        sequence(&model, &path),
        Err(InputError::Text { .. })
    ));
    let several = fixture("llama-gqa").join("calibration.safetensors");
    assert!(matches!(
        sequence(&model, &several),
        Err(InputError::Several { found: 16, .. })
    ));
}
