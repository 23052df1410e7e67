//! A submission over HTTP, as bots send them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::crash::{Point, reach};
use super::{SUBMIT, Shared};
use crate::event::Event;
use crate::feed::Feed;

/// What became of a submission.
pub(super) enum Answer {
    /// No byte was sent.
    NotSent(String),
    /// The marketplace has the bid, under this name.
    Placed(String),
    /// The marketplace refuses the bid.
    Refused(String),
    /// Some was sent, and nothing that says how it went came back.
    Lost(String),
}

impl Answer {
    fn shown(&self) -> String {
        match self {
            Self::NotSent(why) => format!("not sent: {why}"),
            Self::Placed(reference) => format!("placed: {reference}"),
            Self::Refused(why) => format!("refused: {why}"),
            Self::Lost(why) => format!("lost: {why}"),
        }
    }
}

/// Sends a bid while `left` says that there is time, and waits for the answer until then.
pub(super) async fn submit(
    shared: &Shared,
    number: u64,
    attempt: &str,
    left: impl Fn() -> Duration,
) -> Answer {
    let answer = send(shared, number, attempt, left).await;
    let told = Event::Answered { attempt: attempt.to_owned(), answer: answer.shown() };
    shared.log.say(told);
    reach(&shared.log, Point::Answered);
    answer
}

/// The time that is left of [`SUBMIT`], for designs that know no send-by.
pub(super) fn from_now() -> impl Fn() -> Duration {
    let end = crate::time::boot() + crate::time::micros(SUBMIT);
    move || Duration::from_micros(end.saturating_sub(crate::time::boot()))
}

async fn send(shared: &Shared, number: u64, attempt: &str, left: impl Fn() -> Duration) -> Answer {
    let connecting = TcpStream::connect(&shared.setup.market);
    let mut stream = match tokio::time::timeout(left(), connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(failed)) => return Answer::NotSent(failed.to_string()),
        Err(_) => return Answer::NotSent("no connection in time".to_owned()),
    };
    reach(&shared.log, Point::Connected);
    let posting = Feed::name(number);
    let request = format!(
        "POST /bids HTTP/1.1\r\nHost: market\r\nPosting: {posting}\r\n\
         Idempotency-Key: {attempt}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    shared.log.say(Event::Sending { posting, attempt: attempt.to_owned() });
    if left().is_zero() {
        return Answer::NotSent("its send-by has passed".to_owned());
    }
    let (first, second) = request.split_at(request.len() / 2);
    let exchange = async {
        stream.write_all(first.as_bytes()).await?;
        reach(&shared.log, Point::HalfSent);
        stream.write_all(second.as_bytes()).await?;
        reach(&shared.log, Point::Sent);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(left(), exchange).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(failed)) => Answer::Lost(failed.to_string()),
        Err(_) => Answer::Lost("no answer in time".to_owned()),
    }
}

fn read(answer: &str) -> Answer {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    match (status, body) {
        ("200" | "201", Some(reference)) if !reference.is_empty() => Answer::Placed(reference),
        ("422", Some(why)) => Answer::Refused(why),
        _ => Answer::Lost(format!("an answer of {} bytes that says nothing", answer.len())),
    }
}
