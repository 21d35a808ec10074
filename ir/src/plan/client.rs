//! What the client does: the two ends of the model.

use crate::Digest;
use serde::{Deserialize, Serialize};

/// The client's side of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientPart {
    /// The vector it encrypts and uploads.
    pub input: Wire,
    /// The vectors it downloads and decrypts, in the order of the program's results: one unless the vocabulary exceeds the slots.
    pub outputs: Vec<Wire>,
    /// What the outputs are, laid end to end.
    pub output_kind: OutputKind,
    /// Who holds the embedding table. On the client, the input is the token's embedding, its position's row added where positions are
    /// learned; on the server, a one-hot vector.
    pub embedding: Placement,
    /// Who holds the head. On the client, the output is the final normalised hidden state.
    pub head: Placement,
    /// Token a sequence starts with.
    pub bos: Option<u32>,
    /// Tokens that end a sequence.
    pub eos: Vec<u32>,
    /// `tokenizer.json`, if the checkpoint has one.
    pub tokenizer: Option<FileEntry>,
    /// The embedding table [vocab, hidden] as little-endian f32, when the client holds it.
    pub embedding_table: Option<FileEntry>,
    /// Whether a row for its position is added to each token's embedding, by whoever holds the table of those.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learned_positions: bool,
    /// The rows of positions [capacity, hidden] as little-endian f32, where there are any and the client holds the embedding table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_table: Option<FileEntry>,
    /// The head [vocab, hidden] as little-endian f32, when the client holds it.
    pub head_table: Option<FileEntry>,
}

/// Vectors as they cross the wire, of one token or several side by side: feature f of token r stands at every slot p with
/// ⌊p / block⌋ ≡ f (mod width) and p ≡ r (mod block).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Features.
    pub count: u32,
    /// Power of two; places count.. are zero on input and mean nothing on output.
    pub width: u32,
    /// Tokens side by side, a power of two.
    pub block: u32,
    /// Real-world value = slot value × unit.
    pub unit: f64,
    /// Level of the ciphertext; degree 1.
    pub level: u32,
}

impl Wire {
    /// Slots after which the ciphertext repeats.
    pub fn period(&self) -> usize {
        self.width as usize * self.block as usize
    }
}

/// What the client downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// One score per vocabulary entry.
    Logits,
    /// The final hidden state, normalised.
    Hidden,
}

/// Who holds a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Placement {
    Client,
    Server,
}

/// A file of the plan directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path inside the plan directory, `server/…` or `client/…`.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Of the content.
    pub digest: Digest,
}
