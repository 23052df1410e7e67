//! The keyspace: strings, hashes and sorted sets, each with or without an end.

use std::collections::BTreeMap;

/// What stands under a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// A string.
    Text(Vec<u8>),
    /// Fields and values, in the order in which they came.
    Hash(Vec<Field>),
    /// Members by score.
    Sorted(Vec<(f64, Vec<u8>)>),
}

/// A field of a hash, and its value.
pub type Field = (Vec<u8>, Vec<u8>);

/// A key's value and its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The value.
    pub data: Data,
    /// When it ends, in milliseconds since 1970.
    pub ends: Option<i64>,
}

/// All keys.
#[derive(Debug, Clone, Default)]
pub struct Db {
    keys: BTreeMap<Vec<u8>, Entry>,
    /// The time by which keys end; stands still while a script runs.
    pub(crate) now_ms: i64,
}

pub(crate) const WRONG_TYPE: &str =
    "WRONGTYPE Operation against a key holding the wrong kind of value";

impl Db {
    /// Every key that has not ended.
    pub fn live(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        let now = self.now_ms;
        let lives = move |entry: &&Entry| entry.ends.is_none_or(|ends| now <= ends);
        self.keys.iter().filter(move |(_, entry)| lives(entry)).map(|(k, e)| (k.as_slice(), e))
    }

    /// A key that has not ended.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Entry> {
        let entry = self.keys.get(key)?;
        entry.ends.is_none_or(|ends| self.now_ms <= ends).then_some(entry)
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.get(key)?;
        self.keys.get_mut(key)
    }

    /// The entry under a key, made by `new` where there is none.
    pub(crate) fn entry(&mut self, key: &[u8], new: fn() -> Data) -> &mut Entry {
        if self.get(key).is_none() {
            self.keys.insert(key.to_vec(), Entry { data: new(), ends: None });
        }
        self.keys.entry(key.to_vec()).or_insert_with(|| Entry { data: new(), ends: None })
    }

    pub(crate) fn put(&mut self, key: &[u8], data: Data, ends: Option<i64>) {
        if ends.is_some_and(|ends| ends < self.now_ms) {
            self.keys.remove(key);
        } else {
            self.keys.insert(key.to_vec(), Entry { data, ends });
        }
    }

    /// Removes a key; says whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let there = self.get(key).is_some();
        self.keys.remove(key);
        there
    }

    /// Removes a key that has become empty.
    pub(crate) fn tidy(&mut self, key: &[u8]) {
        let empty = self.keys.get(key).is_some_and(|entry| match &entry.data {
            Data::Text(_) => false,
            Data::Hash(fields) => fields.is_empty(),
            Data::Sorted(members) => members.is_empty(),
        });
        if empty {
            self.keys.remove(key);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.keys.clear();
    }

    /// The string under a key.
    pub(crate) fn text(&self, key: &[u8]) -> Result<Option<&Vec<u8>>, &'static str> {
        match self.get(key).map(|entry| &entry.data) {
            None => Ok(None),
            Some(Data::Text(text)) => Ok(Some(text)),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The hash under a key; empty where there is none.
    pub(crate) fn hash(&self, key: &[u8]) -> Result<&[Field], &'static str> {
        match self.get(key).map(|entry| &entry.data) {
            None => Ok(&[]),
            Some(Data::Hash(fields)) => Ok(fields),
            Some(_) => Err(WRONG_TYPE),
        }
    }

    /// The sorted set under a key; empty where there is none.
    pub(crate) fn sorted(&self, key: &[u8]) -> Result<&[(f64, Vec<u8>)], &'static str> {
        match self.get(key).map(|entry| &entry.data) {
            None => Ok(&[]),
            Some(Data::Sorted(members)) => Ok(members),
            Some(_) => Err(WRONG_TYPE),
        }
    }
}
