//! The native half of the Python package `bidlock`: what Python calls, and nothing that it shows.
//!
//! Every call that may take time is an [`op::Op`], which does nothing until an event loop begins
//! it or a thread waits for it. No thread of this library ever takes the interpreter's lock: an
//! answer goes into a mailbox, and a bell that the event loop listens to rings.

mod asker;
mod bridge;
mod convert;
mod errors;
mod guard;
mod lease;
mod ledger;
mod locker;
mod logs;
mod metrics;
mod op;
mod owned;
mod process;
mod raise;
mod records;
mod wait;

use pyo3::prelude::*;

/// The native half of bidlock.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<op::Op>()?;
    module.add_class::<bridge::Bridge>()?;
    module.add_class::<convert::Key>()?;
    module.add_class::<locker::Locker>()?;
    module.add_class::<lease::Lease>()?;
    module.add_class::<ledger::Ledger>()?;
    module.add_class::<guard::Guard>()?;
    module.add_class::<guard::Bid>()?;
    module.add_class::<asker::Asker>()?;
    module.add_function(wrap_pyfunction!(ledger::open_ledger, module)?)?;
    module.add_function(wrap_pyfunction!(metrics::metrics, module)?)?;
    module.add_function(wrap_pyfunction!(locker::connect, module)?)?;
    module.add_function(wrap_pyfunction!(logs::next_logs, module)?)?;
    module.add_function(wrap_pyfunction!(logs::end_logs, module)?)?;
    module.add_function(wrap_pyfunction!(process::close, module)?)?;
    Ok(())
}
