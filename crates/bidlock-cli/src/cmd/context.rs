use std::sync::Arc;
use std::time::Duration;

use bidlock::ledger::{Ledger, OperatorNote};
use bidlock::{
    Builder, Clock, Key, Locker, Platform, StoreUrl, WallTime, find_ledger, open_ledger,
};
use nix::unistd::{User, getuid};

use crate::args::{Global, Target, Wait};
use crate::config::{Config, Environment, Origin, Setting};
use crate::exit::{Failure, code};
use crate::output::Output;

/// How long bidlock waits at its end for what runs in the background, such as leaving a queue: a
/// store that is well takes some milliseconds, and what is left behind ends by itself.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// What every subcommand that needs a store works with.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) output: Output,
    pub(crate) platform: Platform,
}

impl Context {
    /// Merges the settings; contacts nothing.
    pub(crate) fn new(flags: &Global, output: Output) -> Result<Self, Failure> {
        let config = Config::load(flags, &Environment::read())?;
        for note in &config.notes {
            output.say(&format!("note: {note}"));
        }
        let platform = bidlock::platform::system()?;
        Ok(Self { config, output, platform })
    }

    /// Says which file is used where nothing names one.
    pub(crate) fn say_default(&self) {
        if let Some(path) = &self.config.default_file {
            self.output
                .say(&format!("note: using {} (set BIDLOCK_URL for another)", path.display()));
        }
    }

    /// The same, for what asks the ledger only.
    pub(crate) fn say_default_ledger(&self) {
        let is_default = matches!(
            (&self.config.ledger.value, &self.config.default_file),
            (StoreUrl::Sqlite(ledger), Some(file)) if ledger == file
        );
        if is_default {
            self.say_default();
        } else if self.config.ledger.origin == Origin::Default {
            let ledger = &self.config.ledger.value;
            self.output.say(&format!("note: using {ledger} (set BIDLOCK_LEDGER_URL for another)"));
        }
    }

    /// Opens the lock store.
    pub(crate) async fn locker(&self) -> Result<Locker, Failure> {
        Ok(self.builder().open(self.config.lock.built()?).await?)
    }

    /// What opens the lock store, with the prefix and the bridge.
    pub(crate) fn builder(&self) -> Builder {
        let prefix = self.config.prefix.value.clone();
        let builder = Locker::builder().prefix(prefix).platform(self.platform.clone());
        match &self.config.also {
            Some(old) => builder.also(old.value.clone()),
            None => builder,
        }
    }

    /// Opens the ledger, and remembers what is started in it for the processes to come (L12).
    pub(crate) async fn ledger(&self) -> Result<Ledger, Failure> {
        let ledger = open_ledger(self.config.ledger.built()?, &self.platform).await?;
        Ok(self.remembering(ledger))
    }

    fn remembering(&self, ledger: Ledger) -> Ledger {
        match &self.config.marks {
            Some(folder) => ledger.remembering(folder),
            None => ledger,
        }
    }

    /// Opens a ledger that is there, to look at it. One that was named and does not exist is a
    /// slip of the name, and would only tell that nothing was ever bid: none is made for a look,
    /// and an older one stays as it is. The file that nobody names is made all the same.
    pub(crate) async fn ledger_to_read(&self) -> Result<Ledger, Failure> {
        let ledger = &self.config.ledger;
        if ledger.origin == Origin::Default {
            return self.ledger().await;
        }
        let made = "the first bid, an import, or `bidlock ledger migrate` makes it";
        check_file(ledger, made)?;
        let found = find_ledger(ledger.built()?, &self.platform).await?;
        let Some(found) = found else {
            let message = format!("{ledger}: there is no ledger there, or only an older one");
            return Err(Failure::missing_store(message)
                .hint(format!("correct the name; {made}, and brings an older one up to date")));
        };
        Ok(self.remembering(found))
    }

    /// Opens a lock store that is there, to look at it: as for a ledger, a file that was named is
    /// not made.
    pub(crate) async fn locker_to_read(&self) -> Result<Locker, Failure> {
        check_file(&self.config.lock, "the first lock, or bid, makes it")?;
        self.locker().await
    }

    /// The key that a posting or a name means.
    pub(crate) fn key_of(&self, target: &Target) -> Result<Key, Failure> {
        match (&target.key, &target.marketplace, &target.posting) {
            (Some(name), _, _) => Ok(Key::named(name)?),
            (None, Some(marketplace), Some(posting)) => self.posting_key(marketplace, posting),
            _ => {
                let message = "name MARKETPLACE POSTING, or --key NAME";
                Err(Failure::new(code::USAGE, "usage", message))
            }
        }
    }

    /// The key of a posting.
    pub(crate) fn posting_key(&self, marketplace: &str, posting: &str) -> Result<Key, Failure> {
        let key = Key::new(marketplace, posting)?;
        if key.is_encoded() && self.config.lock.value.is_shared() {
            // Clients of the old kind share no file with this one.
            self.output.say(&format!(
                "warning: clients that use the id as it is lock another key than {key}"
            ));
        }
        Ok(key)
    }

    /// The wall time.
    pub(crate) fn now(&self) -> WallTime {
        self.platform.clock.wall()
    }

    /// The clocks.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.platform.clock)
    }

    /// Waits a while for what runs in the background.
    pub(crate) async fn close(&self, locker: &Locker) {
        let clock = self.clock();
        tokio::select! {
            biased;
            () = locker.close() => {}
            () = clock.sleep_until(clock.now() + CLOSE_PATIENCE) => {
                tracing::warn!("a release is not through yet; the lease ends by itself");
            }
        }
    }

    /// Who acts, and why, for the audit.
    pub(crate) fn note(&self, because: String) -> OperatorNote {
        let uid = getuid();
        let user = User::from_uid(uid).ok().flatten().map(|user| user.name);
        let user = user.unwrap_or_else(|| format!("uid {uid}"));
        let actor = format!("{user}@{}", self.platform.processes.host());
        OperatorNote { actor, because }
    }
}

/// Refuses a file that was named and is not there, with what makes it.
fn check_file(store: &Setting<StoreUrl>, made: &str) -> Result<(), Failure> {
    if store.missing_file().is_none() {
        return Ok(());
    }
    let message = format!("{store}: there is no such file");
    Err(Failure::missing_store(message).hint(format!("correct the name; {made}")))
}

/// What people see of a mark that cannot be read (L12).
pub(crate) fn unread_mark(why: &str) -> String {
    format!("warning: {why}; were the ledger an older copy, this machine might not notice")
}

/// The library's word for a wait.
pub(crate) fn wait_of(wait: Wait) -> bidlock::Wait {
    match wait {
        Wait::For(Duration::ZERO) => bidlock::Wait::No,
        Wait::For(length) => bidlock::Wait::For(length),
        Wait::Forever => bidlock::Wait::Forever,
    }
}

/// What bidlock ends with when a signal ended it before the command ran.
pub(crate) fn interrupted(signal: nix::sys::signal::Signal) -> Failure {
    let code = u8::try_from(128 + signal as i32).unwrap_or(u8::MAX);
    Failure::new(code, "interrupted", format!("stopped by {signal} before the command was started"))
        .hint("nothing was done; run the same command again")
        .retryable(true)
}
