//! A client's side of the network: what the Redis backend reads and writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bidlock_redis::{Connector, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Host, Net, Way};
use crate::exec::ProcessId;
use crate::redis::Connection;

/// Opens streams for one process.
#[derive(Debug)]
pub(crate) struct SimConnector {
    pub(crate) net: Net,
    pub(crate) host: Host,
    pub(crate) process: ProcessId,
}

#[async_trait]
impl Connector for SimConnector {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let time = self.net.time.clone();
        let delay = self.net.lock().delay(self.host) * 2;
        time.after(delay).await;
        loop {
            match self.net.open(self.host, self.process) {
                Ok(id) => return Ok(Box::new(SimStream { net: self.net.clone(), id })),
                Err(Some(until)) => time.until(until).await,
                Err(None) => return Err(io::ErrorKind::ConnectionRefused.into()),
            }
        }
    }
}

/// A client's end of a stream.
struct SimStream {
    net: Net,
    id: Connection,
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let now = self.net.time.now();
        self.net.lock().leave(self.id, now);
    }
}

impl AsyncRead for SimStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.net.lock();
        let Some(conn) = inner.conns.get_mut(&self.id).filter(|conn| !conn.gone) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if !conn.inbox.is_empty() {
            let count = conn.inbox.len().min(buffer.remaining());
            let bytes: Vec<u8> = conn.inbox.drain(..count).collect();
            buffer.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        if conn.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if conn.ended {
            return Poll::Ready(Ok(()));
        }
        conn.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let now = self.net.time.now();
        let mut inner = self.net.lock();
        match inner.conns.get(&self.id) {
            Some(conn) if !conn.gone && !conn.broken => {}
            _ => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
        // Now and then a socket takes less than it is given.
        let taken = if bytes.len() > 1 && inner.rand.chance(20) {
            1 + inner.rand.index(bytes.len() - 1)
        } else {
            bytes.len()
        };
        inner.push(self.id, Way::ToServer, &bytes[..taken], now);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
