//! The table of bids that control b asks before it bids, in the store that is bidlock's ledger.

mod file;

use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::Mutex;
use tokio_postgres::{Client, NoTls};

use file::File;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS bids (posting text PRIMARY KEY)";
const QUERY: &str = "SELECT 1 FROM bids WHERE posting = $1";
const RECORD: &str = "INSERT INTO bids VALUES ($1) ON CONFLICT DO NOTHING";
/// No statement takes longer, or the connection is of no use any more.
const ANSWER: Duration = Duration::from_secs(2);

/// Postings that have a bid.
pub(super) enum Bids {
    File(File),
    Server { url: String, link: Box<Mutex<Option<Client>>> },
}

impl Bids {
    pub(super) async fn open(url: &str) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            return Ok(Self::File(File::open(path.as_ref()).await?));
        }
        let client = connect(url).await?;
        // Two that make it at once trip over each other; the table is there then.
        let _made_by_another = client.batch_execute(TABLE).await;
        Ok(Self::Server { url: url.to_owned(), link: Box::new(Mutex::new(Some(client))) })
    }

    /// Whether a posting has none yet.
    pub(super) async fn should_bid(&self, posting: &str) -> Result<bool> {
        match self {
            Self::File(file) => file.should_bid(posting).await,
            Self::Server { .. } => Ok(self.run(QUERY, posting).await? == 0),
        }
    }

    pub(super) async fn record(&self, posting: &str) -> Result<()> {
        match self {
            Self::File(file) => file.record(posting).await,
            Self::Server { .. } => self.run(RECORD, posting).await.map(drop),
        }
    }

    /// Runs a statement on the one connection; returns how many rows it found or made.
    async fn run(&self, statement: &str, posting: &str) -> Result<u64> {
        let Self::Server { url, link } = self else { return Ok(0) };
        let mut link = link.lock().await;
        let client = match link.take() {
            Some(client) => client,
            None => connect(url).await?,
        };
        let ran = tokio::time::timeout(ANSWER, client.execute(statement, &[&posting])).await;
        let rows = ran.context("the table of bids does not answer")??;
        *link = Some(client);
        Ok(rows)
    }
}

async fn connect(url: &str) -> Result<Client> {
    let connecting = tokio::time::timeout(ANSWER, tokio_postgres::connect(url, NoTls));
    let (client, connection) = connecting.await.context("the table of bids is away")??;
    // It ends with the client, or by an error that the next statement tells of.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}
