//! What the caller decides, what the search decides, and how features lie in slots.

use sotto_ir::decoder::{Decoder, ModelFacts};
use sotto_ir::plan::Placement;
use sotto_ir::slot::{FeatureMap, Group};
use std::collections::{BTreeMap, BTreeSet};

use super::LowerError;

/// What the caller decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Slots S of one ciphertext.
    pub slots: u32,
    /// Most tokens of one conversation.
    pub context: u32,
    /// How much wider than calibrated every range is taken to be.
    pub margin: f64,
    /// Error that one approximation may bring to its site: relative for norms and softmax, and [`Options::ACTIVATION`] times that,
    /// in units of the site's root mean square, for activations, whose errors do not add up over features.
    pub tolerance: f64,
    /// Who holds the embedding table.
    pub embedding: Placement,
    /// Who computes the head.
    pub head: Placement,
    /// Tokens of a prompt that one run takes: a power of two, 1 for token by token, or as many as pay where absent.
    pub block: Option<u32>,
}

impl Options {
    /// Default of [`Options::margin`].
    pub const MARGIN: f64 = 1.25;
    /// Default of [`Options::tolerance`].
    pub const TOLERANCE: f64 = 5e-4;
    /// How much larger an activation's error may be.
    pub const ACTIVATION: f64 = 4.0;

    /// Refuses a margin below 1, a tolerance that no polynomial or every polynomial meets, and blocks of no power of two tokens.
    pub fn check(&self) -> Result<(), LowerError> {
        let number = |option, value, range| LowerError::Option {
            option,
            value,
            range,
        };
        if !(1.0..=100.0).contains(&self.margin) {
            return Err(number("margin", self.margin, "1 to 100"));
        }
        if !(1e-9..=0.1).contains(&self.tolerance) {
            return Err(number("tolerance", self.tolerance, "1e-9 to 0.1"));
        }
        match self.block {
            Some(block) if !block.is_power_of_two() => Err(LowerError::BlockLength { block }),
            _ => Ok(()),
        }
    }

    /// The defaults for a ring and a context.
    pub fn new(slots: u32, context: u32) -> Options {
        Options {
            slots,
            context,
            margin: Self::MARGIN,
            tolerance: Self::TOLERANCE,
            embedding: Placement::Client,
            head: Placement::Server,
            block: None,
        }
    }
}

/// What the search decides. The default decides nothing: no pairs, balanced steps, as many tokens per group as fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices {
    /// Linear maps, by site, computed as real and imaginary part of one product.
    pub pairs: Vec<(String, String)>,
    /// How linear maps are computed, by site (of a pair, the first); plainly where absent.
    pub ways: BTreeMap<String, Way>,
    /// Tokens of a KV group that lie inside the features of a head vector, a power of two; queries and keys are spread by as many slots.
    /// 0 is 1.
    pub inner: u32,
    /// Most tokens of a KV group; no more than the conversation has where absent.
    pub tokens: Option<u32>,
    /// Tokens of a group of decode's, where this program takes blocks.
    pub stored: Option<u32>,
    /// Tokens that one run takes side by side, a power of two; 0 is 1.
    pub block: u32,
    /// Maps to keys or values, by site, that are made once per KV head and copied to its query heads; else the product makes the copies.
    pub once: BTreeSet<String>,
    /// Baby steps of keys and values that are encrypted matrices in diagonals; absent where they are not.
    pub diagonals: Option<u32>,
    /// Whether such matrices hold keys and values once per KV head, for as many times the tokens; else once per query head.
    pub shared: bool,
    /// Softmax's exponential is this many squarings of exp(x / 2^squarings).
    pub squarings: u32,
    /// Norms, by site, that spend a level on an exact window.
    pub scaled_norms: BTreeSet<String>,
    /// Activations, by site, whose polynomial is over the window of what was calibrated; of the others it is over one about zero, where
    /// half the argument leaves an even function.
    pub windowed: BTreeSet<String>,
}

/// How a linear map is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Slots between the features of the result.
    pub stride: u32,
    /// Whether two diagonals share a complex one.
    pub inputs: bool,
    /// Baby steps; balanced where absent.
    pub baby: Option<u32>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            stride: 1,
            inputs: false,
            baby: None,
        }
    }
}

/// Where the features of each vector of the model lie, in slots of one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Slots that one token has.
    pub slots: u32,
    /// Tokens side by side, a power of two.
    pub block: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    /// Query heads padded to a power of two.
    pub heads_padded: u32,
    /// Features of a head padded, both halves to a power of two.
    pub lanes: u32,
    /// Tokens of one KV group that attention reads.
    pub tokens: u32,
    /// Tokens of one KV group as decode reads it: the same, unless a block of tokens shares one.
    pub stored: u32,
    /// Those of them that lie inside the features, a power of two; of matrices, those that lie inside a head.
    pub inner: u32,
    /// Baby steps of keys and values that are matrices in diagonals.
    pub diagonals: Option<u32>,
    /// Query heads that read the same matrix, each in a ciphertext of its own; 1 where every query head has one.
    pub parts: u32,
}

impl Geometry {
    /// The geometry of a model on a ring, or why there is none.
    pub fn new(
        model: &ModelFacts,
        options: &Options,
        choices: &Choices,
    ) -> Result<Geometry, LowerError> {
        let context = options.context;
        let block = choices.block.max(1);
        let slots = options.slots / block;
        let heads_padded = (model.heads as u32).next_power_of_two();
        let lanes = 2 * (model.head_dim as u32 / 2).next_power_of_two();
        let most = choices.tokens.unwrap_or(context.next_power_of_two());
        let mut geometry = Geometry {
            slots,
            block,
            heads: model.heads as u32,
            kv_heads: model.kv_heads as u32,
            head_dim: model.head_dim as u32,
            heads_padded,
            lanes,
            tokens: (slots / (heads_padded * lanes)).min(most),
            stored: 0,
            inner: 1,
            diagonals: choices.diagonals,
            parts: 1,
        };
        geometry.inner = choices.inner.clamp(1, geometry.tokens);
        if geometry.diagonals.is_some() {
            if choices.shared {
                geometry.parts = geometry.shared();
            }
            // a row or column for each of the lanes
            geometry.tokens = lanes * geometry.inner * geometry.parts;
        }
        geometry.stored = choices.stored.unwrap_or(geometry.tokens);
        let mut vectors = vectors(model, options);
        vectors.push(("query heads", (heads_padded * lanes) as usize));
        for (what, features) in vectors {
            if features.next_power_of_two() > slots as usize {
                return Err(LowerError::TooWide {
                    what,
                    features,
                    slots,
                });
            }
        }
        Ok(geometry)
    }

    /// Width D of a vector of all query heads.
    pub fn width(&self) -> u32 {
        self.heads_padded * self.lanes
    }

    /// Slots from one place of a head vector to the next.
    pub fn stride(&self) -> u32 {
        self.inner
    }

    /// Runs of tokens in a group.
    pub fn outer(&self) -> u32 {
        self.tokens / self.inner
    }

    /// How a group's tokens lie.
    pub fn group(&self) -> Group {
        Group {
            tokens: self.tokens,
            width: self.width(),
            inner: self.inner,
        }
    }

    /// Places of query features.
    pub fn queries(&self) -> FeatureMap {
        self.heads_map(self.heads)
    }

    /// Places of key and value features, duplicated to their query heads.
    pub fn keys(&self) -> FeatureMap {
        self.heads_map(self.kv_heads)
    }

    fn heads_map(&self, kv_heads: u32) -> FeatureMap {
        FeatureMap::Heads {
            heads: self.heads,
            kv_heads,
            head_dim: self.head_dim,
            heads_padded: self.heads_padded,
            lanes: self.lanes,
        }
    }

    /// Query heads to a key head, if that is a power of two, as copies of heads side by side ask for; else 1.
    pub fn shared(&self) -> u32 {
        let shared = self.heads / self.kv_heads.max(1);
        match shared.is_power_of_two() && shared * self.kv_heads == self.heads {
            true => shared,
            false => 1,
        }
    }

    /// Places of key and value features, each once: of a head's copies the first.
    pub fn keys_once(&self) -> FeatureMap {
        FeatureMap::Heads {
            heads: self.kv_heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            heads_padded: self.heads_padded / self.shared(),
            lanes: self.lanes,
        }
    }

    /// The geometry of keys and values as they are stored, and of the queries of one part: every [`Geometry::parts`]th head, with as many
    /// times the tokens in its place. Slot (lane·heads + head)·inner + r of part `head mod parts` is slot
    /// (lane·heads/parts + head/parts)·inner·parts + r here.
    pub fn part(&self) -> Geometry {
        Geometry {
            heads: self.heads / self.parts,
            heads_padded: self.heads_padded / self.parts,
            inner: self.inner * self.parts,
            parts: 1,
            ..self.clone()
        }
    }

    /// Query heads that carry data.
    pub fn heads(&self) -> u32 {
        self.heads
    }
}

/// Widths of a model's vectors, padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Widths {
    /// All query heads.
    pub heads: u32,
    /// The widest vector of one ciphertext.
    pub widest: u32,
}

/// The widths of a model's vectors on the ring that the options name.
///
/// # Errors
/// A vector that does not fit.
pub fn widths(decoder: &Decoder, options: &Options) -> Result<Widths, LowerError> {
    let geometry = Geometry::new(&decoder.model, options, &Choices::default())?;
    let mut widest = geometry.width();
    for (_, features) in vectors(&decoder.model, options) {
        widest = widest.max(features.next_power_of_two() as u32);
    }
    Ok(Widths {
        heads: geometry.width(),
        widest,
    })
}

/// The vectors of a model that fill one ciphertext each, query heads aside.
fn vectors(model: &ModelFacts, options: &Options) -> Vec<(&'static str, usize)> {
    let mut vectors = vec![
        ("residual stream", model.hidden),
        ("MLP", model.intermediate),
    ];
    if options.embedding == Placement::Server {
        // the one-hot vector is one ciphertext; scores may fill several
        vectors.push(("vocabulary", model.vocab));
    }
    vectors
}

/// Places that a map fills, padding included, a power of two.
pub fn places(map: &FeatureMap) -> u32 {
    match *map {
        FeatureMap::Plain { count, .. } => count.next_power_of_two(),
        FeatureMap::Heads {
            heads_padded,
            lanes,
            ..
        } => heads_padded * lanes,
    }
}
