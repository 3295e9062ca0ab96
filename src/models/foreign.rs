//! Another project's `config.json`, read so that nothing in it goes unnoticed.

use super::ConfigError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Most characters of a value that an error repeats.
const MOST_SHOWN: usize = 60;

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
        let fields: Map<String, Value> = serde_json::from_str(json)
            .map_err(|error| ConfigError::Parse { network, why: error.to_string() })?;
        let mut foreign = Self { network, fields };
        foreign.confine("_class_name", |name| name == class, class)?;
        Ok(foreign)
    }

    /// The field `name`, or `default` where it is absent.
    pub(crate) fn take<T: DeserializeOwned>(
        &mut self,
        name: &str,
        default: T,
    ) -> Result<T, ConfigError> {
        match self.fields.remove(name) {
            None => Ok(default),
            Some(value) => serde_json::from_value(value).map_err(|error| ConfigError::Parse {
                network: self.network,
                why: format!("{name}: {error}"),
            }),
        }
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
