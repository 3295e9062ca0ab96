//! The files of a vocabulary, brought into the form of `tokenizer.json`.

use super::TokenizerError;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What a folder says about how to cut texts.
pub(super) struct Vocabulary {
    /// The file that says most of it.
    pub(super) path: PathBuf,
    /// All of it, as `tokenizer.json` would have it.
    pub(super) json: Value,
    /// The token that fills short texts up.
    pub(super) padding: String,
}

/// Reads whichever vocabulary `folder` has, `tokenizer.json` first.
pub(super) fn read(folder: &Path) -> Result<Vocabulary, TokenizerError> {
    let settings = Settings::read(folder)?;
    let [whole, word_pieces] = ["tokenizer.json", "vocab.txt"].map(|name| folder.join(name));
    let [pairs, merges] = ["vocab.json", "merges.txt"].map(|name| folder.join(name));
    if whole.is_file() {
        let json = Value::Object(read_object(&whole)?);
        check_merges(&json).map_err(|what| damaged(&whole, what))?;
        let padding = settings.token("pad_token").or_else(|| padding_of(&json));
        let padding = padding.ok_or_else(|| damaged(&whole, "no token that pads".into()))?;
        Ok(Vocabulary { path: whole, json, padding })
    } else if word_pieces.is_file() {
        let text = read_text(&word_pieces)?;
        let (json, padding) = bert(&text, &settings).map_err(|what| damaged(&word_pieces, what))?;
        Ok(Vocabulary { path: word_pieces, json, padding })
    } else if pairs.is_file() && merges.is_file() {
        let numbers = read_object(&pairs)?;
        let (json, padding) = clip(numbers, &read_text(&merges)?, &settings)
            .and_then(|(json, padding)| check_merges(&json).map(|()| (json, padding)))
            .map_err(|what| damaged(&merges, what))?;
        Ok(Vocabulary { path: pairs, json, padding })
    } else {
        Err(TokenizerError::Missing { folder: folder.into() })
    }
}

/// The tokens that are recognised before a text is cut, with their numbers.
pub(super) fn added_tokens(json: &Value) -> impl Iterator<Item = (&str, u64)> {
    let tokens = json["added_tokens"].as_array().into_iter().flatten();
    tokens.filter_map(|token| Some((token["content"].as_str()?, token["id"].as_u64()?)))
}

/// BERT's: words at white space and punctuation, each cut into the longest pieces there are.
fn bert(text: &str, settings: &Settings) -> Result<(Value, String), String> {
    let numbers: Map<String, Value> =
        text.lines().enumerate().map(|(id, token)| (token.to_owned(), id.into())).collect();
    let token = |key, default: &str| settings.token(key).unwrap_or_else(|| default.to_owned());
    let [unknown, start, end, padding] = [
        token("unk_token", "[UNK]"),
        token("cls_token", "[CLS]"),
        token("sep_token", "[SEP]"),
        token("pad_token", "[PAD]"),
    ];
    let mut marks = BTreeMap::new();
    for mark in [&unknown, &start, &end, &padding] {
        marks.insert(number(&numbers, mark)?, mark.clone());
    }
    let mask = token("mask_token", "[MASK]");
    if let Ok(id) = number(&numbers, &mask) {
        marks.insert(id, mask);
    }
    let (start_id, end_id) = (number(&numbers, &start)?, number(&numbers, &end)?);
    let around = json!([
        { "SpecialToken": { "id": start, "type_id": 0 } },
        { "Sequence": { "id": "A", "type_id": 0 } },
        { "SpecialToken": { "id": end, "type_id": 0 } },
    ]);
    let mut special = Map::new();
    for (token, id) in [(&start, start_id), (&end, end_id)] {
        special.insert(token.clone(), json!({ "id": token, "ids": [id], "tokens": [token] }));
    }
    let json = json!({
        "version": "1.0",
        "added_tokens": settings.added_tokens(&numbers, marks),
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings.flag("tokenize_chinese_chars").unwrap_or(true),
            "strip_accents": settings.flag("strip_accents"),
            "lowercase": settings.flag("do_lower_case").unwrap_or(true),
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": around.clone(),
            "pair": around,
            "special_tokens": special,
        },
        "model": {
            "type": "WordPiece",
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": numbers,
        },
    });
    Ok((json, padding))
}

/// What CLIP takes for a word: a mark, an English ending, letters, a digit, or other signs.
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// CLIP's: lower-case words, each built up from bytes by merging pairs, `</w>` at its end.
fn clip(
    numbers: Map<String, Value>,
    merges: &str,
    settings: &Settings,
) -> Result<(Value, String), String> {
    let is_pair = |line: &&str| !line.starts_with("#version") && !line.trim().is_empty();
    let pairs = merges
        .lines()
        .filter(is_pair)
        .map(|line| line.split_once(' ').ok_or_else(|| format!("no pair of tokens: {line:?}")))
        .collect::<Result<Vec<_>, _>>()?;
    let token = |key, default: &str| settings.token(key).unwrap_or_else(|| default.to_owned());
    let end = token("eos_token", "<|endoftext|>");
    let start = token("bos_token", "<|startoftext|>");
    let unknown = token("unk_token", &end);
    let padding = token("pad_token", &end);
    let mut marks = BTreeMap::new();
    for mark in [&unknown, &start, &end, &padding] {
        marks.insert(number(&numbers, mark)?, mark.clone());
    }
    let json = json!({
        "version": "1.0",
        "added_tokens": settings.added_tokens(&numbers, marks),
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                { "type": "NFC" },
                { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
                { "type": "Lowercase" },
            ],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": { "Regex": CLIP_WORDS },
                    "behavior": "Removed",
                    "invert": true,
                },
                { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
            ],
        },
        "post_processor": {
            "type": "RobertaProcessing",
            "sep": [end, number(&numbers, &end)?],
            "cls": [start, number(&numbers, &start)?],
            "trim_offsets": false,
            "add_prefix_space": false,
        },
        "model": {
            "type": "BPE",
            "unk_token": unknown,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "vocab": numbers,
            "merges": pairs,
        },
    });
    Ok((json, padding))
}

fn number(numbers: &Map<String, Value>, token: &str) -> Result<u64, String> {
    numbers.get(token).and_then(Value::as_u64).ok_or_else(|| format!("no token {token:?}"))
}

/// Fails unless every merge of a byte-pair vocabulary makes a token of two: the tokenizers crate writes
/// the two behind each other into a buffer as long as the longest token.
fn check_merges(json: &Value) -> Result<(), String> {
    let model = &json["model"];
    let Some(merges) = model["merges"].as_array() else { return Ok(()) };
    let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
    for merge in merges {
        let pair = match merge {
            Value::String(line) => line.split_once(' '),
            pair => pair[0].as_str().zip(pair[1].as_str()),
        };
        let (first, second) = pair.ok_or_else(|| format!("the merge {merge} is not a pair"))?;
        let is_known = |token: &str| model["vocab"].get(token).is_some();
        let merged = second.get(prefix.len()..).map(|second| format!("{first}{second}"));
        let is_whole = is_known(first) && is_known(second);
        if !is_whole || !merged.is_some_and(|merged| is_known(&merged)) {
            return Err(format!("the merge {merge} is not of tokens to a token"));
        }
    }
    Ok(())
}

/// Where no settings name the token that pads.
fn padding_of(json: &Value) -> Option<String> {
    let named = json["padding"]["pad_token"].as_str();
    let known = |token: &&str| {
        json["model"]["vocab"].get(token).is_some()
            || added_tokens(json).any(|(added, _)| added == *token)
    };
    named.or_else(|| ["[PAD]", "<|endoftext|>"].into_iter().find(known)).map(str::to_owned)
}

/// The small files beside a vocabulary, one over the other.
struct Settings(Map<String, Value>);

impl Settings {
    fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let mut settings = Map::new();
        for name in ["special_tokens_map.json", "tokenizer_config.json"] {
            let path = folder.join(name);
            if path.is_file() {
                settings.extend(read_object(&path)?);
            }
        }
        Ok(Self(settings))
    }

    /// A token, written as itself or with how it is to be found.
    fn token(&self, key: &str) -> Option<String> {
        let value = self.0.get(key)?;
        value.as_str().or_else(|| value["content"].as_str()).map(str::to_owned)
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.as_bool()
    }

    /// `marks`, and the tokens that were added to a vocabulary of `numbers` later, by number.
    fn added_tokens(&self, numbers: &Map<String, Value>, marks: BTreeMap<u64, String>) -> Value {
        let mut tokens: BTreeMap<u64, Value> = BTreeMap::new();
        let later = self.0.get("added_tokens_decoder").and_then(Value::as_object);
        for (id, token) in later.into_iter().flatten() {
            let is_new = token["content"].as_str().is_some_and(|at| !numbers.contains_key(at));
            if let (true, Ok(id), Some(token)) = (is_new, id.parse::<u64>(), token.as_object()) {
                let mut token = token.clone();
                token.insert("id".into(), id.into());
                tokens.insert(id, Value::Object(token));
            }
        }
        for (id, content) in marks {
            let plain = json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            });
            tokens.insert(id, plain);
        }
        tokens.into_values().collect()
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>, TokenizerError> {
    serde_json::from_str(&read_text(path)?).map_err(|error| damaged(path, error.to_string()))
}

fn read_text(path: &Path) -> Result<String, TokenizerError> {
    let bytes =
        fs::read(path).map_err(|source| TokenizerError::Read { path: path.into(), source })?;
    String::from_utf8(bytes).map_err(|error| damaged(path, error.utf8_error().to_string()))
}

fn damaged(path: &Path, what: String) -> TokenizerError {
    TokenizerError::Damaged { path: path.into(), what }
}
