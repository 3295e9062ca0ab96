//! Another project's `config.json`, read so that nothing in it goes unnoticed.

use super::ConfigError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Most characters of a value that an error repeats.
const MOST_SHOWN: usize = 60;

/// What transformers' `PretrainedConfig` writes for every class: notes, outputs that are asked for, and how a
/// language model generates. Nothing here changes what an encoder computes.
const NOTES_OF_TRANSFORMERS: [&str; 61] = [
    "architectures",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "label2id",
    "length_penalty",
    "mask_token_id",
    "max_length",
    "min_length",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// The fields of a config. Each is taken, confined to what is understood, or passed over by name; one that is
/// left then, and is not null, would change the network in a way nobody here knows of, and is refused.
#[derive(Debug)]
pub(crate) struct Foreign {
    network: &'static str,
    fields: Map<String, Value>,
}

impl Foreign {
    /// Reads `json`, the config of a diffusers class called `class`.
    pub(crate) fn read(
        network: &'static str,
        class: &'static str,
        json: &str,
    ) -> Result<Self, ConfigError> {
        let mut foreign = Self::parse(network, json)?;
        foreign.confine("_class_name", |name| name == class, class)?;
        Ok(foreign)
    }

    /// Reads `json`, the config of any class.
    pub(crate) fn parse(network: &'static str, json: &str) -> Result<Self, ConfigError> {
        let fields = serde_json::from_str(json)
            .map_err(|error| ConfigError::Parse { network, why: error.to_string() })?;
        Ok(Self::new(network, fields))
    }

    /// Of `fields` that were read elsewhere.
    pub(crate) fn new(network: &'static str, fields: Map<String, Value>) -> Self {
        Self { network, fields }
    }

    /// The field `name`, or `default` where it is absent.
    pub(crate) fn take<T: DeserializeOwned>(
        &mut self,
        name: &str,
        default: T,
    ) -> Result<T, ConfigError> {
        self.fields.remove(name).map_or(Ok(default), |value| self.parsed(name, value))
    }

    /// The field `name`, which has no default.
    pub(crate) fn require<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, ConfigError> {
        match self.fields.remove(name) {
            Some(value) => self.parsed(name, value),
            None => Err(ConfigError::Parse {
                network: self.network,
                why: format!("missing field `{name}`"),
            }),
        }
    }

    /// Every field that a `T` has, with its defaults for those that are absent.
    pub(crate) fn take_each<T>(&mut self) -> Result<T, ConfigError>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let known = serde_json::to_value(T::default()).unwrap_or_default();
        let mut taken = Map::new();
        for name in known.as_object().into_iter().flat_map(Map::keys) {
            if let Some(value) = self.fields.remove(name) {
                // Alone first, so that an error has its name.
                let alone = Map::from_iter([(name.clone(), value.clone())]);
                self.parsed::<T>(name, alone.into())?;
                taken.insert(name.clone(), value);
            }
        }
        self.parsed("fields", taken.into())
    }

    fn parsed<T: DeserializeOwned>(&self, name: &str, value: Value) -> Result<T, ConfigError> {
        serde_json::from_value(value).map_err(|error| ConfigError::Parse {
            network: self.network,
            why: format!("{name}: {error}"),
        })
    }

    /// The field `name`, which diffusers writes as one value for all levels or a list with one for each.
    pub(crate) fn take_per_level<T: DeserializeOwned>(
        &mut self,
        name: &str,
        default: T,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(value) = self.fields.remove(name) else { return Ok(vec![default]) };
        match OneOrEach::deserialize(&value) {
            Ok(values) => Ok(values.into()),
            Err(_) => self.refuse(name, &value, "one value, or a list with one per level"),
        }
    }

    /// The field `name`, which may be a list of equal values.
    pub(crate) fn take_common<T: DeserializeOwned + PartialEq>(
        &mut self,
        name: &str,
        default: T,
    ) -> Result<T, ConfigError> {
        let Some(value) = self.fields.remove(name) else { return Ok(default) };
        let values = OneOrEach::deserialize(&value).map(Vec::<T>::from).unwrap_or_default();
        let mut values = values.into_iter();
        match values.next() {
            Some(first) if values.all(|other| other == first) => Ok(first),
            _ => self.refuse(name, &value, "one value for all levels"),
        }
    }

    /// Fails unless the field `name` is absent or `is_understood`, of which `expected` tells.
    pub(crate) fn confine(
        &mut self,
        name: &str,
        is_understood: impl FnOnce(&Value) -> bool,
        expected: &'static str,
    ) -> Result<(), ConfigError> {
        match self.fields.remove(name) {
            Some(value) if !is_understood(&value) => self.refuse(name, &value, expected),
            _ => Ok(()),
        }
    }

    /// Fails if the field `name` is there and not null.
    pub(crate) fn confine_to_null(&mut self, name: &str) -> Result<(), ConfigError> {
        self.confine(name, Value::is_null, "null")
    }

    /// Fails if the field `name` is there and neither false nor null.
    pub(crate) fn confine_to_false(&mut self, name: &str) -> Result<(), ConfigError> {
        self.confine(name, |value| value.is_null() || *value == Value::Bool(false), "false")
    }

    /// Passes over fields that do not decide what the network computes.
    pub(crate) fn pass_over(&mut self, names: &[&str]) {
        for name in names {
            self.fields.remove(*name);
        }
    }

    /// Fails if a field was neither taken nor confined nor passed over. Names with an underscore in front are
    /// diffusers' own notes.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        let mut left = self.fields.iter().filter(|(_, value)| !value.is_null());
        match left.find(|(name, _)| !name.starts_with('_')) {
            Some((name, value)) => self.refuse(name, value, "a config without it"),
            None => Ok(()),
        }
    }

    /// [`finish`](Self::finish) for an encoder of transformers: what every class writes is passed over, unless it
    /// says that the network is another one.
    pub(crate) fn finish_encoder(mut self) -> Result<(), ConfigError> {
        let is_empty = |value: &Value| value.as_object().is_none_or(Map::is_empty);
        self.confine("pruned_heads", is_empty, "no heads that were cut out")?;
        for name in ["is_encoder_decoder", "is_decoder", "add_cross_attention"] {
            self.confine_to_false(name)?;
        }
        self.pass_over(&NOTES_OF_TRANSFORMERS);
        self.finish()
    }

    /// The error that `name` has a `value` other than `expected`.
    pub(crate) fn refuse<T>(
        &self,
        name: &str,
        value: &Value,
        expected: &'static str,
    ) -> Result<T, ConfigError> {
        let text = value.to_string();
        let shown: String = text.chars().take(MOST_SHOWN).collect();
        let rest = if shown.len() < text.len() { "…" } else { "" };
        let what = format!("{name} {shown}{rest}");
        Err(ConfigError::Foreign { network: self.network, what, expected })
    }
}

/// The class of diffusers that `json` names, if it names one.
pub(crate) fn class(network: &'static str, json: &str) -> Result<Option<String>, ConfigError> {
    Foreign::parse(network, json)?.take("_class_name", None)
}

/// One value for all levels, or a list with one for each.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrEach<T> {
    One(T),
    Each(Vec<T>),
}

impl<T> From<OneOrEach<T>> for Vec<T> {
    fn from(values: OneOrEach<T>) -> Self {
        match values {
            OneOrEach::One(all) => vec![all],
            OneOrEach::Each(each) => each,
        }
    }
}

/// `values` as diffusers writes them: one for all levels bare, others as a list.
pub(crate) fn per_level<T: Copy + Into<Value>>(values: &[T]) -> Value {
    match *values {
        [all] => all.into(),
        ref each => each.iter().map(|&value| value.into()).collect::<Vec<Value>>().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Foreign {
        Foreign::read("network", "Known", json).unwrap()
    }

    #[test]
    fn what_nobody_asked_for_is_refused() {
        let mut foreign =
            read(r#"{"_class_name": "Known", "_note": 1, "a": 2, "b": null, "c": [1]}"#);
        assert_eq!(foreign.take("a", 0).unwrap(), 2);
        assert_eq!(foreign.take("d", 7).unwrap(), 7);
        assert_eq!(
            foreign.finish().unwrap_err().to_string(),
            "network: the config file has c [1], which is not supported; expected a config without it"
        );
        let error = Foreign::read("network", "Known", r#"{"_class_name": "Other"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"network: the config file has _class_name "Other", which is not supported; expected Known"#
        );
    }

    #[test]
    fn one_or_each_is_understood() {
        let text = r#"{"a": 1, "b": [2, 2], "c": [3, 4], "d": [[1], 2], "e": [], "f": "x"}"#;
        let mut foreign = read(text);
        assert_eq!(foreign.take_per_level("a", 9).unwrap(), [1]);
        assert_eq!(foreign.take_per_level("absent", 9).unwrap(), [9]);
        assert_eq!(foreign.take_common("b", 9).unwrap(), 2);
        let mut refused = |name| foreign.take_common::<usize>(name, 9).unwrap_err().to_string();
        assert!(refused("c").contains("c [3,4], which is not supported; expected one value"));
        assert!(refused("e").contains("e []"));
        let refused = foreign.take_per_level::<usize>("d", 9).unwrap_err().to_string();
        assert!(refused.contains("d [[1],2]"), "{refused}");
        let refused = foreign.take::<usize>("f", 9).unwrap_err().to_string();
        assert!(refused.starts_with("network: the config file cannot be read: f: "), "{refused}");
    }

    #[test]
    fn long_values_are_cut() {
        let mut foreign = read(&format!(r#"{{"a": "{}"}}"#, "ä".repeat(500)));
        let message = foreign.confine_to_null("a").unwrap_err().to_string();
        assert!(message.contains("ä…, which is"), "{message}");
    }
}
