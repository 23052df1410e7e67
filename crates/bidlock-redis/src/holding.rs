//! What stands under a lock key, as far as it may be shown.

use bidlock_core::{FencingToken, Holder, Label};

/// A value as the scripts show it: without the second half of the lease's secret.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) holder: Holder,
    /// `None` for the lock of another kind of client.
    pub(crate) token: Option<FencingToken>,
    pub(crate) revoked: bool,
}

impl Holding {
    /// Reads `HOST:PID:UNIQUE#b1;TOKEN;STATE;CLIENT;LABEL`; anything else is foreign.
    pub(crate) fn read(value: &str) -> Self {
        Self::ours(value).unwrap_or_else(|| Self {
            holder: Holder::foreign(value),
            token: None,
            revoked: false,
        })
    }

    fn ours(value: &str) -> Option<Self> {
        let (lease, rest) = value.split_once("#b1;")?;
        let mut parts = rest.splitn(4, ';');
        let token = parts.next()?.parse().ok()?;
        let (state, _client, label) = (parts.next()?, parts.next()?, parts.next()?);
        let mut names = lease.rsplitn(3, ':');
        let (short, pid, host) = (names.next()?, names.next()?.parse().ok()?, names.next()?);
        let label = Label::new(label).ok();
        let holder = Holder::Lease { host: host.to_owned(), pid, short: short.to_owned(), label };
        Some(Self { holder, token: Some(FencingToken::new(token)), revoked: state == "r" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_values_are_read_and_others_are_foreign() {
        let read = Holding::read("h:7:01234567#b1;1795645692043197;r;abc;for Ada; and Bob");
        assert_eq!(read.token, Some(FencingToken::new(1_795_645_692_043_197)));
        assert!(read.revoked);
        assert_eq!(read.holder.to_string(), "h:7:01234567 (for Ada; and Bob)");
        for foreign in ["holder", "h:7:01234567", "h:7:0#b1;x;h;a;", "h#b1;1;h;a;", ""] {
            let read = Holding::read(foreign);
            assert!(read.holder.is_foreign() && read.token.is_none(), "{foreign:?}");
        }
    }
}
