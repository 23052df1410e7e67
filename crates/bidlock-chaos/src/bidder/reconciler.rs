//! A process that asks the marketplace about bids whose outcome nobody knows.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bidlock::{Answer, BidGuard, Question, ReconcileOptions, Reconciler};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Shared;
use super::ledgered::Ledgered;
use crate::time;

/// A bid may come to show so long after it was taken.
pub(crate) const VISIBLE_AFTER: Duration = Duration::from_millis(1_100);
/// No answer of the marketplace takes longer.
const ASK: Duration = Duration::from_secs(2);
/// From one round to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Joins a guard with somebody who asks the marketplace.
pub(crate) fn reconciler(guard: BidGuard, market: String) -> Result<Reconciler> {
    let options = ReconcileOptions::default()
        .visibility_delay(VISIBLE_AFTER)
        .ask_timeout(ASK)
        .limit(ReconcileOptions::LIMIT_MAX);
    let market: Arc<str> = market.into();
    let ask = move |question: Question| {
        let market = Arc::clone(&market);
        async move { ask(&market, &question.attempt.to_string()).await }
    };
    Ok(Reconciler::new(guard, ask, options)?)
}

/// Asks, round after round.
pub(super) async fn work(shared: &Shared, own: &Ledgered) -> Result<()> {
    let reconciler = reconciler(own.guard().clone(), shared.setup.market.clone())?;
    loop {
        if let Err(failed) = reconciler.run_once().await {
            let _again = shared.failed(0, failed.to_string());
        }
        time::sleep(PAUSE).await;
    }
}

async fn ask(market: &str, attempt: &str) -> Answer {
    match look_up(market, attempt).await {
        Ok(answer) => read(&answer),
        Err(failed) => Answer::CannotTell { why: Some(failed.to_string()) },
    }
}

async fn look_up(market: &str, attempt: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(market).await?;
    let request = format!(
        "GET /bids HTTP/1.1\r\nHost: market\r\nIdempotency-Key: {attempt}\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn read(answer: &str) -> Answer {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    match (status, body) {
        ("200", Some(reference)) if !reference.is_empty() => {
            Answer::Found { reference: Some(reference) }
        }
        ("404", Some(_)) => Answer::NotFound,
        _ => Answer::CannotTell { why: Some("an answer that says nothing".to_owned()) },
    }
}
