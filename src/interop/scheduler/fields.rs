//! Reading a config field by field, so that a fault can name the field.

use super::SchedulerError;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// What the schedulers of diffusers call their settings. Configs carry them along when one is made from
/// another's config, and a class reads only its own, whatever the others say.
const FIELDS_OF_OTHERS: [&str; 59] = [
    "algorithm_type",
    "base_image_seq_len",
    "base_shift",
    "beta_end",
    "beta_schedule",
    "beta_start",
    "clip_denoised",
    "clip_sample",
    "clip_sample_range",
    "corrector_order",
    "disable_corrector",
    "dynamic_thresholding_ratio",
    "euler_at_final",
    "final_sigmas_type",
    "flow_shift",
    "interpolation_type",
    "invert_sigmas",
    "lambda_min_clipped",
    "lower_order_final",
    "max_image_seq_len",
    "max_shift",
    "num_train_timesteps",
    "original_inference_steps",
    "predict_epsilon",
    "predict_x0",
    "prediction_type",
    "predictor_order",
    "rescale_betas_zero_snr",
    "rho",
    "sample_max_value",
    "set_alpha_to_one",
    "shift",
    "shift_terminal",
    "sigma_data",
    "sigma_max",
    "sigma_min",
    "sigma_schedule",
    "skip_prk_steps",
    "solver_order",
    "solver_p",
    "solver_type",
    "steps_offset",
    "stochastic_sampling",
    "tau_func",
    "tensor_format",
    "thresholding",
    "time_shift_type",
    "timestep_scaling",
    "timestep_spacing",
    "timestep_type",
    "timestep_values",
    "trained_betas",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_karras_sigmas",
    "use_lu_lambdas",
    "variance_type",
];

/// A setting with a name of its own in diffusers' configs.
pub(super) trait Named: Copy + PartialEq + 'static {
    /// Each value and its name.
    const NAMES: &'static [(&'static str, Self)];

    /// The name of this value.
    fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(_, value)| *value == self);
        found.expect("every value is in NAMES").0
    }
}

/// What is left to read of a config.
pub(super) struct Fields {
    pub(super) class: &'static str,
    left: Map<String, Value>,
}

/// The object that `json` holds, less the fields that `_use_default_values` names: diffusers gives
/// those the default of the class, whatever they say.
pub(super) fn parse(json: &str) -> Result<Map<String, Value>, SchedulerError> {
    let parse = |json: &str| serde_json::from_str::<Map<String, Value>>(json);
    let mut fields = parse(&quote_non_finite(json))
        .map_err(|error| SchedulerError::Parse { why: error.to_string() })?;
    if let Some(Value::Array(names)) = fields.remove("_use_default_values") {
        fields.retain(|name, _| !names.iter().any(|at| at.as_str() == Some(name)));
    }
    Ok(fields)
}

impl Fields {
    pub(super) fn new(class: &'static str, left: Map<String, Value>) -> Self {
        Self { class, left }
    }

    pub(super) fn number(&mut self, field: &str, default: f64) -> Result<f64, SchedulerError> {
        Ok(self.number_or_none(field, "a number")?.unwrap_or(default))
    }

    /// A number that may be absent or null.
    pub(super) fn optional(&mut self, field: &str) -> Result<Option<f64>, SchedulerError> {
        match self.left.get(field) {
            Some(Value::Null) => {
                self.left.shift_remove(field);
                Ok(None)
            }
            _ => self.number_or_none(field, "a number or null"),
        }
    }

    pub(super) fn count(&mut self, field: &str, default: usize) -> Result<usize, SchedulerError> {
        let Some(value) = self.left.shift_remove(field) else { return Ok(default) };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.fault(field, &value, "a whole number"))
    }

    /// Null is false, as it is to Python.
    pub(super) fn flag(&mut self, field: &str, default: bool) -> Result<bool, SchedulerError> {
        match self.left.shift_remove(field) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(Value::Null) => Ok(false),
            Some(value) => Err(self.fault(field, &value, "true or false")),
        }
    }

    /// Fails where the switch is on.
    pub(super) fn refuse(&mut self, field: &str) -> Result<(), SchedulerError> {
        match self.flag(field, false)? {
            true => {
                Err(self.fault(field, &Value::Bool(true), "false, which is what is built here"))
            }
            false => Ok(()),
        }
    }

    /// Fails where the field says anything at all.
    pub(super) fn refuse_value(&mut self, field: &str) -> Result<(), SchedulerError> {
        match self.left.shift_remove(field) {
            None | Some(Value::Null) => Ok(()),
            Some(value) => Err(self.fault(field, &value, "null, which is what is built here")),
        }
    }

    pub(super) fn choice<T: Named>(
        &mut self,
        field: &str,
        default: T,
    ) -> Result<T, SchedulerError> {
        let Some(value) = self.left.shift_remove(field) else { return Ok(default) };
        let found = T::NAMES.iter().find(|(name, _)| value.as_str() == Some(*name));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = T::NAMES.iter().map(|(name, _)| *name).collect();
            self.fault(field, &value, &names.join(" or "))
        })
    }

    /// A list of numbers that may be absent or null.
    pub(super) fn numbers(&mut self, field: &str) -> Result<Option<Vec<f64>>, SchedulerError> {
        match self.left.shift_remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(values)) => {
                let number = |value: &Value| {
                    value.as_f64().ok_or_else(|| self.fault(field, value, "numbers only"))
                };
                values.iter().map(number).collect::<Result<_, _>>().map(Some)
            }
            Some(value) => Err(self.fault(field, &value, "a list of numbers or null")),
        }
    }

    /// Fails where something is said that no class of diffusers is known to read. Names with an underscore in
    /// front are diffusers' own notes.
    pub(super) fn finish(self) -> Result<(), SchedulerError> {
        let is_unknown = |(name, value): &(&String, &Value)| {
            !value.is_null() && !name.starts_with('_') && !FIELDS_OF_OTHERS.contains(&name.as_str())
        };
        match self.left.iter().find(is_unknown) {
            Some((name, value)) => Err(self.fault(name, value, "a config without it")),
            None => Ok(()),
        }
    }

    pub(super) fn fault(&self, field: &str, value: &Value, expected: &str) -> SchedulerError {
        SchedulerError::Field {
            class: self.class,
            field: field.to_owned(),
            value: value.to_string(),
            expected: expected.to_owned(),
        }
    }

    fn number_or_none(
        &mut self,
        field: &str,
        expected: &str,
    ) -> Result<Option<f64>, SchedulerError> {
        let Some(value) = self.left.shift_remove(field) else { return Ok(None) };
        let number = match value.as_str() {
            Some("-Infinity") => Some(f64::NEG_INFINITY),
            _ => value.as_f64(),
        };
        number.map(Some).ok_or_else(|| self.fault(field, &value, expected))
    }
}

/// Puts quotes round the numbers that Python writes and JSON does not have.
fn quote_non_finite(json: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !WORDS.iter().any(|word| json.contains(word)) {
        return Cow::Borrowed(json);
    }
    let (mut quoted, mut rest, mut is_text) = (String::with_capacity(json.len() + 8), json, false);
    while let Some(letter) = rest.chars().next() {
        let word = WORDS.iter().find(|word| !is_text && rest.starts_with(**word));
        let length = match (word, letter) {
            (Some(word), _) => {
                quoted.extend(["\"", word, "\""]);
                rest = &rest[word.len()..];
                continue;
            }
            (None, '\\') if is_text => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => letter.len_utf8(),
        };
        is_text ^= letter == '"';
        quoted.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_words_are_quoted() {
        let json = r#"{"a": -Infinity, "NaN \" Infinity": [NaN, Infinity, "é\\"], "b": 1}"#;
        let quoted = r#"{"a": "-Infinity", "NaN \" Infinity": ["NaN", "Infinity", "é\\"], "b": 1}"#;
        assert_eq!(quote_non_finite(json), quoted);
        assert_eq!(quote_non_finite("{\"a\\"), "{\"a\\");
        assert_eq!(quote_non_finite("\"NaN\\"), "\"NaN\\");
    }
}
