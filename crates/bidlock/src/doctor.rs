use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{BackendError, Diagnose, Finding, Health, Platform, Prefix, Refusal, Ttl};

use crate::inner::request_timeout;
use crate::store_url::StoreUrl;
use crate::{Error, Locker};

const REACH: &str = "reach";
const LATENCY: &str = "latency";
const SHARING: &str = "sharing";

/// Finds out of any store whether it answers, and how fast.
#[derive(Debug)]
pub(crate) struct Answers {
    url: StoreUrl,
    prefix: Prefix,
    platform: Platform,
}

impl Answers {
    pub(crate) fn of(url: &StoreUrl, prefix: &Prefix, platform: &Platform) -> Arc<dyn Diagnose> {
        let (url, prefix, platform) = (url.clone(), prefix.clone(), platform.clone());
        Arc::new(Self { url, prefix, platform })
    }

    async fn health(&self) -> Result<Health, Error> {
        let builder = Locker::builder().prefix(self.prefix.clone());
        builder.platform(self.platform.clone()).open(&self.url).await?.ping().await
    }
}

#[async_trait]
impl Diagnose for Answers {
    async fn diagnose(&self, ttl: Ttl) -> Vec<Finding> {
        let health = match self.health().await {
            Ok(health) => health,
            Err(error) => return vec![unreached(&self.url, &error)],
        };
        let Health { server, version, role, latency } = health;
        let found = format!("{} answers: {server} {version}, {role}", self.url);
        let mut findings = vec![Finding::good(REACH, found), judged(latency, ttl)];
        if self.url == StoreUrl::Memory {
            findings.push(Finding::warning(
                SHARING,
                "these locks are in the memory of one process",
                "they keep no other process out, and end with this one",
                "--url sqlite:///var/lib/bidlock.db",
            ));
        }
        findings
    }

    fn rights(&self) -> Option<String> {
        None
    }
}

fn unreached(url: &StoreUrl, error: &Error) -> Finding {
    let mut found = error.to_string();
    let mut source = error.source();
    while let Some(under) = source {
        found = format!("{found}: {under}");
        source = under.source();
    }
    let path = match url {
        StoreUrl::Sqlite(path) => path.display().to_string(),
        other => other.to_string(),
    };
    let mend = match error {
        Error::Store(BackendError::Refused { reason, .. }) => match reason {
            Refusal::Permission(_) | Refusal::ReadOnly(_) => {
                format!("chmod u+rw '{path}', and u+rwx its folder, as its owner")
            }
            Refusal::Full(_) => format!("df '{path}' shows the disk: make room on it"),
            Refusal::Newer(_) => "use the newer bidlock on this file".to_owned(),
            _ => "name another file: --url sqlite:///var/lib/bidlock.db".to_owned(),
        },
        Error::Store(_) => format!("ls -l '{path}' shows whether its folder and disk are there"),
        _ => "name a store of this build: --url sqlite:///var/lib/bidlock.db".to_owned(),
    };
    Finding::failure(REACH, found, "no lock can be taken, renewed or released", mend)
}

/// One round trip, against what a renewal has: a third of the TTL, and three tries in that.
fn judged(latency: Duration, ttl: Ttl) -> Finding {
    let limit = request_timeout(ttl);
    let took = latency.as_micros();
    let found = format!("one request took {took}us; a TTL of {:?} allows {limit:?}", ttl.get());
    let why = "a renewal that comes late loses the lease";
    let mend = format!("use a longer TTL: --ttl {}s", ttl.get().as_secs().max(1) * 10);
    if latency >= limit {
        Finding::failure(LATENCY, found, why, mend)
    } else if latency >= limit / 3 {
        Finding::warning(LATENCY, found, why, mend)
    } else {
        Finding::good(LATENCY, found)
    }
}

#[cfg(test)]
mod tests {
    use bidlock_core::Severity;

    use super::*;

    async fn look(url: &str) -> Vec<Finding> {
        let (url, platform) = (StoreUrl::lock(url).unwrap(), bidlock_platform::system().unwrap());
        let doctor = crate::doctor(&url, &Prefix::default(), &platform).unwrap();
        assert_eq!(doctor.rights(), None);
        doctor.diagnose(Ttl::default()).await
    }

    #[tokio::test]
    async fn a_file_that_answers_is_well() {
        let folder = tempfile::tempdir().unwrap();
        let findings = look(&format!("sqlite://{}/x.db", folder.path().display())).await;
        assert_eq!(findings.len(), 2, "{findings:?}");
        for finding in &findings {
            assert_eq!(finding.severity, Severity::Good, "{finding:?}");
            assert!(finding.why.is_empty() && finding.mend.is_empty(), "{finding:?}");
        }
        assert!(findings[0].found.contains("x.db answers: sqlite 3."), "{findings:?}");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_one_failure_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let findings = look(&format!("sqlite://{}", folder.path().display())).await;
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((finding.check, finding.severity), (REACH, Severity::Failure));
        assert!(
            !finding.why.is_empty() && finding.mend.contains("--url sqlite:///"),
            "{finding:?}"
        );
    }

    #[tokio::test]
    async fn memory_keeps_nobody_out() {
        let findings = look("memory:").await;
        let sharing = findings.last().unwrap();
        assert_eq!((sharing.check, sharing.severity), (SHARING, Severity::Warning));
        assert!(findings[..2].iter().all(|finding| finding.severity == Severity::Good));
    }

    #[test]
    fn round_trips_are_judged_against_the_ttl() {
        let ttl = Ttl::new(Duration::from_secs(3)).unwrap();
        for (millis, severity) in [
            (1, Severity::Good),
            (332, Severity::Good),
            (334, Severity::Warning),
            (1_000, Severity::Failure),
        ] {
            assert_eq!(judged(Duration::from_millis(millis), ttl).severity, severity, "{millis}");
        }
    }

    #[test]
    fn a_ledger_is_no_lock_store() {
        let url = StoreUrl::ledger("postgres://h/db").unwrap();
        let platform = bidlock_platform::system().unwrap();
        assert!(crate::doctor(&url, &Prefix::default(), &platform).is_none());
    }
}
