//! Encoding of what people call things into key text, one to one (R29).

use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use crate::InvalidValue;

/// ASCII that would change the shape of a key, or its cluster slot.
const ENCODED_ASCII: &[char] = &[' ', ':', '{', '}', '%', '#'];

/// Encodes `raw` so that different texts give different results, and the same text as people see
/// it gives the same: printable ASCII stays, the rest is brought to NFC and percent-encoded.
pub(crate) fn encode(
    what: &'static str,
    raw: &str,
    bytes_max: usize,
) -> Result<String, InvalidValue> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !ENCODED_ASCII.contains(&char::from(byte));
    if !raw.is_empty() && raw.len() <= bytes_max && raw.bytes().all(plain) {
        return Ok(raw.to_owned()); // Most ids: nothing of what follows changes or refuses them.
    }
    check(what, raw)?;
    let mut encoded = String::with_capacity(raw.len());
    for c in raw.nfc() {
        if c.is_ascii_graphic() && !ENCODED_ASCII.contains(&c) {
            encoded.push(c);
        } else {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                // Writing to a string cannot fail.
                write!(encoded, "%{byte:02X}").unwrap_or_default();
            }
        }
        if encoded.len() > bytes_max {
            let why = format!("longer than {bytes_max} bytes once encoded");
            return Err(InvalidValue::new(what, raw, why));
        }
    }
    Ok(encoded)
}

/// The text that was encoded; `None` when `encoded` is not the one encoding of any text.
pub(crate) fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
            bytes.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?);
        } else {
            bytes.push(byte);
        }
    }
    let raw = String::from_utf8(bytes).ok()?;
    (encode("key", &raw, usize::MAX).ok()? == encoded).then_some(raw)
}

/// Refuses what would make two keys of one thing, or break a line of output.
fn check(what: &'static str, raw: &str) -> Result<(), InvalidValue> {
    if raw.is_empty() {
        return Err(InvalidValue::new(what, raw, "empty"));
    }
    if raw.starts_with(char::is_whitespace) || raw.ends_with(char::is_whitespace) {
        return Err(InvalidValue::new(what, raw, "white space at an end; trim it"));
    }
    match raw.chars().find_map(|c| unfit(c).map(|kind| (c, kind))) {
        None => Ok(()),
        Some((c, kind)) => {
            let why = format!("{kind} U+{:04X}; remove it", u32::from(c));
            Err(InvalidValue::new(what, raw, why))
        }
    }
}

/// Names what is wrong with a character that people cannot see or tell apart.
pub(crate) fn unfit(c: char) -> Option<&'static str> {
    match c.general_category() {
        GeneralCategory::Control => Some("control character"),
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => {
            Some("line separator")
        }
        GeneralCategory::SpaceSeparator if c != ' ' => Some("white space other than U+0020"),
        _ if is_bidi_control(c) => Some("bidi control character"),
        GeneralCategory::Format => Some("invisible character"),
        _ if is_ignorable(c) => Some("invisible character"),
        GeneralCategory::PrivateUse => Some("private-use character"),
        GeneralCategory::Unassigned => Some("unassigned character"),
        _ => None,
    }
}

/// Characters that turn the direction of what follows. Source: UAX9 §2.
const fn is_bidi_control(c: char) -> bool {
    matches!(
        c,
        '\u{061C}' | '\u{200E}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

/// Marks and letters that show nothing: `Default_Ignorable_Code_Point` outside category Cf.
/// Source: UCD, `DerivedCoreProperties`.
const fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{034F}'
            | '\u{115F}'..='\u{1160}'
            | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}'
            | '\u{2065}'
            | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}'
            | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFF8}'
            | '\u{E0000}'..='\u{E0FFF}'
    )
}

/// Shows a text in one line, with what cannot be seen spelled out.
pub(crate) fn escape(raw: &str) -> String {
    let mut shown = String::with_capacity(raw.len());
    for c in raw.chars() {
        if unfit(c).is_some() {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}
