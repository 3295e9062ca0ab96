//! Text encoders and tokenizers against transformers.
//!
//! Reference: tests/golden/models/text.py (versions and seed in its header).

use super::BF16;
use super::golden::{F32, Golden, assert_close, golden_path};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use umbra::models::text::{
    Activation, Bert, BertConfig, BertOutput, ClipText, ClipTextConfig, ClipTextOutput, Length,
    Tokenizer, sentence_embeddings,
};
use umbra::models::weights::file::{self, NonFinite};
use umbra::models::weights::{StateDict, gradients, load_state_dict, state_dict};
use umbra::models::{Compute, Init};
use umbra::random::Stream;

const CLIPS: [&str; 2] = ["clip_text", "clip_text_other"];
const BERTS: [&str; 2] = ["bert", "bert_other"];

#[test]
fn clip_matches_transformers() {
    for name in CLIPS {
        let golden = Golden::read(name);
        let clip = golden.clip(&Device::flex());
        let found = golden.read_clip(&clip, &Device::flex());
        golden.assert_close("last_hidden_state", found.last_hidden_state, F32);
        golden.assert_close("penultimate_hidden_state", found.penultimate_hidden_state, F32);
        golden.assert_close("pooler_output", found.pooler_output, F32);
        assert_eq!(found.text_embeds.is_some(), golden.arrays.contains_key("text_embeds"));
        if let Some(embeds) = found.text_embeds {
            golden.assert_close("text_embeds", embeds, F32);
        }
    }
}

#[test]
fn bert_matches_transformers() {
    for name in BERTS {
        let golden = Golden::read(name);
        let bert = golden.bert(&Device::flex());
        let found = golden.read_bert(&bert, &Device::flex());
        assert_eq!(found.pooler_output.is_some(), golden.arrays.contains_key("pooler_output"));
        if let Some(pooled) = found.pooler_output {
            golden.assert_close("pooler_output", pooled, F32);
        }
        if golden.arrays.contains_key("sentence_embeddings") {
            let mask = golden.ints("attention_mask", &Device::flex()).unwrap();
            let found = sentence_embeddings(found.last_hidden_state.clone(), mask);
            golden.assert_close("sentence_embeddings", found, F32);
        }
        golden.assert_close("last_hidden_state", found.last_hidden_state, F32);
    }
}

/// With gradients, attention is spelt out instead of the back end's own.
#[test]
fn gradients_through_masks_match_torch() {
    let device = Device::flex().autodiff();
    for name in CLIPS.into_iter().chain(BERTS) {
        let golden = Golden::read(name);
        let (output, found) = if name.starts_with("clip") {
            let clip = golden.clip(&device);
            let output = golden.read_clip(&clip, &device).last_hidden_state;
            (output.clone(), gradients(&clip, &output.square().mean().backward()))
        } else {
            let bert = golden.bert(&device);
            let output = golden.read_bert(&bert, &device).last_hidden_state;
            (output.clone(), gradients(&bert, &output.square().mean().backward()))
        };
        golden.assert_close("last_hidden_state", output, F32);
        assert!(found.values().all(|data| data.iter::<f32>().all(f32::is_finite)), "{name}");
        let expected =
            golden.arrays.iter().filter_map(|(name, data)| Some((name.split_once('/')?.1, data)));
        let mut compared = 0;
        for (parameter, expected) in expected {
            let ours = parameter.trim_start_matches("text_model.").trim_start_matches("bert.");
            assert_close(parameter, &found[ours], expected, F32);
            compared += 1;
        }
        assert!(compared >= 1, "no gradient in {name}");
    }
}

#[test]
fn bf16_text_encoders_agree_with_f32() {
    let device = Device::flex();
    for name in CLIPS {
        let golden = Golden::read(name);
        let clip = golden.clip(&device).with_compute(Compute::Bf16);
        let found = golden.read_clip(&clip, &device);
        golden.assert_near("last_hidden_state", found.last_hidden_state, BF16);
        golden.assert_near("pooler_output", found.pooler_output, BF16);
    }
    for name in BERTS {
        let golden = Golden::read(name);
        let bert = golden.bert(&device).with_compute(Compute::Bf16);
        let found = golden.read_bert(&bert, &device);
        golden.assert_near("last_hidden_state", found.last_hidden_state, BF16);
    }
}

#[test]
fn clip_files_are_read_under_old_and_new_names() {
    for name in CLIPS {
        let golden = Golden::read(name);
        let config = ClipTextConfig::from_transformers(&golden.config).unwrap();
        let state = state_dict(&golden.clip(&Device::flex()));
        let mut old = config.to_file(state.clone());
        assert!(old.keys().all(|name| name.starts_with("text_")), "{:?}", old.keys());
        assert_eq!(
            config.for_file(&old),
            ClipTextConfig::from_transformers(&golden.config).unwrap()
        );
        let positions = TensorData::new((0..9i64).collect::<Vec<_>>(), [1, 9]);
        old.insert("text_model.embeddings.position_ids".into(), positions);
        for extra in ["logit_scale", "visual_projection.weight", "vision_model.post_layernorm.bias"]
        {
            old.insert(extra.into(), TensorData::new(vec![1f32], [1]));
        }
        let config = ClipTextConfig::from_transformers(&golden.config).unwrap();
        assert_eq!(config.from_file(old.clone()), state);
        let without = ClipTextConfig { projection_dim: None, ..config };
        assert!(!without.from_file(old).contains_key("text_projection.weight"));
    }
    // What version 5 writes of a network without a projection is what is in memory.
    let golden = Golden::read("clip_text");
    assert_eq!(state_dict(&golden.clip(&Device::flex())), golden.weights);
}

#[test]
fn bert_files_are_read_with_and_without_a_head() {
    let golden = Golden::read("bert_other");
    assert!(golden.weights.keys().any(|name| name.starts_with("cls.")));
    let config = BertConfig::from_transformers(&golden.config).unwrap();
    assert!(!config.add_pooling_layer, "a masked language model has no pooler");
    let state = state_dict(&golden.bert(&Device::flex()));
    assert_eq!(config.from_file(state.clone()), state);

    let golden = Golden::read("bert");
    let state = state_dict(&golden.bert(&Device::flex()));
    assert_eq!(state, golden.weights);
    let config = BertConfig::from_transformers(&golden.config).unwrap();
    let mut old: StateDict = state
        .iter()
        .map(|(name, data)| {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
            (format!("bert.{}", name.replace("LayerNorm.bias", "LayerNorm.beta")), data.clone())
        })
        .collect();
    old.insert("cls.seq_relationship.bias".into(), TensorData::new(vec![1f32; 2], [2]));
    old.insert("bert.embeddings.position_ids".into(), TensorData::new(vec![0i64; 10], [1, 10]));
    assert!(config.clone().for_file(&old).add_pooling_layer);
    assert_eq!(config.from_file(old.clone()), state);
    old.retain(|name, _| !name.contains("pooler"));
    let without = config.for_file(&old);
    assert!(!without.add_pooling_layer);
    assert!(!without.from_file(state).keys().any(|name| name.starts_with("pooler")));
}

#[test]
fn configs_of_transformers_are_understood_or_refused() {
    let clip = |json: &str| ClipTextConfig::from_transformers(json);
    // transformers' defaults.
    let small = ClipTextConfig {
        hidden_size: 512,
        intermediate_size: 2048,
        num_attention_heads: 8,
        ..ClipTextConfig::default()
    };
    assert_eq!(clip(r#"{"model_type": "clip_text_model"}"#).unwrap(), small);
    let whole = r#"{"model_type": "clip", "projection_dim": 768, "text_config_dict": null,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}}"#;
    let expected = ClipTextConfig { projection_dim: Some(768), ..ClipTextConfig::default() };
    assert_eq!(clip(whole).unwrap(), expected);
    let message = |json: &str| clip(json).unwrap_err().to_string();
    assert_eq!(
        message(r#"{"model_type": "siglip"}"#),
        "CLIP text encoder: the config file has model_type \"siglip\", which is not supported; \
         expected clip_text_model or clip"
    );
    assert!(message(r#"{"model_type": "clip", "text_config": {"hidden_act": "silu"}}"#).contains(
        "hidden_act \"silu\", which is not supported; expected gelu, gelu_new, gelu_pytorch_tanh"
    ));
    assert!(
        message(r#"{"model_type": "clip_text_model", "eos_token_id": [1]}"#)
            .contains("cannot be read")
    );
    assert!(
        message(r#"{"model_type": "clip_text_model", "num_attention_heads": 7}"#).contains("512")
    );

    let bert = |json: &str| BertConfig::from_transformers(json);
    assert_eq!(bert(r#"{"model_type": "bert"}"#).unwrap(), BertConfig::default());
    let cxr =
        r#"{"model_type": "cxr-bert", "architectures": ["CXRBertModel"], "hidden_act": "relu"}"#;
    let expected = BertConfig {
        hidden_act: Activation::Relu,
        add_pooling_layer: false,
        ..BertConfig::default()
    };
    assert_eq!(bert(cxr).unwrap(), expected);
    let message = |json: &str| bert(json).unwrap_err().to_string();
    let relative = r#"{"model_type": "bert", "position_embedding_type": "relative_key"}"#;
    assert!(message(relative).contains("expected absolute"));
    assert!(message(r#"{"model_type": "bert", "is_decoder": true}"#).contains("is_decoder true"));
    assert!(message("{}").contains("missing field `model_type`"));
}

#[test]
fn inputs_beyond_the_tables_are_refused() {
    let device = Device::flex();
    let ids = |rows: &[&[i64]]| {
        let shape = [rows.len(), rows.first().map_or(0, |row| row.len())];
        Tensor::<2, Int>::from_data(TensorData::new(rows.concat(), shape), &device)
    };
    let clip = Golden::read("clip_text").clip(&device);
    let message = |input, mask| clip.forward(input, mask).unwrap_err().to_string();
    assert_eq!(
        message(ids(&[&[1, 2], &[39, 40]]), None),
        "CLIP text encoder: input_ids has 40 at [1, 1], expected 0 to 39 (vocab_size)"
    );
    assert!(message(ids(&[&[0, -1]]), None).contains("has -1 at [0, 1]"));
    assert_eq!(
        message(ids(&[&[0; 10]]), None),
        "CLIP text encoder: the texts have 10 tokens, at most 9 (max_position_embeddings)"
    );
    assert_eq!(
        message(ids(&[&[1, 2]]), Some(ids(&[&[1, 1, 1]]))),
        "CLIP text encoder: attention_mask is [1, 3], expected [1, 2] as input_ids"
    );

    let bert = Golden::read("bert").bert(&device);
    let message = |input, types| bert.forward(input, None, types).unwrap_err().to_string();
    assert!(message(ids(&[&[0, 40]]), None).contains("BERT: input_ids has 40 at [0, 1]"));
    assert_eq!(
        message(ids(&[&[1, 2]]), Some(ids(&[&[0, 2]]))),
        "BERT: token_type_ids has 2 at [0, 1], expected 0 to 1 (type_vocab_size)"
    );
    assert!(message(ids(&[&[0; 11]]), None).contains("11 tokens, at most 10"));
}

#[test]
fn a_text_that_is_all_padding_makes_no_nan() {
    for device in [Device::flex(), Device::flex().autodiff()] {
        let input = || Tensor::<2, Int>::from_ints([[1, 2, 3], [4, 5, 6]], &device);
        let mask = || Tensor::<2, Int>::from_ints([[0, 0, 0], [1, 1, 0]], &device);
        let finite = |data: TensorData| assert!(data.iter::<f32>().all(f32::is_finite), "{data}");
        let clip = Golden::read("clip_text").clip(&device);
        finite(clip.forward(input(), Some(mask())).unwrap().last_hidden_state.into_data());
        let bert = Golden::read("bert").bert(&device);
        let tokens = bert.forward(input(), Some(mask()), None).unwrap().last_hidden_state;
        finite(tokens.clone().into_data());
        finite(sentence_embeddings(tokens, mask()).into_data());
    }
}

#[test]
fn tokenizers_match_transformers() {
    let golden = tokenizers();
    let texts: Vec<&str> =
        golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for case in golden["cases"].as_array().unwrap() {
        let folder = folder_of(case);
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        for output in case["outputs"].as_array().unwrap() {
            let length = match output["length"].as_u64() {
                Some(n) => Length::Fixed(n as usize),
                None => Length::Longest { at_most: 1000 },
            };
            let found = tokenizer.encode(&texts, length).unwrap();
            let name = &case["name"];
            assert_eq!(rows(&found.input_ids), output["input_ids"], "{name} {length:?}");
            assert_eq!(rows(&found.attention_mask), output["attention_mask"], "{name} {length:?}");
        }
    }
}

#[test]
fn damaged_vocabularies_are_refused() {
    let golden = tokenizers();
    let case = |name: &str| {
        let cases = golden["cases"].as_array().unwrap();
        folder_of(cases.iter().find(|case| case["name"] == name).unwrap())
    };
    let message = |folder: &Path| Tokenizer::open(folder).unwrap_err().to_string();
    let change = |path: PathBuf, change: &dyn Fn(String) -> String| {
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, change(text)).unwrap();
    };

    let empty = tempfile::tempdir().unwrap();
    assert!(message(empty.path()).contains("has no tokenizer: expected tokenizer.json"));

    let folder = case("bert");
    change(folder.path().join("vocab.txt"), &|text| text.replace("[SEP]", "[SOP]"));
    assert!(message(folder.path()).contains("no token \"[SEP]\""));
    std::fs::write(folder.path().join("vocab.txt"), [0xff, 0xfe]).unwrap();
    assert!(message(folder.path()).contains("vocab.txt is not a usable vocabulary: invalid utf-8"));

    let folder = case("clip");
    change(folder.path().join("merges.txt"), &|text| format!("{text}single\n"));
    assert!(message(folder.path()).contains("no pair of tokens: \"single\""));
    // Longer together than any token.
    change(folder.path().join("merges.txt"), &|text| {
        text.replace("single", "<|startoftext|> <|endoftext|>")
    });
    assert!(message(folder.path()).contains("is not of tokens to a token"));
    std::fs::write(folder.path().join("vocab.json"), "[]").unwrap();
    assert!(message(folder.path()).contains("vocab.json is not a usable vocabulary"));

    for name in ["bert_saved", "clip_saved"] {
        let folder = case(name);
        let path = folder.path().join("tokenizer.json");
        let whole = std::fs::read_to_string(&path).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 3] {
            std::fs::write(&path, &whole.as_bytes()[..length]).unwrap();
            assert!(message(folder.path()).contains("tokenizer.json is not a usable vocabulary"));
        }
        std::fs::write(&path, "{}").unwrap();
        assert!(message(folder.path()).contains("tokenizer.json is not a usable vocabulary"));
    }
    let folder = case("clip_saved");
    change(folder.path().join("tokenizer.json"), &|text| {
        text.replacen("\"merges\":[", "\"merges\":[[\"<|startoftext|>\",\"<|endoftext|>\"],", 1)
    });
    assert!(message(folder.path()).contains("is not of tokens to a token"));
    let folder = case("clip_saved");
    change(folder.path().join("tokenizer.json"), &|text| {
        text.replacen("\"id\":639", "\"id\":700", 1)
    });
    assert!(message(folder.path()).contains("has number 639, not 700"));
    let folder = case("clip_saved");
    change(folder.path().join("tokenizer_config.json"), &|text| {
        text.replace("\"pad_token\":\"!\"", "\"pad_token\":\"<pad>\"")
    });
    assert!(message(folder.path()).contains("no token \"<pad>\", which pads"));
}

#[test]
fn texts_are_cut_before_their_end() {
    let golden = tokenizers();
    let folder = folder_of(&golden["cases"][0]);
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let batch = tokenizer.encode(&["chest chest chest chest"], Length::Fixed(3)).unwrap();
    let ids: Vec<i64> = batch.input_ids.iter().collect();
    assert_eq!((ids[0], ids[2], ids.len()), (2, 3, 3));
    assert_eq!(
        tokenizer.encode(&["chest"], Length::Fixed(2)).unwrap_err().to_string(),
        "texts cannot be cut to 2 tokens; at least 3 are needed with start and end"
    );
    let none = tokenizer.encode(&[] as &[&str], Length::Longest { at_most: 9 }).unwrap();
    assert_eq!(none.input_ids.shape().to_vec(), [0, 0]);
}

/// Trained weights: all-MiniLM-L6-v2, in the folder that `UMBRA_MINILM` names (config.json,
/// model.safetensors, tokenizer.json or vocab.txt).
#[test]
fn sentence_embeddings_of_trained_weights_match() {
    let Some(folder) = std::env::var_os("UMBRA_MINILM").map(PathBuf::from) else {
        crate::unrun::unrun("UMBRA_MINILM is not set");
        return;
    };
    let golden = Golden::read("minilm");
    let bytes = std::fs::read(golden_path("minilm")).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let texts: Vec<String> =
        serde_json::from_str(&metadata.metadata().as_ref().unwrap()["texts"]).unwrap();

    let tokenizer = Tokenizer::open(&folder).unwrap();
    let batch = tokenizer.encode(&texts, Length::Longest { at_most: 256 }).unwrap();
    assert_eq!(batch.input_ids, golden.arrays["input_ids"]);
    assert_eq!(batch.attention_mask, golden.arrays["attention_mask"]);

    let weights = file::read(&folder.join("model.safetensors"), NonFinite::Refuse).unwrap();
    let json = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config = BertConfig::from_transformers(&json).unwrap().for_file(&weights);
    assert_eq!(tokenizer.vocab_size(), config.vocab_size);
    let device = Device::flex();
    let bert = config.init(&mut Init::new(Stream::new(1, "bert"), &device).deferred());
    let bert = load_state_dict(bert, &config.from_file(weights)).unwrap();
    let (ids, mask) = batch.tensors(&device);
    let tokens = bert.forward(ids, Some(mask.clone()), None).unwrap().last_hidden_state;
    let found = sentence_embeddings(tokens, mask);
    let expected = golden.tensor::<2>("sentence_embeddings");
    let cosines = (found.clone() * expected.clone()).sum_dim(1).into_data();
    let least = cosines.iter::<f32>().fold(f32::INFINITY, f32::min);
    let largest = (found - expected).abs().max().into_scalar::<f32>();
    println!("{} texts: least cosine {least:.7}, largest difference {largest:.1e}", texts.len());
    assert!(least >= 0.9999, "{cosines}");
}

impl Golden {
    fn clip(&self, device: &Device) -> ClipText {
        let config = ClipTextConfig::from_transformers(&self.config).unwrap();
        let clip = config.init(&mut Init::new(Stream::new(1, "clip"), device).deferred());
        load_state_dict(clip, &config.from_file(self.weights.clone())).unwrap()
    }

    fn bert(&self, device: &Device) -> Bert {
        let config = BertConfig::from_transformers(&self.config).unwrap();
        let bert = config.init(&mut Init::new(Stream::new(1, "bert"), device).deferred());
        load_state_dict(bert, &config.from_file(self.weights.clone())).unwrap()
    }

    fn ints(&self, name: &str, device: &Device) -> Option<Tensor<2, Int>> {
        self.arrays.get(name).map(|data| Tensor::from_data(data.clone(), device))
    }

    /// What CLIP makes of the file's inputs, 0 where a token sees nothing.
    fn read_clip(&self, clip: &ClipText, device: &Device) -> ClipTextOutput {
        let ids = self.ints("input_ids", device).unwrap();
        let mut output = clip.forward(ids, self.ints("attention_mask", device)).unwrap();
        let visible = self.tensor_on::<2>("visible", device).unsqueeze_dim::<3>(2);
        output.last_hidden_state = output.last_hidden_state * visible.clone();
        output.penultimate_hidden_state = output.penultimate_hidden_state * visible;
        output
    }

    fn read_bert(&self, bert: &Bert, device: &Device) -> BertOutput {
        let ids = self.ints("input_ids", device).unwrap();
        let mask = self.ints("attention_mask", device);
        bert.forward(ids, mask, self.ints("token_type_ids", device)).unwrap()
    }
}

fn tokenizers() -> Value {
    let path = golden_path("tokenizers").with_extension("json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A folder with the files of a case.
fn folder_of(case: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files: BTreeMap<String, String> = serde_json::from_value(case["files"].clone()).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn rows(data: &TensorData) -> Value {
    let values: Vec<i64> = data.iter().collect();
    values.chunks_exact(data.shape()[1]).map(Value::from).collect()
}
