//! What a server's error texts mean. The first word says it, but a script's error comes with the
//! script's name before or after it, in as many ways as there are servers.

use bidlock_core::{BackendError, Endpoint, Key, Op, Refusal};

use crate::wire::Failed;

/// What is being done, for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) op: Op,
    pub(crate) key: Option<&'a Key>,
    pub(crate) endpoint: &'a Endpoint,
}

impl About<'_> {
    pub(crate) fn failed(self, failed: Failed) -> BackendError {
        let (op, key, endpoint) = (self.op, self.key.cloned(), self.endpoint.clone());
        match failed {
            Failed::NotSent(cause) => {
                BackendError::Unreachable { op, key, endpoint, source: cause.as_ref().into() }
            }
            Failed::Lost(cause) => {
                BackendError::Unknown { op, key, endpoint, source: cause.as_ref().into() }
            }
            Failed::Refused(reason) => BackendError::Refused { op, key, endpoint, reason },
        }
    }

    pub(crate) fn refused(self, reason: Refusal) -> BackendError {
        self.failed(Failed::Refused(reason))
    }

    pub(crate) fn too_late(self) -> BackendError {
        let (op, key, endpoint) = (self.op, self.key.cloned(), self.endpoint.clone());
        BackendError::TooLate { op, key, endpoint }
    }

    /// An answer that this crate's own scripts never give.
    pub(crate) fn odd(self, value: &crate::resp::Value) -> BackendError {
        let shown: String = format!("{value:?}").chars().take(100).collect();
        self.failed(Failed::Lost(format!("an answer that means nothing: {shown}").into()))
    }
}

/// Sorts an error that a server answered with.
pub(crate) fn refusal(text: &str) -> Refusal {
    let text = without_script(text);
    let has = |word: &str| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w == word);
    let lower = text.to_ascii_lowercase();
    let denied = ["can't run this command", "can't access", "no permissions", "invalid password"];
    let why = text.to_owned();
    if has("NOAUTH")
        || has("WRONGPASS")
        || has("NOPERM")
        || denied.iter().any(|d| lower.contains(d))
    {
        Refusal::Permission(why)
    } else if has("READONLY") {
        Refusal::ReadOnly(why)
    } else if has("OOM") || has("MISCONF") {
        Refusal::Full(why)
    } else if lower.contains("max number of clients")
        || ["LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "TRYAGAIN"]
            .into_iter()
            .any(has)
    {
        Refusal::NotReady(why)
    } else if has("WRONGTYPE") {
        Refusal::WrongType(why)
    } else {
        Refusal::Other(why)
    }
}

/// The server's words without the name of the script that they are about, and without the words
/// that it did not understand: a password may be among them.
pub(crate) fn without_script(text: &str) -> &str {
    let text = text.split(", with args beginning").next().unwrap_or(text);
    let text = match text.split_once("@user_script:") {
        Some((head, rest)) if head.starts_with("ERR Error running script") => {
            rest.split_once(": ").map_or(text, |(_, words)| words)
        }
        _ => text,
    };
    let text = match text.split_once("@user_script: ") {
        Some(("", rest)) => rest.split_once(": ").map_or(text, |(_, words)| words),
        _ => text,
    };
    let text = match text.rsplit_once(" script: ") {
        Some((words, place)) if place.contains("@user_script") => words,
        _ => text,
    };
    text.strip_prefix('-').unwrap_or(text).trim_end_matches('.')
}

/// Whether a server has forgotten, or never seen, a script.
pub(crate) fn is_no_script(text: &str) -> bool {
    text.starts_with("NOSCRIPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_of_all_servers_are_sorted() {
        const AT: &str = "@user_script";
        const IN_62: &str = "ERR Error running script (call to f_87): @user_script:1:";
        const CANNOT_RUN: &str = "The user executing the script can't run this command";
        const NO_RIGHT: &str = "User u has no permissions to run the 'del' command";
        const NO_KEY: &str = "No permissions to access a key";
        const WRONG_TYPE: &str =
            "WRONGTYPE Operation against a key holding the wrong kind of value";
        type Kind = fn(&Refusal) -> bool;
        let permission: Kind = |r| matches!(r, Refusal::Permission(_));
        let read_only: Kind = |r| matches!(r, Refusal::ReadOnly(_));
        let full: Kind = |r| matches!(r, Refusal::Full(_));
        let not_ready: Kind = |r| matches!(r, Refusal::NotReady(_));
        let wrong_type: Kind = |r| matches!(r, Refusal::WrongType(_));
        let other: Kind = |r| matches!(r, Refusal::Other(_));
        for (text, kind) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", permission),
            ("ERR invalid password", permission),
            ("NOAUTH Authentication required.", permission),
            ("NOPERM User u has no permissions to run the 'subscribe' command", permission),
            (&format!("ERR {CANNOT_RUN} script: ed03, on @user_script:1."), permission),
            (&format!("ERR ACL failure in script: {NO_RIGHT} script: on {AT}:1."), permission),
            (&format!("ERR ACL failure in script: {NO_KEY} script: on {AT}:1."), permission),
            (&format!("{IN_62} @user_script: 1: {CANNOT_RUN}"), permission),
            ("READONLY You can't write against a read only replica.", read_only),
            (&format!("{IN_62} @user_script: 9: -READONLY You can't write"), read_only),
            ("OOM command not allowed when used memory > 'maxmemory'.", full),
            ("MISCONF Redis is configured to save RDB snapshots, but it's unable to", full),
            ("LOADING Redis is loading the dataset in memory", not_ready),
            ("BUSY Valkey is busy running a script.", not_ready),
            ("NOREPLICAS Not enough good replicas to write.", not_ready),
            ("ERR max number of clients reached", not_ready),
            (&format!("{WRONG_TYPE} script: 8768, on @user_script:128."), wrong_type),
            (&format!("{IN_62} {WRONG_TYPE}"), wrong_type),
            ("ERR syntax error", other),
            ("ERR unknown command 'AUTH', with args beginning with: 'bots' 'hunter2'", other),
            ("BUSYGROUP something else", other),
        ] {
            let refusal = refusal(text);
            assert!(kind(&refusal), "{text}: {refusal:?}");
            let shown = refusal.to_string();
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(!shown.contains("user_script") && !shown.contains("f_8"), "{shown}");
        }
    }
}
