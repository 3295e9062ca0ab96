//! Whose image it is, for a keyed hash and nothing else.

use std::fmt;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use super::header::code;

/// PatientID and IssuerOfPatientID. Shown nowhere: `Debug` prints neither, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct PatientId {
    id: String,
    issuer: String,
}

impl PatientId {
    /// `None` where the id is absent or blank.
    pub(super) fn read(object: &InMemDicomObject) -> Option<Self> {
        let text = |tag: Tag| -> Option<String> {
            let text = object.get(tag)?.to_str().ok()?;
            let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
            (!text.is_empty()).then(|| text.to_owned())
        };
        let id = text(tags::PATIENT_ID)?;
        Some(Self { id, issuer: text(tags::ISSUER_OF_PATIENT_ID).unwrap_or_default() })
    }

    /// What a keyed hash of the patient takes in: equal for equal id and issuer, and only then.
    pub fn bytes(&self) -> Vec<u8> {
        let length = (self.issuer.len() as u64).to_le_bytes();
        [&length[..], self.issuer.as_bytes(), self.id.as_bytes()].concat()
    }
}

impl fmt::Debug for PatientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientId")
    }
}

/// Terms of ViewPosition (0018,5101): those that PS3.3 C.8.1.1 defines for CR, and other words for a projection that
/// DX writers put there, for which C.8.11.5 defines none.
const VIEWS: [&str; 14] = [
    "AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "RAO", "LAO", "RPO", "LPO", "LATERAL",
    "LAT",
];

/// The projection, where it is one of these terms; free text is left where it is.
pub(super) fn view(object: &InMemDicomObject) -> Option<String> {
    code(object, tags::VIEW_POSITION).filter(|view| VIEWS.contains(&view.as_str()))
}

#[cfg(test)]
mod tests {
    use dicom_core::{DataElement, PrimitiveValue, VR};

    use super::*;

    fn object(tag: Tag, vr: VR, text: &str) -> InMemDicomObject {
        InMemDicomObject::from_element_iter([DataElement::new(tag, vr, PrimitiveValue::from(text))])
    }

    #[test]
    fn an_id_is_never_shown() {
        let id = PatientId::read(&object(tags::PATIENT_ID, VR::LO, " CANARY-1 ")).unwrap();
        assert!(!format!("{id:?}").contains("CANARY"));
        assert!(id.bytes().ends_with(b"\0CANARY-1"));
        assert_eq!(PatientId::read(&object(tags::PATIENT_ID, VR::LO, "  ")), None);
    }

    #[test]
    fn issuer_and_id_cannot_run_into_each_other() {
        let of =
            |id: &str, issuer: &str| PatientId { id: id.into(), issuer: issuer.into() }.bytes();
        assert_ne!(of("ab", "c"), of("b", "ca"));
        assert_eq!(of("ab", "c"), of("ab", "c"));
    }

    #[test]
    fn a_view_is_a_term_of_the_standard() {
        assert_eq!(view(&object(tags::VIEW_POSITION, VR::CS, "PA ")).as_deref(), Some("PA"));
        assert_eq!(view(&object(tags::VIEW_POSITION, VR::CS, "JANE DOE")), None);
    }
}
