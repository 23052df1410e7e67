use std::fmt::{self, Debug, Display};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::{InvalidValue, limits, text};

/// The text before every key: `bid_lock` unless a deployment sets another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Checks a prefix: 1 to 64 printable ASCII characters without braces, `%`, `#` and space.
    ///
    /// # Errors
    /// [`InvalidValue`] says what is accepted.
    pub fn new(text: &str) -> Result<Self, InvalidValue> {
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '{' | '}' | '%' | '#');
        if text.is_empty() || text.len() > limits::PREFIX_BYTES_MAX || !text.chars().all(fits) {
            let why = "a prefix is 1 to 64 printable ASCII characters without braces, %, # and \
                       space";
            return Err(InvalidValue::new("prefix", text, why));
        }
        Ok(Self(text.into()))
    }

    /// The text, without the colon that follows it in a key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("bid_lock".into())
    }
}

/// What is locked: `bid_lock:{marketplace}:{posting}`, such as `bid_lock:upwork:job_123`.
///
/// Two different pairs never share a key, and one pair, as people see it, never has two (R29).
#[derive(Clone)]
pub struct Key {
    text: Arc<str>,
    /// Both are bounded well below 256.
    prefix_len: u8,
    marketplace_len: u8,
}

impl Key {
    /// Makes the key of a posting.
    ///
    /// # Errors
    /// [`InvalidValue`] when the marketplace is not `[a-z0-9._-]+` (at most 64 bytes), or the
    /// posting id is empty, has white space at its ends, has characters that cannot be seen, or
    /// takes more than 512 bytes once encoded.
    ///
    /// # Examples
    /// ```
    /// let key = bidlock_core::Key::new("upwork", "job_123")?;
    /// assert_eq!(key.as_str(), "bid_lock:upwork:job_123");
    /// # Ok::<(), bidlock_core::InvalidValue>(())
    /// ```
    pub fn new(marketplace: &str, posting: &str) -> Result<Self, InvalidValue> {
        check_marketplace(marketplace)?;
        let encoded = text::encode("posting id", posting, limits::POSTING_BYTES_MAX)?;
        Ok(Self::join(&Prefix::default(), marketplace, &encoded))
    }

    /// Makes a key for something that is not a posting: `bid_lock::nightly-report`.
    ///
    /// # Errors
    /// [`InvalidValue`] as for the posting id of [`Key::new`].
    pub fn named(name: &str) -> Result<Self, InvalidValue> {
        let encoded = text::encode("name", name, limits::POSTING_BYTES_MAX)?;
        Ok(Self::join(&Prefix::default(), "", &encoded))
    }

    /// Reads a key as [`Key::as_str`] writes it, under the given prefix.
    ///
    /// # Errors
    /// [`InvalidValue`] when the text is not such a key, down to the spelling of its encoding.
    pub fn parse(prefix: &Prefix, text: &str) -> Result<Self, InvalidValue> {
        let refuse = |why: &str| {
            let form = format!("{why}; a key reads {}:MARKETPLACE:POSTING", prefix.as_str());
            InvalidValue::new("key", text, form)
        };
        let rest = text
            .strip_prefix(prefix.as_str())
            .and_then(|rest| rest.strip_prefix(':'))
            .ok_or_else(|| refuse("another prefix"))?;
        let (marketplace, posting) = rest.split_once(':').ok_or_else(|| refuse("no posting"))?;
        if !marketplace.is_empty() {
            check_marketplace(marketplace)?;
        }
        if text::decode(posting).is_none() || posting.len() > limits::POSTING_BYTES_MAX {
            return Err(refuse("not in the encoding of bidlock"));
        }
        Ok(Self::join(prefix, marketplace, posting))
    }

    /// Reads a key whose prefix is not known: neither a marketplace nor an encoded posting id has
    /// a colon, so whatever stands before the last two is the prefix.
    ///
    /// # Errors
    /// [`InvalidValue`] as for [`Key::parse`].
    pub fn read(text: &str) -> Result<Self, InvalidValue> {
        let prefix = text.rsplitn(3, ':').nth(2).unwrap_or_default();
        Self::parse(&Prefix::new(prefix)?, text)
    }

    /// The same key under another prefix.
    #[must_use]
    pub fn with_prefix(&self, prefix: &Prefix) -> Self {
        if self.prefix() == prefix.as_str() {
            return self.clone();
        }
        Self::join(prefix, self.marketplace(), self.posting_encoded())
    }

    fn join(prefix: &Prefix, marketplace: &str, encoded: &str) -> Self {
        Self {
            text: format!("{}:{marketplace}:{encoded}", prefix.as_str()).into(),
            prefix_len: short(prefix.as_str().len()),
            marketplace_len: short(marketplace.len()),
        }
    }

    /// The whole text, as stores keep it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The prefix, without its colon.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.text[..usize::from(self.prefix_len)]
    }

    /// The marketplace; empty for a named key.
    #[must_use]
    pub fn marketplace(&self) -> &str {
        let start = usize::from(self.prefix_len) + 1;
        &self.text[start..start + usize::from(self.marketplace_len)]
    }

    /// The posting id or name, encoded as in the key.
    #[must_use]
    pub fn posting_encoded(&self) -> &str {
        &self.text[usize::from(self.prefix_len) + usize::from(self.marketplace_len) + 2..]
    }

    /// The posting id or name, in NFC.
    #[must_use]
    pub fn posting(&self) -> String {
        text::decode(self.posting_encoded()).unwrap_or_else(|| self.posting_encoded().to_owned())
    }

    /// Whether the posting id differs from its encoding: clients of the old kind that put the id
    /// into the key as it is then lock another key.
    #[must_use]
    pub fn is_encoded(&self) -> bool {
        self.posting_encoded().contains('%')
    }
}

/// A length that its own check has bounded by 64.
fn short(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn check_marketplace(name: &str) -> Result<(), InvalidValue> {
    let fits = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
    if !name.is_empty() && name.len() <= limits::MARKETPLACE_BYTES_MAX && name.chars().all(fits) {
        return Ok(());
    }
    let lower = name.trim().to_lowercase();
    let why = if name.is_empty() {
        "empty; name the marketplace, such as upwork".to_owned()
    } else if lower.len() <= limits::MARKETPLACE_BYTES_MAX && lower.chars().all(fits) {
        format!("two spellings would be two locks; write {lower:?}")
    } else {
        "a marketplace is 1 to 64 characters of a-z, 0-9, dot, underscore and hyphen".to_owned()
    };
    Err(InvalidValue::new("marketplace", name, why))
}

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.text)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

#[cfg(test)]
mod tests;
