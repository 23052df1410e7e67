//! Cuts a stream of RESP into its frames: requests one way, replies and pushes the other.

use std::ops::Range;

/// Deeper nesting is no RESP that a server or client sends.
const DEPTH_MAX: u32 = 16;

/// Confirmations of subscriptions: replies, although RESP3 sends them as pushes.
const CONFIRMATIONS: [&[u8]; 6] =
    [b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe", b"ssubscribe", b"sunsubscribe"];

/// How the news of a subscription begin in RESP2.
const MESSAGES: [&[u8]; 3] = [b"message", b"pmessage", b"smessage"];

/// Takes bytes as they come, and gives whole frames.
///
/// A stream that is not RESP, such as TLS, is given piece by piece as it came.
#[derive(Debug, Default)]
pub(super) struct Framer {
    waiting: Vec<u8>,
    raw: bool,
}

/// What goes through at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Frame(Vec<u8>),
    Raw(Vec<u8>),
}

impl Framer {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub(super) fn take(&mut self) -> Option<Piece> {
        if self.waiting.is_empty() {
            return None;
        }
        if !self.raw {
            match frame_end(&self.waiting, 0, 0) {
                Ok(end) => {
                    let rest = self.waiting.split_off(end);
                    return Some(Piece::Frame(std::mem::replace(&mut self.waiting, rest)));
                }
                Err(NoFrame::Incomplete) => return None,
                Err(NoFrame::NotResp) => self.raw = true,
            }
        }
        Some(Piece::Raw(std::mem::take(&mut self.waiting)))
    }
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Frame(bytes) | Self::Raw(bytes) => bytes,
        }
    }

    pub(super) fn contains(&self, pattern: &[u8]) -> bool {
        let bytes = self.bytes();
        pattern.is_empty() || bytes.windows(pattern.len()).any(|window| window == pattern)
    }

    /// Whether it is a push of RESP3 or a message of RESP2, but no confirmation.
    pub(super) fn is_news(&self) -> bool {
        let Self::Frame(frame) = self else { return false };
        let word = first_word(frame).map(|range| &frame[range]).unwrap_or_default();
        match frame.first() {
            Some(b'>') => !CONFIRMATIONS.contains(&word),
            Some(b'*') => MESSAGES.contains(&word),
            _ => false,
        }
    }

    /// Whether it answers a request.
    pub(super) fn is_reply(&self) -> bool {
        matches!(self, Self::Frame(frame) if frame.first() != Some(&b'>')) && !self.is_news()
    }

    /// Makes the command HELLO one that no server knows.
    pub(super) fn without_hello(&mut self) {
        let Self::Frame(frame) = self else { return };
        if let Some(name) = first_word(frame)
            && frame[name.clone()].eq_ignore_ascii_case(b"HELLO")
        {
            frame[name].copy_from_slice(b"H3LL0");
        }
    }
}

enum NoFrame {
    Incomplete,
    NotResp,
}

/// Where the frame that begins at `at` ends.
fn frame_end(bytes: &[u8], at: usize, depth: u32) -> Result<usize, NoFrame> {
    if depth > DEPTH_MAX {
        return Err(NoFrame::NotResp);
    }
    let kind = *bytes.get(at).ok_or(NoFrame::Incomplete)?;
    if !b"+-:_,#($!=*~>%|".contains(&kind) {
        return Err(NoFrame::NotResp);
    }
    let line = line(bytes, at + 1)?;
    let after = line.end + 2;
    if b"+-:_,#(".contains(&kind) {
        return Ok(after);
    }
    let text = std::str::from_utf8(&bytes[line]).map_err(|_| NoFrame::NotResp)?;
    let count: i64 = text.parse().map_err(|_| NoFrame::NotResp)?;
    // Minus one is nothing, in RESP2.
    let Ok(count) = usize::try_from(count) else { return Ok(after) };
    if b"$!=".contains(&kind) {
        let end = after + count + 2;
        return if end <= bytes.len() { Ok(end) } else { Err(NoFrame::Incomplete) };
    }
    let parts = match kind {
        b'%' => 2 * count,
        // Attributes belong to the frame that follows them.
        b'|' => 2 * count + 1,
        _ => count,
    };
    (0..parts).try_fold(after, |at, _| frame_end(bytes, at, depth + 1))
}

/// The text up to the end of the line.
fn line(bytes: &[u8], start: usize) -> Result<Range<usize>, NoFrame> {
    let rest = bytes.get(start..).ok_or(NoFrame::Incomplete)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n").ok_or(NoFrame::Incomplete)?;
    Ok(start..start + length)
}

/// Where the first element of a list lies, if it is a string.
fn first_word(frame: &[u8]) -> Option<Range<usize>> {
    if !matches!(frame.first(), Some(b'*' | b'>')) {
        return None;
    }
    let first = line(frame, 1).ok()?.end + 2;
    let line = line(frame, first + 1).ok()?;
    match frame.get(first)? {
        b'+' => Some(line),
        b'$' => {
            let start = line.end + 2;
            let length: usize = std::str::from_utf8(&frame[line]).ok()?.parse().ok()?;
            (start + length <= frame.len()).then(|| start..start + length)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind that servers send, nested ones too.
    const FRAMES: [&[u8]; 12] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":-12\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*2\r\n*1\r\n:1\r\n$0\r\n\r\n",
        b"%1\r\n+key\r\n~2\r\n#t\r\n_\r\n",
        b"|1\r\n+ttl\r\n:5\r\n$1\r\nx\r\n",
        b"=7\r\ntxt:abc\r\n",
        b">2\r\n$7\r\nmessage\r\n$1\r\nx\r\n",
        b"*0\r\n",
    ];

    fn all(framer: &mut Framer) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| framer.take()).map(|piece| piece.bytes().to_vec()).collect()
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let stream = FRAMES.concat();
        for size in 1..stream.len() {
            let mut framer = Framer::default();
            let mut found = Vec::new();
            for part in stream.chunks(size) {
                framer.feed(part);
                found.extend(all(&mut framer));
            }
            assert_eq!(found, FRAMES, "in parts of {size}");
        }
    }

    #[test]
    fn what_is_not_resp_passes_as_it_comes() {
        let mut framer = Framer::default();
        for part in [&b"\x16\x03\x01"[..], b"*1\r\n", b"+OK"] {
            framer.feed(part);
            assert_eq!(framer.take(), Some(Piece::Raw(part.to_vec())));
        }
    }

    fn frame(bytes: &[u8]) -> Piece {
        Piece::Frame(bytes.to_vec())
    }

    #[test]
    fn news_are_told_from_replies() {
        for news in [
            &b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"[..],
            b">2\r\n+invalidate\r\n*0\r\n",
            b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n",
            b"*4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$1\r\nx\r\n",
        ] {
            assert!(frame(news).is_news() && !frame(news).is_reply());
        }
        for confirmation in [
            &b">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"[..],
            b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
        ] {
            assert!(!frame(confirmation).is_news());
        }
        assert!(frame(b"*1\r\n$5\r\nvalue\r\n").is_reply());
        assert!(frame(b"$7\r\nmessage\r\n").is_reply());
        assert!(!Piece::Raw(b"+OK\r\n".to_vec()).is_reply());
    }

    #[test]
    fn only_the_command_hello_is_rewritten() {
        let mut hello = frame(b"*2\r\n$5\r\nhello\r\n$1\r\n3\r\n");
        hello.without_hello();
        assert_eq!(hello.bytes(), b"*2\r\n$5\r\nH3LL0\r\n$1\r\n3\r\n");
        let mut other = frame(b"*2\r\n$4\r\nECHO\r\n$5\r\nHELLO\r\n");
        other.without_hello();
        assert_eq!(other.bytes(), b"*2\r\n$4\r\nECHO\r\n$5\r\nHELLO\r\n");
    }
}
