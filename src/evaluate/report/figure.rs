use crate::metric::Refusal;
use serde::ser::SerializeMap;

/// A number, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// A finite number.
    Known(f64),
    /// Why the number could not be computed honestly, as one sentence.
    Missing(String),
}

impl Figure {
    /// The number, if there is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Missing(_) => None,
        }
    }

    /// Missing because of `reason`.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self::Missing(reason.into())
    }
}

impl Default for Figure {
    fn default() -> Self {
        Self::missing("not evaluated")
    }
}

/// JSON knows finite numbers only: whatever is not is missing, and says what it was.
impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        if value.is_finite() {
            Self::Known(value)
        } else {
            Self::Missing(format!("the result was not a finite number ({value})"))
        }
    }
}

impl From<Result<f64, Refusal>> for Figure {
    fn from(result: Result<f64, Refusal>) -> Self {
        match result {
            Ok(value) => value.into(),
            Err(refusal) => Self::Missing(refusal.to_string()),
        }
    }
}

/// Writes a figure under `key`, and beside it the reason when it is missing.
pub(super) trait FigureMap: SerializeMap {
    fn figure(&mut self, key: &str, figure: &Figure) -> Result<(), Self::Error> {
        self.serialize_entry(key, &figure.value())?;
        match figure {
            Figure::Known(_) => Ok(()),
            Figure::Missing(reason) if key == "value" => self.serialize_entry("reason", reason),
            Figure::Missing(reason) => self.serialize_entry(&format!("{key}_reason"), reason),
        }
    }
}

impl<M: SerializeMap> FigureMap for M {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_finite_or_missing() {
        assert_eq!(Figure::from(0.5), Figure::Known(0.5));
        assert!(
            matches!(Figure::from(f64::INFINITY), Figure::Missing(reason) if reason.contains("inf"))
        );
        let refused = Err(Refusal::TooFew { found: 3, needed: 4 });
        assert_eq!(
            Figure::from(refused),
            Figure::missing("3 images are too few: this figure needs at least 4")
        );
    }
}
