//! Records as PostgreSQL sends them, of which no type has to be asked for.

use std::error::Error;

use bidlock_core::{FencingToken, ProcessMark, WallTime};
use tokio_postgres::types::{FromSql, Type};

use super::fault::Done;
use super::rows::{Stored, decoded, garbled};
use crate::state::{Event, State};
use crate::types::AttemptInfo;
use crate::values::AttemptId;

/// The fields of a record, each as bytes.
#[derive(Debug)]
pub(super) struct Record(Vec<Option<Vec<u8>>>);

impl<'a> FromSql<'a> for Record {
    fn from_sql(_type: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Self::read(raw).ok_or_else(|| "a record that ends too soon".into())
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::RECORD
    }
}

impl Record {
    /// Reads how many there are, and then each one's type, length and bytes.
    fn read(mut raw: &[u8]) -> Option<Self> {
        let number = |raw: &mut &[u8]| -> Option<i32> {
            let (head, rest) = raw.split_first_chunk::<4>()?;
            *raw = rest;
            Some(i32::from_be_bytes(*head))
        };
        let count = number(&mut raw)?;
        let mut fields = Vec::new();
        for _ in 0..count {
            let _type = number(&mut raw)?;
            // Minus one is NULL.
            let Ok(length) = usize::try_from(number(&mut raw)?) else {
                fields.push(None);
                continue;
            };
            let (field, rest) = raw.split_at_checked(length)?;
            raw = rest;
            fields.push(Some(field.to_owned()));
        }
        Some(Self(fields))
    }

    fn bytes(&self, at: usize) -> Option<&[u8]> {
        self.0.get(at)?.as_deref()
    }

    pub(super) fn text_opt(&self, at: usize) -> Done<Option<String>> {
        let read = |bytes: &[u8]| String::from_utf8(bytes.to_owned());
        self.bytes(at).map(read).transpose().map_err(|_| unreadable(at))
    }

    pub(super) fn text(&self, at: usize) -> Done<String> {
        self.text_opt(at)?.ok_or_else(|| unreadable(at))
    }

    fn number_opt(&self, at: usize) -> Done<Option<u64>> {
        let read = |bytes: &[u8]| {
            let number = i64::from_be_bytes(bytes.try_into().ok()?);
            u64::try_from(number).ok()
        };
        self.bytes(at).map(|bytes| read(bytes).ok_or_else(|| unreadable(at))).transpose()
    }

    fn number(&self, at: usize) -> Done<u64> {
        self.number_opt(at)?.ok_or_else(|| unreadable(at))
    }

    fn time_opt(&self, at: usize) -> Done<Option<WallTime>> {
        Ok(self.number_opt(at)?.map(WallTime::from_micros))
    }

    fn id(&self, at: usize) -> Done<AttemptId> {
        let read = || -> Option<AttemptId> {
            let bits = u128::from_be_bytes(self.bytes(at)?.try_into().ok()?);
            let hex = format!("{bits:032x}");
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            parts.join("-").parse().ok()
        };
        read().ok_or_else(|| unreadable(at))
    }

    fn word<T>(&self, at: usize, read: impl FnOnce(&str) -> Option<T>) -> Done<T> {
        read(&self.text(at)?).ok_or_else(|| unreadable(at))
    }

    /// A field that is a record itself.
    pub(super) fn record(&self, at: usize) -> Done<Self> {
        self.bytes(at).and_then(Self::read).ok_or_else(|| unreadable(at))
    }

    /// Reads a row of `attempts`, in the order in which the table has its columns; a later version
    /// of the schema has more of them behind.
    pub(super) fn attempt(&self) -> Done<Stored> {
        let (marketplace, posting_encoded) = (self.text(2)?, self.text(3)?);
        let payload = self.text_opt(16)?.map(|text| text.parse().map_err(|_| unreadable(16)));
        let info = AttemptInfo {
            id: self.id(1)?,
            posting: decoded(&marketplace, &posting_encoded),
            marketplace,
            posting_encoded,
            state: self.word(4, State::from_name)?,
            event: self.word(5, Event::from_name)?,
            token: FencingToken::new(self.number(6)?),
            holder: self.text(8)?,
            process: ProcessMark::new(self.text(9)?),
            seen_at: self.time_opt(10)?,
            reserved_at: WallTime::from_micros(self.number(11)?),
            started_at: self.time_opt(12)?,
            send_by: self.time_opt(13)?,
            decided_at: self.time_opt(14)?,
            reference: self.text_opt(15)?,
            payload: payload.transpose()?,
            reason: self.text_opt(17)?,
        };
        Ok(Stored::new(info, self.number(7)?))
    }
}

fn unreadable(at: usize) -> super::fault::Fail {
    garbled(format!("field {at} of an answer cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_what_ends_too_soon_is_not() {
        let raw = [
            &2_i32.to_be_bytes()[..],
            &25_i32.to_be_bytes(),
            &2_i32.to_be_bytes(),
            b"ok",
            &20_i32.to_be_bytes(),
            &(-1_i32).to_be_bytes(),
        ]
        .concat();
        let record = Record::read(&raw).unwrap();
        assert_eq!(record.text(0).unwrap(), "ok");
        assert_eq!(record.number_opt(1).unwrap(), None);
        assert!(record.text(1).is_err() && record.text(2).is_err());
        for length in 0..raw.len() {
            assert!(Record::read(&raw[..length]).is_none(), "{length}");
        }
    }
}
