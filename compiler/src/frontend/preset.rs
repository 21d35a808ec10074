//! Presets: shapes of known models with assumed activation ranges, to plan without weights.

use super::{FrontendError, config, stage};
use serde::Deserialize;
use sotto_ir::Digest;
use sotto_ir::decoder::{Decoder, ModelFacts};
use sotto_ir::plan::Weights;
use std::path::PathBuf;

/// A model without weights.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Its sizes and constants.
    pub facts: ModelFacts,
    /// Its stage; the digest is that of name, configuration, profile, number of layers and weights.
    pub decoder: Decoder,
    /// Assumed activation ranges.
    pub profile: Profile,
}

/// `ranges.json`, as `models/presets/README.md` explains it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Profile {
    /// Sites of each layer.
    pub layers: Vec<Vec<SiteProfile>>,
    /// Sites after the last layer.
    pub head: Vec<SiteProfile>,
}

/// What one site reaches.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct SiteProfile {
    /// Its name in the profile.
    pub site: String,
    /// Smallest entry.
    pub min: f64,
    /// Largest entry.
    pub max: f64,
    /// Smallest mean square of a position.
    pub mean_square_min: f64,
    /// Largest mean square of a position.
    pub mean_square_max: f64,
}

/// Name, configuration, profile.
const PRESETS: [(&str, &str, &str); 3] = [
    (
        "llama-3-8b",
        include_str!("../../../models/presets/llama-3-8b/config.json"),
        include_str!("../../../models/presets/llama-3-8b/ranges.json"),
    ),
    (
        "tinyllama-1.1b",
        include_str!("../../../models/presets/tinyllama-1.1b/config.json"),
        include_str!("../../../models/presets/tinyllama-1.1b/ranges.json"),
    ),
    (
        "gpt2-small",
        include_str!("../../../models/presets/gpt2-small/config.json"),
        include_str!("../../../models/presets/gpt2-small/ranges.json"),
    ),
];

impl Preset {
    /// Names of all presets.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _, _)| *name)
    }

    /// The preset of a name, whole and without weights.
    ///
    /// # Errors
    /// There is none; the message lists them.
    pub fn named(name: &str) -> Result<Self, FrontendError> {
        Self::of(name, None, Weights::None)
    }

    /// The preset of a name, its first layers only where their number is given, to be compiled with these weights.
    ///
    /// # Errors
    /// There is no such preset, or it has not as many layers.
    pub fn of(name: &str, layers: Option<u32>, weights: Weights) -> Result<Self, FrontendError> {
        let found = PRESETS.iter().find(|(known, _, _)| *known == name);
        let (name, config, ranges) = found.ok_or_else(|| FrontendError::NoPreset {
            name: name.into(),
            known: Self::names().collect::<Vec<_>>().join(", "),
        })?;
        let file = |file: &str| PathBuf::from("models/presets").join(name).join(file);
        let mut facts = config::parse(&file("config.json"), config.as_bytes())?;
        let mut profile: Profile =
            serde_json::from_str(ranges).map_err(|source| FrontendError::Json {
                path: file("ranges.json"),
                source,
            })?;
        if let Some(layers) = layers {
            let most = facts.layers;
            if layers == 0 || layers as usize > most {
                return Err(FrontendError::Layers { layers, most });
            }
            facts.layers = layers as usize;
            // so that the last of them leaves what the head is said to read
            profile.layers.truncate(facts.layers);
        }
        let digest = digest(&[
            name,
            config,
            ranges,
            &facts.layers.to_string(),
            &weights.to_string(),
        ]);
        let decoder = stage(&facts, digest);
        decoder.verify().map_err(|source| FrontendError::Facts {
            path: file("config.json"),
            source,
        })?;
        Ok(Self {
            name,
            facts,
            decoder,
            profile,
        })
    }
}

/// What stands for a checkpoint's digest: BLAKE3 over all that the model follows from.
fn digest(parts: &[&str]) -> Digest {
    let mut hash = blake3::Hasher::new_derive_key("sotto preset 1");
    for part in parts {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    Digest(*hash.finalize().as_bytes())
}
