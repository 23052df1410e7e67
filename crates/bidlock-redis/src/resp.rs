//! The wire format of Redis and Valkey, as far as this crate speaks it: commands as arrays of
//! bulk strings, replies in RESP2 and RESP3. See ADR 10 for why it is written here.

/// A reply longer than this is no answer to anything that this crate asks.
const LENGTH_MAX: usize = 64 << 20;
/// Replies nest two deep; deeper ones are not ours.
const DEPTH_MAX: u8 = 8;

/// One reply, or one pushed message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Nil,
    Int(i64),
    /// A simple, bulk or verbatim string, a double, a boolean, or a number of any size.
    Text(Vec<u8>),
    Error(String),
    /// An array, a set, or a map with its keys and values in turn.
    List(Vec<Self>),
    /// Something that is no answer to a command.
    Push(Vec<Self>),
}

impl Value {
    pub(crate) fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Text(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(values) => Some(values),
            _ => None,
        }
    }
}

/// What came is not RESP: the connection is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not that of a Redis or Valkey server: {0}")]
pub(crate) struct Malformed(pub(crate) String);

/// Appends a command to what is to be sent.
pub(crate) fn encode(out: &mut Vec<u8>, args: &[&[u8]]) {
    head(out, b'*', args.len());
    for arg in args {
        head(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn head(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    match u8::try_from(length) {
        Ok(digit @ 0..=9) => out.push(b'0' + digit),
        // Nearly all lengths; the general way takes ten times as long.
        Ok(digits @ 10..=99) => out.extend([b'0' + digits / 10, b'0' + digits % 10]),
        _ => out.extend_from_slice(length.to_string().as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

/// Reads one value from the front; `None` while it is not there in full. Returns its length too.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Value, usize)>, Malformed> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(0)?;
    Ok(value.map(|value| (value, reader.at)))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: u8) -> Result<Option<Value>, Malformed> {
        let Some(line) = self.line()? else { return Ok(None) };
        let Some((kind, rest)) = line.split_first() else {
            return Err(Malformed("an empty line".to_owned()));
        };
        if depth > DEPTH_MAX {
            return Err(Malformed("it nests too deep".to_owned()));
        }
        match kind {
            b'+' | b',' | b'#' | b'(' => Ok(Some(Value::Text(rest.to_vec()))),
            b'-' => Ok(Some(Value::Error(String::from_utf8_lossy(rest).into_owned()))),
            b':' => Ok(Some(Value::Int(integer(rest)?))),
            b'_' => Ok(Some(Value::Nil)),
            b'$' | b'=' | b'!' => self.bulk(*kind, rest),
            b'*' | b'~' => {
                Ok(self.values(rest, 1, depth)?.map(|l| l.map_or(Value::Nil, Value::List)))
            }
            b'%' => Ok(self.values(rest, 2, depth)?.map(|l| l.map_or(Value::Nil, Value::List))),
            b'>' => Ok(self.values(rest, 1, depth)?.map(|l| l.map_or(Value::Nil, Value::Push))),
            b'|' => {
                // What is said about a value, before the value itself.
                if self.values(rest, 2, depth)?.is_none() {
                    Ok(None)
                } else {
                    self.value(depth + 1)
                }
            }
            _ => {
                let shown = String::from_utf8_lossy(line).chars().take(40).collect::<String>();
                Err(Malformed(format!("it begins with {shown:?}")))
            }
        }
    }

    fn bulk(&mut self, kind: u8, rest: &[u8]) -> Result<Option<Value>, Malformed> {
        let Some(length) = length(rest)? else { return Ok(Some(Value::Nil)) };
        let Some(text) = self.bytes.get(self.at..self.at + length) else { return Ok(None) };
        let Some(end) = self.bytes.get(self.at + length..self.at + length + 2) else {
            return Ok(None);
        };
        if end != b"\r\n" {
            return Err(Malformed("a string has another length than it says".to_owned()));
        }
        self.at += length + 2;
        Ok(Some(match kind {
            b'!' => Value::Error(String::from_utf8_lossy(text).into_owned()),
            // A verbatim string begins with its format, such as `txt:`.
            b'=' => Value::Text(text.get(4..).unwrap_or_default().to_vec()),
            _ => Value::Text(text.to_vec()),
        }))
    }

    /// The inner option is `None` for RESP2's null array.
    #[expect(clippy::option_option, reason = "not there yet, there as null, there with values")]
    fn values(
        &mut self,
        rest: &[u8],
        per_entry: usize,
        depth: u8,
    ) -> Result<Option<Option<Vec<Value>>>, Malformed> {
        let Some(entries) = length(rest)? else { return Ok(Some(None)) };
        let count = entries * per_entry;
        let mut values = Vec::with_capacity(count.min(1_024));
        for _ in 0..count {
            match self.value(depth + 1)? {
                Some(value) => values.push(value),
                None => return Ok(None),
            }
        }
        Ok(Some(Some(values)))
    }

    fn line(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            let whole = rest.len() <= LENGTH_MAX;
            return if whole { Ok(None) } else { Err(Malformed("a line without end".to_owned())) };
        };
        let line = rest[..end].strip_suffix(b"\r");
        let line = line.ok_or_else(|| Malformed("a line that ends oddly".to_owned()))?;
        self.at += end + 1;
        Ok(Some(line))
    }
}

/// A length that may be -1, for nothing at all.
fn length(text: &[u8]) -> Result<Option<usize>, Malformed> {
    match integer(text)? {
        -1 => Ok(None),
        number => match usize::try_from(number) {
            Ok(number) if number <= LENGTH_MAX => Ok(Some(number)),
            _ => Err(Malformed(format!("a length of {number}"))),
        },
    }
}

fn integer(text: &[u8]) -> Result<i64, Malformed> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let bad = || Malformed(format!("a number {:?}", String::from_utf8_lossy(text)));
    if digits.is_empty() {
        return Err(bad());
    }
    let mut number = 0_i64;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return Err(bad());
        }
        let next = number.checked_mul(10).and_then(|tens| tens.checked_sub(i64::from(digit)));
        number = next.ok_or_else(bad)?;
    }
    if negative { Ok(number) } else { number.checked_neg().ok_or_else(bad) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Value {
        let (value, length) = decode(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        value
    }

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    #[test]
    fn every_type_of_both_versions_is_read() {
        for (wire, value) in [
            ("+OK\r\n", text("OK")),
            (":-42\r\n", Value::Int(-42)),
            (":9007199254740993\r\n", Value::Int(9_007_199_254_740_993)),
            ("-ERR no\r\n", Value::Error("ERR no".into())),
            ("$3\r\na\r\n\r\n", text("a\r\n")),
            ("$0\r\n\r\n", text("")),
            ("$-1\r\n", Value::Nil),
            ("*-1\r\n", Value::Nil),
            ("_\r\n", Value::Nil),
            (",1.5\r\n", text("1.5")),
            ("#t\r\n", text("t")),
            ("(123\r\n", text("123")),
            ("=7\r\ntxt:abc\r\n", text("abc")),
            ("!5\r\nERR x\r\n", Value::Error("ERR x".into())),
            ("*2\r\n:1\r\n*0\r\n", Value::List(vec![Value::Int(1), Value::List(vec![])])),
            ("~1\r\n:1\r\n", Value::List(vec![Value::Int(1)])),
            ("%1\r\n+a\r\n:1\r\n", Value::List(vec![text("a"), Value::Int(1)])),
            (">1\r\n+a\r\n", Value::Push(vec![text("a")])),
            ("|1\r\n+a\r\n:1\r\n:2\r\n", Value::Int(2)),
        ] {
            assert_eq!(read(wire), value, "{wire:?}");
            for end in 0..wire.len() {
                assert_eq!(decode(&wire.as_bytes()[..end]).unwrap(), None, "{wire:?} up to {end}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bad in
            ["HTTP/1.1 400 Bad\r\n", "\r\n", ":x\r\n", ":\r\n", "$-2\r\n", "$1\r\nabc", "+a\n"]
        {
            assert!(decode(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(decode(b"$99999999999\r\n").is_err());
        assert!(decode("*1\r\n".repeat(50).as_bytes()).is_err());
    }

    #[test]
    fn commands_are_written_as_arrays() {
        let mut out = Vec::new();
        encode(&mut out, &[b"GET", b"a twelve-key"]);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$12\r\na twelve-key\r\n");
        for length in [9, 10, 99, 100, 1_234] {
            out.clear();
            encode(&mut out, &[&vec![b'x'; length]]);
            assert!(out.starts_with(format!("*1\r\n${length}\r\nx").as_bytes()), "{length}");
        }
    }

    proptest! {
        #[test]
        fn a_command_is_read_back(args in proptest::collection::vec(any::<Vec<u8>>(), 1..5)) {
            let mut out = Vec::new();
            let slices: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
            encode(&mut out, &slices);
            let read = decode(&out).unwrap().unwrap();
            prop_assert_eq!(read.1, out.len());
            prop_assert_eq!(read.0, Value::List(args.into_iter().map(Value::Text).collect()));
        }

        #[test]
        fn nothing_makes_the_reader_panic(bytes in any::<Vec<u8>>()) {
            drop(decode(&bytes));
        }
    }
}
