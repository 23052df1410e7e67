//! Messages that scripts publish.

use std::time::Duration;

use bidlock_core::{FencingToken, Key, LeaseId};

/// One message; what anybody else may publish is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) key: Key,
    pub(crate) lease: LeaseId,
    pub(crate) kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The key was handed over, at that time of the server's clock.
    Granted { token: FencingToken, at: i64, window: Duration },
    /// The key ends so long from now.
    Ends { left: Duration },
    /// Look.
    Look,
}

impl Message {
    /// Reads `g KEY LEASE TOKEN NOW-US WINDOW-MS`, `e KEY LEASE LEFT-MS` or `l KEY LEASE`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let kind = words.next()?;
        let key = Key::read(words.next()?).ok()?;
        let lease = words.next()?.parse().ok()?;
        let kind = match kind {
            "g" => Kind::Granted {
                token: FencingToken::new(words.next()?.parse().ok()?),
                at: words.next()?.parse().ok()?,
                window: Duration::from_millis(words.next()?.parse().ok()?),
            },
            "e" => Kind::Ends { left: Duration::from_millis(words.next()?.parse().ok()?) },
            "l" => Kind::Look,
            _ => return None,
        };
        words.next().is_none().then_some(Self { key, lease, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_and_noise_is_not() {
        let head = "bid_lock:upwork:job_1 h:1:0123456789abcdef";
        let granted = Message::read(&format!("g {head} 42 1800000000000000 3000")).unwrap();
        assert_eq!(granted.key.as_str(), "bid_lock:upwork:job_1");
        assert_eq!(
            granted.kind,
            Kind::Granted {
                token: FencingToken::new(42),
                at: 1_800_000_000_000_000,
                window: Duration::from_secs(3),
            }
        );
        let ends = Message::read(&format!("e {head} 3000")).unwrap();
        assert_eq!(ends.kind, Kind::Ends { left: Duration::from_secs(3) });
        assert_eq!(Message::read(&format!("l {head}")).unwrap().kind, Kind::Look);
        for noise in [
            "",
            "probe",
            "x y",
            "g",
            &format!("l {head} more"),
            &format!("x {head}"),
            &format!("e {head} soon"),
            "l bid_lock:upwork:job_1 h:1:secret",
            "l nokey h:1:0123456789abcdef",
        ] {
            assert_eq!(Message::read(noise), None, "{noise:?}");
        }
    }
}
