//! The modality and VOI transforms that a file carries.

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::{InMemDicomObject, mem::InMemElement};

use super::{
    super::{Function, Refusal, WindowLevel},
    header::Header,
    lut::Lut,
};

/// From stored values to the modality's (PS3.3 C.11.1).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Modality {
    Linear { slope: f64, intercept: f64 },
    Table(Lut),
}

/// From the modality's values to brightness (PS3.3 C.11.2).
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Voi {
    Window(WindowLevel),
    Table(Lut),
}

impl Modality {
    pub(super) const IDENTITY: Self = Self::Linear { slope: 1.0, intercept: 0.0 };

    /// The table if there is one, else slope and intercept, else nothing.
    ///
    /// XA and RF say by a table how their values relate to X-ray intensity; it is not for display, and is left out.
    pub(super) fn read(
        object: &InMemDicomObject,
        header: &Header,
        signed: bool,
    ) -> Result<Self, Refusal> {
        let is_fluoroscopy = matches!(header.modality, Some("XA" | "RF"));
        if let Some(item) = first_item(object, tags::MODALITY_LUT_SEQUENCE)
            && !is_fluoroscopy
        {
            return Ok(Self::Table(Lut::read(item, signed)?));
        }
        let number = |tag, name| {
            find(object, tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, tag)
                .filter(|element| element.value().multiplicity() > 0)
                .map(|element| element.to_float64().map_err(|_| Refusal::Attribute(name)))
                .transpose()
        };
        let slope = number(tags::RESCALE_SLOPE, "RescaleSlope")?.unwrap_or(1.0);
        let intercept = number(tags::RESCALE_INTERCEPT, "RescaleIntercept")?.unwrap_or(0.0);
        if !slope.is_finite() || slope == 0.0 {
            return Err(Refusal::Attribute("RescaleSlope"));
        }
        if !intercept.is_finite() {
            return Err(Refusal::Attribute("RescaleIntercept"));
        }
        Ok(Self::Linear { slope, intercept })
    }

    pub(super) fn value(&self, stored: f64) -> f64 {
        match self {
            Self::Linear { slope, intercept } => stored * slope + intercept,
            Self::Table(lut) => lut.entry(stored),
        }
    }
}

impl Voi {
    /// The first table if there is one, else the first window; `None` if neither is usable.
    ///
    /// `can_be_negative`: the modality's values.
    pub(super) fn read(
        object: &InMemDicomObject,
        can_be_negative: bool,
    ) -> Result<Option<Self>, Refusal> {
        let table = find(object, tags::FRAME_VOILUT_SEQUENCE, tags::VOILUT_SEQUENCE);
        let item = table.and_then(|element| element.items()?.first());
        if let Some(item) = item.filter(|item| item.iter().next().is_some()) {
            return Ok(Some(Self::Table(Lut::read(item, can_be_negative)?)));
        }
        let window = window_level(object);
        Ok(window.filter(|window| window.function.takes(window.width)).map(Self::Window))
    }

    pub(super) fn brightness(&self, value: f64) -> f64 {
        match self {
            Self::Window(WindowLevel { center, width, function }) => {
                function.brightness(value, *center, *width)
            }
            Self::Table(lut) => lut.brightness(value),
        }
    }
}

/// The first window of a file, usable or not.
pub(super) fn window_level(object: &InMemDicomObject) -> Option<WindowLevel> {
    let number = |tag| -> Option<f64> {
        let element = find(object, tags::FRAME_VOILUT_SEQUENCE, tag)?;
        element.to_multi_float64().ok()?.first().copied().filter(|number| number.is_finite())
    };
    let function = find(object, tags::FRAME_VOILUT_SEQUENCE, tags::VOILUT_FUNCTION)
        .and_then(|element| element.to_str().ok())
        .and_then(|name| match name.trim_matches(|c: char| c.is_whitespace() || c == '\0') {
            "LINEAR_EXACT" => Some(Function::LinearExact),
            "SIGMOID" => Some(Function::Sigmoid),
            _ => None,
        });
    Some(WindowLevel {
        center: number(tags::WINDOW_CENTER)?,
        width: number(tags::WINDOW_WIDTH)?,
        function: function.unwrap_or_default(),
    })
}

/// An attribute at the top, or where an enhanced object keeps it: in `sequence` of the functional groups that all
/// frames share, or of the first frame's own.
pub(super) fn find(object: &InMemDicomObject, sequence: Tag, tag: Tag) -> Option<&InMemElement> {
    object.get(tag).or_else(|| {
        [tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE]
            .into_iter()
            .find_map(|groups| first_item(first_item(object, groups)?, sequence)?.get(tag))
    })
}

/// The first item; one without attributes says nothing, as if it were not there.
fn first_item(object: &InMemDicomObject, sequence: Tag) -> Option<&InMemDicomObject> {
    object.get(sequence)?.items()?.first().filter(|item| item.iter().next().is_some())
}
