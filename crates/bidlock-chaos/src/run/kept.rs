//! Reads the ledger at the end of a run.

use std::path::Path;

use anyhow::Result;
use bidlock::ledger::{BidQuery, Ledger, limits};
use bidlock::{Key, StoreUrl};

use crate::bidder::{MARKET, platform};
use crate::history::Kept;
use crate::plan::HOSTS;

/// All attempts with their histories, as a host sees them that none of the bidders lived on.
pub(super) fn read(url: &str, clock: &Path) -> Result<Vec<Kept>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let platform = platform(HOSTS, clock)?;
        let ledger = bidlock::open_ledger(&StoreUrl::ledger(url)?, &platform).await?;
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
