//! Text as it arrives: tokens of a byte-level vocabulary may end inside a character.

use tokenizers::Tokenizer;

/// What a decoder writes for bytes that are no character (yet).
const INCOMPLETE: char = '\u{FFFD}';
/// A character has at most four bytes, so at most three tokens can end inside one.
const MOST_HELD_BACK: usize = 3;

/// Turns token ids into text, holding back a character until its last byte has arrived.
pub struct TextStream<'t> {
    tokenizer: &'t Tokenizer,
    ids: Vec<u32>,
    /// Bytes of the decoded text that were given out.
    given: usize,
    held: usize,
}

impl<'t> TextStream<'t> {
    /// An empty stream.
    pub fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            ids: Vec::new(),
            given: 0,
            held: 0,
        }
    }

    /// Adds a token; returns the text that it completes.
    pub fn push(&mut self, id: u32) -> Result<String, String> {
        self.ids.push(id);
        let text = self.text()?;
        if text.ends_with(INCOMPLETE) && self.held < MOST_HELD_BACK {
            self.held += 1;
            return Ok(String::new());
        }
        self.held = 0;
        Ok(self.give(&text))
    }

    /// The rest, with what remained incomplete as U+FFFD.
    pub fn finish(&mut self) -> Result<String, String> {
        let text = self.text()?;
        Ok(self.give(&text))
    }

    /// All text so far.
    pub fn text(&self) -> Result<String, String> {
        self.tokenizer
            .decode(&self.ids, true)
            .map_err(|cause| format!("decoding tokens: {cause}"))
    }

    fn give(&mut self, text: &str) -> String {
        let new = text.get(self.given..).unwrap_or_default().to_string();
        self.given = self.given.max(text.len());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn tokenizer() -> Tokenizer {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures/llama-gqa/tokenizer.json");
        Tokenizer::from_file(path).unwrap()
    }

    fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode(text, false).unwrap().get_ids().to_vec()
    }

    #[test]
    fn pieces_join_to_the_text_and_are_whole_characters() {
        let tokenizer = tokenizer();
        let text = "Grüße, 日本 🙂!";
        let mut stream = TextStream::new(&tokenizer);
        let mut joined = String::new();
        let mut silent = 0;
        for id in ids(&tokenizer, text) {
            let piece = stream.push(id).unwrap();
            assert!(!piece.contains(INCOMPLETE), "{piece:?}");
            silent += usize::from(piece.is_empty());
            joined += &piece;
        }
        joined += &stream.finish().unwrap();
        assert_eq!(joined, text);
        assert!(silent >= 3, "the vocabulary splits characters into bytes");
    }

    #[test]
    fn a_character_that_never_ends_is_given_at_the_end() {
        let tokenizer = tokenizer();
        let smile = ids(&tokenizer, "a🙂");
        let mut stream = TextStream::new(&tokenizer);
        let mut joined = String::new();
        for &id in &smile[..smile.len() - 1] {
            joined += &stream.push(id).unwrap();
        }
        assert_eq!(joined, "a");
        let rest = stream.finish().unwrap();
        assert!(rest.starts_with(INCOMPLETE), "{rest:?}");
    }
}
