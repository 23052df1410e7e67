//! What a server says, in both versions of its protocol, and how commands are read.

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// A status, such as `OK`.
    Status(String),
    /// An error, beginning with its kind.
    Error(String),
    /// A number.
    Int(i64),
    /// A string of bytes.
    Bulk(Vec<u8>),
    /// Nothing.
    Nil,
    /// A list.
    Array(Vec<Self>),
    /// Names and values.
    Map(Vec<(Self, Self)>),
    /// A message.
    Push(Vec<Self>),
}

impl Reply {
    /// The status of a command that went well.
    #[must_use]
    pub fn ok() -> Self {
        Self::Status("OK".to_owned())
    }

    /// A string.
    #[must_use]
    pub fn bulk(text: impl Into<Vec<u8>>) -> Self {
        Self::Bulk(text.into())
    }

    /// An error.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }

    /// Appends it as it goes over the wire.
    pub fn encode(&self, out: &mut Vec<u8>, resp3: bool) {
        match self {
            Self::Status(text) => line(out, b'+', text.as_bytes()),
            Self::Error(text) => line(out, b'-', text.as_bytes()),
            Self::Int(number) => line(out, b':', number.to_string().as_bytes()),
            Self::Bulk(bytes) => {
                line(out, b'$', bytes.len().to_string().as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Self::Nil if resp3 => out.extend_from_slice(b"_\r\n"),
            Self::Nil => out.extend_from_slice(b"$-1\r\n"),
            Self::Array(values) => list(out, b'*', values, resp3),
            Self::Push(values) => list(out, if resp3 { b'>' } else { b'*' }, values, resp3),
            Self::Map(pairs) => {
                let count = if resp3 { pairs.len() } else { pairs.len() * 2 };
                let kind = if resp3 { b'%' } else { b'*' };
                line(out, kind, count.to_string().as_bytes());
                for (name, value) in pairs {
                    name.encode(out, resp3);
                    value.encode(out, resp3);
                }
            }
        }
    }
}

fn line(out: &mut Vec<u8>, kind: u8, text: &[u8]) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

fn list(out: &mut Vec<u8>, kind: u8, values: &[Reply], resp3: bool) {
    line(out, kind, values.len().to_string().as_bytes());
    for value in values {
        value.encode(out, resp3);
    }
}

/// Takes whole commands from the front of what came in; an error when it is none.
pub(crate) fn commands(unread: &mut Vec<u8>) -> Result<Vec<Vec<Vec<u8>>>, ()> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((command, length)) = command(&unread[at..])? {
        found.push(command);
        at += length;
    }
    unread.drain(..at);
    Ok(found)
}

type Command = (Vec<Vec<u8>>, usize);

fn command(bytes: &[u8]) -> Result<Option<Command>, ()> {
    let Some((count, mut at)) = number(bytes, b'*')? else { return Ok(None) };
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let Some((length, head)) = number(&bytes[at..], b'$')? else { return Ok(None) };
        at += head;
        let Some(word) = bytes.get(at..at + length) else { return Ok(None) };
        if bytes.len() < at + length + 2 {
            return Ok(None);
        }
        words.push(word.to_vec());
        at += length + 2;
    }
    Ok(Some((words, at)))
}

/// A line that says how much follows, and its length.
fn number(bytes: &[u8], kind: u8) -> Result<Option<(usize, usize)>, ()> {
    match bytes.first() {
        None => return Ok(None),
        Some(first) if *first != kind => return Err(()),
        Some(_) => {}
    }
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let digits = bytes.get(1..end.saturating_sub(1)).unwrap_or_default();
    let text = std::str::from_utf8(digits).map_err(|_| ())?;
    Ok(Some((text.parse().map_err(|_| ())?, end + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_in_whatever_pieces_they_come() {
        let text = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n";
        for cut in 0..=text.len() {
            let mut unread = text[..cut].to_vec();
            let mut found = commands(&mut unread).unwrap();
            unread.extend_from_slice(&text[cut..]);
            found.extend(commands(&mut unread).unwrap());
            assert_eq!(found, [vec![b"GET".to_vec(), b"k".to_vec()], vec![b"PING".to_vec()]]);
        }
        assert!(commands(&mut b"GET k\r\n".to_vec()).is_err());
    }

    #[test]
    fn nothing_is_said_as_the_version_says_it() {
        for (resp3, text) in [(true, "_\r\n"), (false, "$-1\r\n")] {
            let mut out = Vec::new();
            Reply::Nil.encode(&mut out, resp3);
            assert_eq!(out, text.as_bytes());
        }
    }
}
