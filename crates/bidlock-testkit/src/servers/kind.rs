use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// A server program that the tests run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerKind {
    /// Redis 6.2, the oldest that is supported.
    Redis62,
    /// Redis as Debian has it, which is 7.0 in Debian 12.
    Redis70,
    /// Valkey 9.
    Valkey9,
}

impl ServerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Redis62, Self::Redis70, Self::Valkey9];

    /// Its short name, such as `redis62`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redis62 => "redis62",
            Self::Redis70 => "redis70",
            Self::Valkey9 => "valkey9",
        }
    }

    /// Whether the program itself speaks TLS; a proxy stands before one that does not.
    #[must_use]
    pub const fn speaks_tls(self) -> bool {
        matches!(self, Self::Redis70)
    }

    /// Where the program lies.
    ///
    /// # Panics
    /// When it is not installed.
    #[must_use]
    pub fn program(self) -> PathBuf {
        let found = match self {
            Self::Redis62 => existing(tools_folder().join("redis62/redis-server")),
            Self::Valkey9 => existing(tools_folder().join("valkey9/valkey-server")),
            Self::Redis70 => in_path("redis-server"),
        };
        found.unwrap_or_else(|| {
            panic!("the server {self} is not installed; `cargo xtask tools` installs it")
        })
    }
}

impl Display for ServerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where `cargo xtask tools` puts what no Debian package has, and tests what they compile.
pub(super) fn tools_folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    target.join("tools")
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.is_file().then_some(path)
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|folder| existing(folder.join(program)))
}
