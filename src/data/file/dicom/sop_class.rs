//! Is it a radiograph? What a file is, by its SOP class (PS3.4 annex B.5).

use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::{StandardSopClassDictionary, uids};

use super::super::Refusal;

/// What networks are trained on: projection radiographs as they are shown to a reader.
const RADIOGRAPHS: [&str; 2] =
    [uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION];

/// Refuses what is no radiograph, by the standard's name for it.
pub(super) fn check(uid: Option<&str>) -> Result<(), Refusal> {
    let Some(uid) = uid else { return Err(Refusal::NoSopClass) };
    let uid = uid.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    if RADIOGRAPHS.contains(&uid) {
        return Ok(());
    }
    let name =
        StandardSopClassDictionary.by_uid(uid).map_or("an unknown class", |entry| entry.name);
    Err(Refusal::SopClass(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radiographs_alone_pass() {
        assert_eq!(check(Some("1.2.840.10008.5.1.4.1.1.1\0")), Ok(()));
        assert_eq!(check(Some("1.2.840.10008.5.1.4.1.1.1.1 ")), Ok(()));
        let refused = |uid| check(uid).unwrap_err().to_string();
        assert!(refused(Some(uids::CT_IMAGE_STORAGE)).contains("CT Image Storage"));
        assert!(refused(Some(uids::MEDIA_STORAGE_DIRECTORY_STORAGE)).contains("Directory"));
        assert!(!refused(Some("DOE^JANE")).contains("DOE"));
        assert!(refused(None).contains("SOP class"));
    }
}
