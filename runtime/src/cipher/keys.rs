//! A plan's key list in the scheme's words, and in the words that errors and manifests use.

use crate::keys::NeededKey;
use sotto_ckks::{Context, KeyKind, KeyRequest};
use sotto_ir::params::{ParamSet, galois};
use sotto_ir::plan::KeyList;

/// The name of a key in manifests and errors: `relinearise`, `rotate 16`, `conjugate`.
pub fn key_name(kind: KeyKind, log_n: u32) -> String {
    match kind {
        KeyKind::Relinearization => "relinearise".into(),
        KeyKind::Galois(element) if element == galois::conjugation(log_n) => "conjugate".into(),
        KeyKind::Galois(element) => match galois::step_of(element, log_n) {
            Some(step) => format!("rotate {step}"),
            None => format!("automorphism {element}"),
        },
        KeyKind::ToEphemeral => "to ephemeral secret".into(),
        KeyKind::FromEphemeral => "from ephemeral secret".into(),
    }
}

/// What the scheme must generate or load for a plan's key list.
pub fn request(keys: &KeyList, context: &Context) -> KeyRequest {
    let log_n = context.params().log_n;
    let mut request = KeyRequest::default();
    request.add_relinearization(keys.relinearise_level as usize);
    for key in &keys.galois {
        let element = match key.step {
            Some(step) => galois::rotation(i64::from(step), log_n),
            None => galois::conjugation(log_n),
        };
        request.add_galois(element, key.level as usize);
    }
    request.bootstrap = keys.ephemeral_level.map(|level| level as usize);
    request
}

/// The same as names with levels.
pub fn needed_keys(keys: &KeyList, context: &Context) -> Vec<NeededKey> {
    let log_n = context.params().log_n;
    let needed = |(kind, level): (KeyKind, usize)| NeededKey {
        name: key_name(kind, log_n),
        level: level as u32,
    };
    let kinds = request(keys, context).kinds();
    kinds.into_iter().map(needed).collect()
}

/// Digest of a parameter set, hexadecimal.
pub fn parameters_digest(params: &ParamSet) -> String {
    let digest = params.digest();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
