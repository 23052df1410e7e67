//! Settles and reads the ledger at the end of a run.

use anyhow::{Result, ensure};
use bidlock::ledger::{BidQuery, Ledger, limits};
use bidlock::{BidGuard, Key, Locker, StoreUrl};

use crate::bidder::{MARKET, platform, reconciler};
use crate::history::Kept;
use crate::plan::HOSTS;
use crate::scenario::Design;
use crate::world::World;

/// Asks the marketplace about all that is in doubt, then reads all attempts with their histories;
/// as a host sees them that none of the bidders lived on.
pub(super) fn settle_and_read(world: &World, design: Design) -> Result<Vec<Kept>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let platform = platform(HOSTS, &world.hosts[0].clock)?;
        let url = StoreUrl::ledger(&world.ledger.direct_url(design))?;
        let ledger = bidlock::open_ledger(&url, &platform).await?;
        let redis = format!("redis://{}/0", world.redis.primary());
        let locker = Locker::builder().platform(platform).connect(&redis).await?;
        let guard = BidGuard::new(locker, ledger.clone());
        let market = world.hosts[0].market().to_string();
        let report = reconciler(guard, market)?.run_once().await?;
        ensure!(report.failed == 0 && report.skipped_busy == 0, "a last look: {report:?}");
        all(&ledger).await
    })
}

async fn all(ledger: &Ledger) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    let mut query = BidQuery { limit: limits::PAGE_MAX, ..BidQuery::default() };
    loop {
        let page = ledger.bids(&query).await?;
        let Some(last) = page.last() else { return Ok(kept) };
        query.after = Some(last.id);
        for info in page {
            let key = Key::new(MARKET, &info.posting)?;
            let history = ledger.history(&key).await?;
            let own = history.iter().filter(|entry| entry.attempt == info.id);
            kept.push(Kept {
                attempt: info.id.to_string(),
                posting: info.posting,
                state: info.state.as_str().to_owned(),
                holder: info.holder,
                events: own.map(|entry| entry.event.as_str().to_owned()).collect(),
            });
        }
    }
}
