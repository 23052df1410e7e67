//! The threads of one connection: for each way one that reads and one that writes, so that a
//! delay does not slow down the stream.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Instant;

use super::frames::Framer;
use super::state::{Shared, Way};
use crate::process::now;

/// How many pieces may be on their way at once; a sender that is faster waits.
const PIECES_MAX: usize = 1024;
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Connects a client with the server, or closes it when that is not to be reached.
pub(super) fn start(client: TcpStream, shared: &Arc<Shared>) {
    let target = shared.state().target;
    let Ok(server) = TcpStream::connect(target) else {
        shared.enter(None);
        return;
    };
    // Without descriptors or threads there is no connection; the client sees that it is closed.
    let _no_connection = join(client, server, shared);
}

fn join(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let streams = [client.try_clone()?, server.try_clone()?];
    let (client_out, server_out) = (client.try_clone()?, server.try_clone()?);
    let number = shared.enter(Some(streams));
    pass_on(client, server_out, shared, number, Way::ToServer);
    pass_on(server, client_out, shared, number, Way::ToClient);
    Ok(())
}

fn pass_on(from: TcpStream, to: TcpStream, shared: &Arc<Shared>, number: usize, way: Way) {
    let (sender, receiver) = sync_channel(PIECES_MAX);
    thread::spawn(move || {
        let mut from = from;
        let mut buffer = vec![0; PIECE_BYTES_MAX];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send((now(), buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut flow = Flow { to, shared: &shared, number, way, framer: Framer::default() };
        match flow.run(&receiver) {
            Ok(()) => shared.end(number, way, &flow.to),
            Err(_) => shared.close(number),
        }
    });
}

/// One way of one connection.
struct Flow<'a> {
    to: TcpStream,
    shared: &'a Arc<Shared>,
    number: usize,
    way: Way,
    framer: Framer,
}

impl Flow<'_> {
    /// Passes on what comes until nothing more comes.
    fn run(&mut self, pieces: &Receiver<(Instant, Vec<u8>)>) -> io::Result<()> {
        let mut luck = (self.number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for (arrived, bytes) in pieces {
            luck = luck.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if !self.shared.wait_due(self.number, self.way, arrived, luck.to_be_bytes()[0]) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            self.framer.feed(&bytes);
            self.pass_frames()?;
        }
        Ok(())
    }

    fn pass_frames(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        while let Some(mut piece) = self.framer.take() {
            if self.way == Way::ToServer && self.shared.is_awaited(&piece) {
                self.to.write_all(&std::mem::take(&mut out))?;
                self.shared.call_hooks(self.number, &piece);
            }
            let Some(bytes) = self.shared.decide(self.number, self.way, &mut piece) else {
                // What was decided before is on its way.
                let _closed = self.to.write_all(&out);
                return Err(io::ErrorKind::ConnectionAborted.into());
            };
            out.extend(bytes);
        }
        self.to.write_all(&out)
    }
}

impl Drop for Flow<'_> {
    /// A test's action that panics must not leave its client waiting.
    fn drop(&mut self) {
        if thread::panicking() {
            self.shared.close(self.number);
        }
    }
}
