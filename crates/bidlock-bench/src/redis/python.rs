//! redis-py's own lock, in a process of its own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::server::{Server, tools};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python/peer.py");

/// A Python that does what it is told by a line, and answers with figures; gone when dropped.
#[derive(Debug)]
pub(crate) struct Python {
    child: Child,
    orders: Option<ChildStdin>,
    figures: BufReader<ChildStdout>,
}

impl Python {
    pub(crate) fn start(server: &Server) -> Result<Self> {
        let library = tools().join("python");
        ensure!(library.join("redis").exists(), "redis-py is not there: `cargo xtask tools`");
        let mut command = Command::new("python3");
        command.arg(PROGRAM).arg(server.port.to_string()).env("PYTHONPATH", library);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting python3")?;
        let orders = child.stdin.take();
        let figures = BufReader::new(child.stdout.take().context("its output is piped")?);
        Ok(Self { child, orders, figures })
    }

    /// What it says to an order; `peer.py` lists them.
    pub(crate) fn figures(&mut self, order: &str) -> Result<Vec<f64>> {
        writeln!(self.orders.as_mut().context("its input is piped")?, "{order}")?;
        let mut line = String::new();
        self.figures.read_line(&mut line)?;
        let figures: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        let figures = figures?;
        ensure!(!figures.is_empty(), "{order}: peer.py ended");
        Ok(figures)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.orders.take());
        drop(self.child.wait());
    }
}
