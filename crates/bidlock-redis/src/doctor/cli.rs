//! Commands for people to paste into a shell.

use bidlock_core::Endpoint;

use super::info::Info;
use crate::config::{Config, Place};

/// `redis-cli` with the options that lead to one server. Who logs in there, and by which
/// password, is for whoever pastes it to say: `REDISCLI_AUTH`, or `--user NAME --askpass`.
#[derive(Debug, Clone)]
pub(crate) struct Cli {
    start: String,
    database: u32,
    /// Whether the server has a file that it can write its settings into.
    rewrites: bool,
}

impl Cli {
    pub(crate) fn to(config: &Config) -> Self {
        let mut words = vec!["redis-cli".to_owned()];
        match &config.place {
            Place::Unix(path) => words.extend(["-s".to_owned(), path.display().to_string()]),
            Place::Tcp(host, port) => {
                words.extend(["-h".to_owned(), host.clone(), "-p".to_owned(), port.to_string()]);
            }
        }
        if let Some(files) = &config.tls {
            words.push("--tls".to_owned());
            let (cert, key) = match &files.client {
                Some((cert, key)) => (Some(cert), Some(key)),
                None => (None, None),
            };
            let named = [("--cacert", files.ca.as_ref()), ("--cert", cert), ("--key", key)];
            for (option, file) in named.into_iter().filter_map(|(o, file)| Some((o, file?))) {
                words.extend([option.to_owned(), file.display().to_string()]);
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Self { start: shell(&words), database: config.database, rewrites: false }
    }

    /// The server that messages name so; they name no files of TLS.
    pub(crate) fn to_endpoint(endpoint: &Endpoint) -> Self {
        let start = || "redis-cli -h HOST -p PORT".to_owned();
        let unnamed = |_| Self { start: start(), database: 0, rewrites: false };
        Config::from_url(endpoint.as_str()).map_or_else(unnamed, |config| Self::to(&config))
    }

    /// With what the server says of its file of settings, if it says anything.
    pub(super) fn told(self, info: Option<&Info>) -> Self {
        let rewrites = info.is_some_and(|info| !info.get("config_file").is_empty());
        Self { rewrites, ..self }
    }

    /// A command that touches no key.
    pub(super) fn run(&self, words: &[&str]) -> String {
        format!("{} {}", self.start, shell(words))
    }

    /// A command on keys of the database that was looked into.
    pub(crate) fn on_keys(&self, words: &[&str]) -> String {
        match self.database {
            0 => self.run(words),
            number => format!("{} -n {number} {}", self.start, shell(words)),
        }
    }

    /// Changes settings so that a restart does not forget them, in one line for a shell.
    pub(super) fn set(&self, settings: &[(&str, &str)]) -> String {
        let set = |(name, value): &(&str, &str)| self.run(&["CONFIG", "SET", name, value]);
        let mut commands: Vec<String> = settings.iter().map(set).collect();
        if self.rewrites {
            commands.push(self.run(&["CONFIG", "REWRITE"]));
            return commands.join(" && ");
        }
        format!("{} # and put it into the server's settings", commands.join(" && "))
    }
}

/// Words as a shell reads them.
fn shell(words: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-@_:./".contains(c);
    let quoted = words.iter().map(|word| {
        if !word.is_empty() && word.chars().all(plain) {
            (*word).to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cli(url: &str) -> Cli {
        Cli::to(&Config::from_url(url).unwrap())
    }

    #[test]
    fn a_command_leads_to_the_server_and_never_shows_the_password() {
        for (url, start) in [
            ("redis://bots:pw@h:6380/2", "redis-cli -h h -p 6380"),
            ("redis://[::1]", "redis-cli -h ::1 -p 6379"),
            ("rediss://:pw@h", "redis-cli -h h -p 6379 --tls"),
            (
                "rediss://h?ca=/a%20b.pem&cert=/c.pem&key=/k.pem",
                "redis-cli -h h -p 6379 --tls --cacert '/a b.pem' --cert /c.pem --key /k.pem",
            ),
            ("unix:///run/it's.sock?password=pw", r"redis-cli -s '/run/it'\''s.sock'"),
        ] {
            assert_eq!(cli(url).run(&["PING"]), format!("{start} PING"));
            let endpoint = Config::from_url(url).unwrap().endpoint();
            let without_files = start.split(" --cacert").next().unwrap();
            let text = Cli::to_endpoint(&endpoint).run(&["PING"]);
            assert_eq!(text, format!("{without_files} PING"));
        }
    }

    #[test]
    fn only_keys_have_a_database() {
        let there = cli("redis://h/2");
        assert_eq!(there.on_keys(&["DEL", "a b"]), "redis-cli -h h -p 6379 -n 2 DEL 'a b'");
        assert_eq!(there.run(&["PING"]), "redis-cli -h h -p 6379 PING");
        assert_eq!(cli("redis://h").on_keys(&["DEL", "k"]), "redis-cli -h h -p 6379 DEL k");
        let socket = cli("unix:///s?db=3");
        assert_eq!(socket.on_keys(&["DEL", "k"]), "redis-cli -s /s -n 3 DEL k");
    }

    #[test]
    fn settings_are_kept_by_the_server_or_by_people() {
        let set = |info: Option<&str>| {
            let info = info.map(Info::read);
            cli("unix:///s").told(info.as_ref()).set(&[("a", "1"), ("b", "")])
        };
        let both = "redis-cli -s /s CONFIG SET a 1 && redis-cli -s /s CONFIG SET b ''";
        let by_file = format!("{both} && redis-cli -s /s CONFIG REWRITE");
        assert_eq!(set(Some("config_file:/etc/redis.conf")), by_file);
        let by_people = format!("{both} # and put it into the server's settings");
        assert_eq!(set(Some("config_file:")), by_people);
        assert_eq!(set(None), by_people);
    }
}
