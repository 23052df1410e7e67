//! The least that a user of the server has to be allowed, and whether this one is (R23).

use bidlock_core::{BackendError, Op, Prefix, Refusal};

use crate::core::Core;
use crate::failure;
use crate::names::channels;
use crate::resp::Value;
use crate::scripts;
use crate::wire::Failed;

/// What locks need besides what their scripts call. `HELLO` and `AUTH` are open to everybody.
const LOCKS: &str = "+time +subscribe +eval +evalsha +ping";
/// What only listing, cleaning up and looking at a server need, and a server without RESP3.
const OPERATORS: &str = "+scan +type +info +role";
/// Commands that scripts call.
const IN_SCRIPTS: &str = "+get +getset +set +psetex +del +exists +pttl +pexpire +zadd +zrem \
                          +zrange +zrevrange +zcard +zrank +zscore +hset +hget +hmget +hgetall \
                          +hdel +publish";
/// No script's name: whoever may ask for it is told so.
const NO_SCRIPT: &str = "0000000000000000000000000000000000000000";

/// The command that makes a user who may do what locks under these prefixes need, and no more.
/// Keys begin with a prefix, or with `{` and a prefix, which puts them into one cluster slot.
///
/// # Examples
/// ```
/// let words = bidlock_redis::acl("bots", "s3cret", &[&bidlock_core::Prefix::default()], 0);
/// assert_eq!(words[..4], ["ACL", "SETUSER", "bots", "reset"]);
/// assert!(words.contains(&"~bid_lock:*".to_owned()));
/// ```
#[must_use]
pub fn acl(user: &str, password: &str, prefixes: &[&Prefix], database: u32) -> Vec<String> {
    // Redis 6.2 takes no channel before `resetchannels`: after `reset` a user has all of them.
    let head = ["ACL", "SETUSER", user, "reset", "resetchannels", "on"];
    let mut words: Vec<String> = head.map(str::to_owned).to_vec();
    words.push(format!(">{password}"));
    for prefix in prefixes {
        words.extend(patterns(prefix));
    }
    words.push("-@all".to_owned());
    // A connection is in database 0 until it selects another.
    let select = if database > 0 { "+select" } else { "" };
    for commands in [LOCKS, select, IN_SCRIPTS, OPERATORS] {
        words.extend(commands.split_ascii_whitespace().map(str::to_owned));
    }
    words
}

/// A command as `redis-cli` reads it, from its prompt, its input or a shell.
pub(crate) fn line(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-@_:.".contains(c);
    let quoted = words.iter().map(|word| {
        if word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "\\'"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The keys, the keys in braces, and the channels of a prefix, as rights name them.
fn patterns(prefix: &Prefix) -> [String; 3] {
    let pattern = glob(prefix.as_str());
    [format!("~{pattern}:*"), format!("~{{{pattern}:*"), format!("&{pattern}:#client:*")]
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

/// Tries what scripts will do, on names where nothing is.
///
/// # Errors
/// [`Refusal::Permission`] names each right that is missing.
pub(crate) async fn check(core: &Core) -> Result<(), BackendError> {
    let about = core.about(Op::Open, None);
    let probes = Probes::of_locks(&core.prefix, &core.client);
    let commands: Vec<Vec<&[u8]>> = probes.commands().collect();
    let calls = commands.iter().map(|args| core.wire.call(core.soon(), args));
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let mut verdict = Verdict::default();
    for (n, answer) in crate::join::all(&mut calls).await.into_iter().enumerate() {
        let answer = answer.map_err(|failed| about.failed(failed))?;
        probes.judge(n, &answer.value, &mut verdict);
    }
    if !verdict.missing.is_empty() {
        return Err(about.refused(lacking(&verdict.missing)));
    }
    match verdict.refused {
        Some(text) => Err(about.refused(failure::refusal(&text))),
        None => Ok(()),
    }
}

/// What a server says that lets this client in but for a right, with the right named.
pub(crate) fn named(prefix: &Prefix, failed: Failed) -> Failed {
    let Failed::Refused(Refusal::Permission(text)) = &failed else { return failed };
    match lacked(prefix, text) {
        Some(right) => Failed::Refused(lacking(&[right])),
        None => failed,
    }
}

/// The right that a server says is missing, where that is what it says.
pub(crate) fn lacked(prefix: &Prefix, text: &str) -> Option<String> {
    let [keys, _, channels] = patterns(prefix);
    Lack::read(text).map(|lack| lack.right("", &keys, &channels))
}

/// Whether locks work without a right.
pub(crate) fn is_operators(right: &str) -> bool {
    OPERATORS.split_ascii_whitespace().any(|word| word == right)
}

fn lacking(missing: &[String]) -> Refusal {
    let rights = missing.join(" ");
    Refusal::Permission(format!(
        "this user lacks {rights}; grant what `bidlock doctor --acl` prints"
    ))
}

/// What a server says is missing.
#[derive(Debug, PartialEq, Eq)]
enum Lack {
    /// The command, where it is named.
    Command(Option<String>),
    Key,
    Channel,
}

impl Lack {
    /// Reads the words of Redis 6.2 and 7, of Valkey, and of each inside scripts. A user's name
    /// may be part of them, but has no space.
    fn read(text: &str) -> Option<Self> {
        let has = |words: &str| text.contains(words);
        if let Some((_, rest)) = text.split_once("permissions to run the '") {
            // With its subcommand, as in `config|get`, where the server names that.
            return Some(Self::Command(rest.split('\'').next().map(str::to_ascii_lowercase)));
        }
        if has("can't run this command") {
            return Some(Self::Command(None));
        }
        if has("can't publish to the channel")
            || has("access one of the channels")
            || has("permissions to access a channel")
        {
            return Some(Self::Channel);
        }
        let key = has("can't access at least one of the keys")
            || has("access one of the keys")
            || has("permissions to access a key");
        key.then_some(Self::Key)
    }

    fn right(&self, command: &str, keys: &str, channels: &str) -> String {
        match self {
            Self::Command(named) => format!("+{}", named.as_deref().unwrap_or(command)),
            Self::Key => keys.to_owned(),
            Self::Channel => channels.to_owned(),
        }
    }
}

/// Commands that a user with all rights may run, and that change nothing that stays.
#[derive(Debug)]
pub(crate) struct Probes {
    commands: Vec<Vec<Vec<u8>>>,
    patterns: [String; 3],
}

/// What became of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The rights that this user lacks, as `ACL SETUSER` would grant them.
    pub(crate) missing: Vec<String>,
    /// Why a command was refused for another reason.
    pub(crate) refused: Option<String>,
    /// Why a script could not write, though it may.
    pub(crate) unwritten: Option<String>,
}

impl Probes {
    /// Those that every lock needs.
    pub(crate) fn of_locks(prefix: &Prefix, client: &str) -> Self {
        let name = format!("{}:#probe:{client}", prefix.as_str());
        let channel = format!("{}{client}", channels(prefix));
        let script = |name: &str| words(&["EVAL", scripts::PROBE, "1", name, &channel]);
        let commands = vec![
            script(&name),
            script(&format!("{{{name}}}:probe")),
            words(&["EVALSHA", NO_SCRIPT, "0"]),
            words(&["PING"]),
        ];
        Self { commands, patterns: patterns(prefix) }
    }

    /// Those, and what operators need.
    pub(crate) fn of_operators(prefix: &Prefix, client: &str) -> Self {
        let mut probes = Self::of_locks(prefix, client);
        let name = format!("{}:#probe:{client}", prefix.as_str());
        probes.commands.extend([
            words(&["SCAN", "0", "COUNT", "1"]),
            words(&["TYPE", &name]),
            words(&["INFO", "server"]),
            words(&["ROLE"]),
        ]);
        probes
    }

    pub(crate) fn commands(&self) -> impl Iterator<Item = Vec<&[u8]>> {
        self.commands.iter().map(|args| args.iter().map(Vec::as_slice).collect())
    }

    /// Takes in the answer to the command of that number.
    pub(crate) fn judge(&self, n: usize, answer: &Value, verdict: &mut Verdict) {
        let command = String::from_utf8_lossy(&self.commands[n][0]);
        match answer {
            Value::Error(text) => self.take(n, &command, text, verdict),
            Value::List(failed) if *command == *"EVAL" => {
                for failed in failed.iter().filter_map(Value::text) {
                    let (command, text) = failed.split_once(' ').unwrap_or((failed, ""));
                    self.take(n, command, text, verdict);
                }
            }
            _ => {}
        }
    }

    fn take(&self, n: usize, command: &str, text: &str, verdict: &mut Verdict) {
        let [keys, tagged, channels] = &self.patterns;
        let keys = if n == 1 { tagged } else { keys };
        if let Some(lack) = Lack::read(text) {
            let right = lack.right(&command.to_ascii_lowercase(), keys, channels);
            if !verdict.missing.contains(&right) {
                verdict.missing.push(right);
            }
        } else if *self.commands[n][0] != *command.as_bytes() {
            verdict.unwritten.get_or_insert_with(|| text.to_owned());
        } else if !failure::is_no_script(text) {
            verdict.refused.get_or_insert_with(|| text.to_owned());
        }
    }
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scripts::{CLEANUP, PROBE, Scripts};

    #[test]
    fn a_prefix_is_no_pattern() {
        let prefix = Prefix::new("a*b?[c]").unwrap();
        let words = acl("bots", "pw", &[&prefix], 0);
        assert!(words.contains(&r"~a\*b\?\[c\]:*".to_owned()), "{words:?}");
        assert!(words.contains(&r"~{a\*b\?\[c\]:*".to_owned()));
    }

    #[test]
    fn a_line_is_quoted_where_a_shell_or_a_prompt_would_read_more_into_it() {
        let prefix = Prefix::new("o'hara").unwrap();
        let line = line(&acl("bots", "PASSWORD", &[&prefix], 3));
        let head = r"ACL SETUSER bots reset resetchannels on '>PASSWORD' '~o\'hara:*'";
        assert!(line.starts_with(head), "{line}");
        assert!(line.contains(" -@all +time ") && line.contains(" +select "), "{line}");
    }

    fn called(script: &str) -> BTreeSet<String> {
        let calls = ["redis.call('", "redis.pcall('"].map(|call| script.split(call).skip(1));
        let names = calls.into_iter().flatten().filter_map(|rest| rest.split('\'').next());
        names.map(|name| format!("+{}", name.to_ascii_lowercase())).collect()
    }

    #[test]
    fn rights_and_the_probe_are_what_scripts_call() {
        let Scripts { acquire, renew, release, revoke, inspect } = Scripts::default();
        let mut used = called(CLEANUP);
        for script in [acquire, renew, release, revoke, inspect] {
            used.extend(called(&script.text));
        }
        let granted: BTreeSet<String> =
            IN_SCRIPTS.split_ascii_whitespace().chain(["+time"]).map(str::to_owned).collect();
        assert_eq!(used, granted);
        let tried = |right: &str| PROBE.contains(&format!("{{'{}'", right[1..].to_uppercase()));
        assert!(granted.iter().all(|right| tried(right)));
    }

    #[test]
    fn what_is_missing_is_read_in_all_spellings() {
        let named = |name: &str| Some(Lack::Command(Some(name.to_owned())));
        for (text, lack) in [
            (
                "NOPERM this user has no permissions to run the 'subscribe' command or its \
                 subcommand",
                named("subscribe"),
            ),
            (
                "NOPERM this user has no permissions to run the 'config|get' command",
                named("config|get"),
            ),
            (
                "ERR ACL failure in script: User access_a_key has no permissions to run the 'get' \
                 command",
                named("get"),
            ),
            (
                "@user_script: 11: The user executing the script can't run this command or \
                 subcommand",
                Some(Lack::Command(None)),
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                Some(Lack::Key),
            ),
            ("NOPERM No permissions to access a key", Some(Lack::Key)),
            (
                "ERR The user executing the script can't access at least one of the keys \
                 mentioned in the command arguments",
                Some(Lack::Key),
            ),
            (
                "@user_script: 11: The user executing the script can't publish to the channel \
                 mentioned in the command",
                Some(Lack::Channel),
            ),
            (
                "NOPERM this user has no permissions to access one of the channels used as \
                 arguments",
                Some(Lack::Channel),
            ),
            ("ERR ACL failure in script: No permissions to access a channel", Some(Lack::Channel)),
            ("NOPERM No permissions to access database", None),
            ("WRONGPASS invalid username-password pair or user is disabled.", None),
            ("READONLY You can't write against a read only replica.", None),
        ] {
            assert_eq!(Lack::read(text), lack, "{text}");
        }
    }
}
