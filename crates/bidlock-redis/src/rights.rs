//! The least that a user of the server has to be allowed, and whether this one is (R23).

use bidlock_core::{BackendError, Op, Prefix, Refusal};

use crate::core::Core;
use crate::failure;
use crate::resp::Value;
use crate::scripts;

/// Commands besides those that scripts call.
const DIRECT: &str = "+hello +auth +select +ping +time +subscribe +eval +evalsha +scan +info +role";
/// Commands that scripts call.
const IN_SCRIPTS: &str = "+get +set +del +exists +pttl +pexpire +zadd +zrem +zrange +zrevrange \
                          +zcard +zrank +zscore +hset +hget +hgetall +hdel +publish";

/// The command that makes a user who may do what locks under these prefixes need, and no more.
/// Keys begin with a prefix, or with `{` and a prefix, which puts them into one cluster slot.
#[must_use]
pub fn acl(user: &str, password: &str, prefixes: &[&Prefix]) -> Vec<String> {
    let mut words: Vec<String> =
        ["ACL", "SETUSER", user, "reset", "on"].map(str::to_owned).to_vec();
    words.push(format!(">{password}"));
    for prefix in prefixes {
        let pattern = glob(prefix.as_str());
        words.push(format!("~{pattern}:*"));
        words.push(format!("~{{{pattern}:*"));
        words.push(format!("&{pattern}:#client:*"));
    }
    words.push("-@all".to_owned());
    words.extend(DIRECT.split_ascii_whitespace().map(str::to_owned));
    words.extend(IN_SCRIPTS.split_ascii_whitespace().map(str::to_owned));
    words
}

/// A text as a pattern that matches itself alone.
pub(crate) fn glob(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Tries what scripts will do, on a name where nothing is.
///
/// # Errors
/// [`Refusal::Permission`] names each right that is missing.
pub(crate) async fn check(core: &Core) -> Result<(), BackendError> {
    let about = core.about(Op::Open, None);
    let missing = missing(core).await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(about.refused(Refusal::Permission(format!(
        "this user lacks {}; grant what `bidlock doctor --acl` prints",
        missing.join(", ")
    ))))
}

/// The rights that this user lacks, as `ACL SETUSER` would grant them.
pub(crate) async fn missing(core: &Core) -> Result<Vec<String>, BackendError> {
    let about = core.about(Op::Open, None);
    let name = format!("{}:#probe:{}", core.prefix.as_str(), core.client);
    let channel = format!("{}{}", core.channels, core.client);
    let args: [&[u8]; 5] =
        [b"EVAL", scripts::PROBE.as_bytes(), b"1", name.as_bytes(), channel.as_bytes()];
    let reply = core.command(about, core.soon(), &args).await?;
    let mut missing = Vec::new();
    for failed in reply.value.list().unwrap_or_default().iter().filter_map(Value::text) {
        let (command, words) = failed.split_once(' ').unwrap_or((failed, ""));
        // Any other error, such as memory that is short, is no matter of rights.
        if !matches!(failure::refusal(words), Refusal::Permission(_)) {
            continue;
        }
        let lower = words.to_ascii_lowercase();
        let prefix = glob(core.prefix.as_str());
        missing.push(if lower.contains("channel") {
            format!("&{prefix}:#client:*")
        } else if lower.contains("key") {
            format!("~{prefix}:*")
        } else {
            format!("+{}", command.to_ascii_lowercase())
        });
    }
    missing.dedup();
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        let prefix = Prefix::new("a*b?[c]").unwrap();
        let words = acl("bots", "pw", &[&prefix]);
        assert!(words.contains(&r"~a\*b\?\[c\]:*".to_owned()), "{words:?}");
        assert!(words.contains(&r"~{a\*b\?\[c\]:*".to_owned()));
    }
}
