//! Texts to the numbers that a text encoder reads.

use super::vocabulary::{self, Vocabulary};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::io;
use std::path::{Path, PathBuf};
use tokenizers::{Encoding, PostProcessor, TruncationDirection};

/// Cuts texts into the tokens of one vocabulary, with the tokens that mark start and end.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    padding_id: u32,
}

/// How many tokens each text of a batch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// This many: 77 for CLIP.
    Fixed(usize),
    /// As many as the longest text.
    Longest {
        /// But no more than this.
        at_most: usize,
    },
}

/// Texts as a network reads them. Longer ones are cut before their end token, shorter ones padded behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct TextBatch {
    /// The number of each token, [B, N], as i64.
    pub input_ids: TensorData,
    /// 1 for tokens of the text, 0 for padding, [B, N], as i64.
    pub attention_mask: TensorData,
}

impl TextBatch {
    /// `input_ids` and `attention_mask` on `device`.
    pub fn tensors(&self, device: &Device) -> (Tensor<2, Int>, Tensor<2, Int>) {
        let tensor = |data: &TensorData| Tensor::from_data(data.clone(), device);
        (tensor(&self.input_ids), tensor(&self.attention_mask))
    }
}

impl Tokenizer {
    /// Opens what transformers saved into `folder`: `tokenizer.json`, or `vocab.txt` (BERT), or `vocab.json`
    /// with `merges.txt` (CLIP). `tokenizer_config.json` and `special_tokens_map.json` are heeded.
    ///
    /// Fails if none of these is there, if a file is damaged, and if there is no token for padding.
    pub fn open(folder: &Path) -> Result<Self, TokenizerError> {
        let Vocabulary { path, json, padding } = vocabulary::read(folder)?;
        let fault = |what: String| TokenizerError::Damaged { path: path.clone(), what };
        let mut inner = tokenizers::Tokenizer::from_bytes(json.to_string())
            .map_err(|error| fault(error.to_string()))?;
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| fault(error.to_string()))?;
        for (token, id) in vocabulary::added_tokens(&json) {
            match inner.token_to_id(token) {
                Some(found) if u64::from(found) == id => {}
                found => {
                    let found = found.map_or("none".into(), |found| found.to_string());
                    return Err(fault(format!("token {token:?} has number {found}, not {id}")));
                }
            }
        }
        let padding_id = inner
            .token_to_id(&padding)
            .ok_or_else(|| fault(format!("no token {padding:?}, which pads")))?;
        Ok(Self { inner, padding_id })
    }

    /// The numbers of `texts`, all of one length.
    ///
    /// Fails if `length` leaves no room for a token between start and end, and on text that the vocabulary
    /// has no token for, not even one for the unknown.
    pub fn encode<T: AsRef<str>>(
        &self,
        texts: &[T],
        length: Length,
    ) -> Result<TextBatch, TokenizerError> {
        let (Length::Fixed(most) | Length::Longest { at_most: most }) = length;
        let num_marks =
            self.inner.get_post_processor().map_or(0, |marks| marks.added_tokens(false));
        if most <= num_marks {
            return Err(TokenizerError::NoRoom { length: most, least: num_marks + 1 });
        }
        let encode = |text: &T| self.encode_one(text.as_ref(), most - num_marks);
        let rows = texts
            .iter()
            .map(encode)
            .collect::<tokenizers::Result<Vec<_>>>()
            .map_err(|error| TokenizerError::Encode { what: error.to_string() })?;

        let longest = rows.iter().map(|row| row.get_ids().len()).max().unwrap_or(0);
        let n = if let Length::Fixed(n) = length { n } else { longest };
        let mut input_ids = Vec::with_capacity(rows.len() * n);
        let mut attention_mask = Vec::with_capacity(rows.len() * n);
        for row in &rows {
            let padding = n - row.get_ids().len();
            input_ids.extend(row.get_ids().iter().map(|&id| i64::from(id)));
            input_ids.extend(std::iter::repeat_n(i64::from(self.padding_id), padding));
            attention_mask.extend(std::iter::repeat_n(1i64, n - padding));
            attention_mask.extend(std::iter::repeat_n(0i64, padding));
        }
        let shape = [rows.len(), n];
        Ok(TextBatch {
            input_ids: TensorData::new(input_ids, shape),
            attention_mask: TensorData::new(attention_mask, shape),
        })
    }

    /// One more than the largest number a token has.
    pub fn vocab_size(&self) -> usize {
        let largest = self.inner.get_vocab(true).into_values().max();
        largest.map_or(0, |id| id as usize + 1)
    }

    /// `text` cut to `room` tokens, between those that mark start and end.
    fn encode_one(&self, text: &str, room: usize) -> tokenizers::Result<Encoding> {
        let mut encoding = self.inner.encode_fast(text, false)?;
        encoding.truncate(room, 0, TruncationDirection::Right);
        match self.inner.get_post_processor() {
            Some(marks) => marks.process(encoding, None, true),
            None => Ok(encoding),
        }
    }
}

/// Why texts could not be turned into numbers.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The folder has no vocabulary that is understood.
    #[error(
        "{} has no tokenizer: expected tokenizer.json, vocab.txt, or vocab.json with merges.txt",
        folder.display()
    )]
    Missing {
        /// Which folder.
        folder: PathBuf,
    },
    /// A file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not what its name says.
    #[error("{} is not a usable vocabulary: {what}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Texts cannot be cut this short.
    #[error(
        "texts cannot be cut to {length} tokens; at least {least} are needed with start and end"
    )]
    NoRoom {
        /// The length asked for.
        length: usize,
        /// The shortest there is.
        least: usize,
    },
    /// A text has no numbers in this vocabulary.
    #[error("cannot cut a text into tokens: {what}")]
    Encode {
        /// The tokenizer's words.
        what: String,
    },
}
