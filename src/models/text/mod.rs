//! Networks that read: texts to tokens.

mod activation;
mod bert;
mod bert_config;
mod clip;
mod clip_config;
mod input;
mod pooling;
mod tokenizer;
mod vocabulary;

pub use activation::Activation;
pub use bert::{Bert, BertOutput};
pub use bert_config::BertConfig;
pub use clip::{ClipText, ClipTextOutput};
pub use clip_config::ClipTextConfig;
pub use input::InputError;
pub use pooling::sentence_embeddings;
pub use tokenizer::{Length, TextBatch, Tokenizer, TokenizerError};
