//! Unicode's form C (NFC): one spelling of what looks the same.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// The text in form C; what is in it already is not copied.
pub fn nfc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}
