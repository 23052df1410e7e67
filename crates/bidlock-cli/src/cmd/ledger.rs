//! The ledger as a whole.

mod export;
mod format;
mod import;
mod progress;
mod prune;
mod reader;
mod status;

use super::context::Context;
use crate::args::{AcceptArgs, LedgerArgs, LedgerCommand};
use crate::exit::Failure;

/// Does one thing with the ledger as a whole.
pub(crate) async fn run(args: LedgerArgs, context: &Context) -> Result<u8, Failure> {
    context.config.ledger.built()?;
    match args.command {
        LedgerCommand::Migrate => migrate(context).await,
        LedgerCommand::Status => status::run(context).await,
        LedgerCommand::Export(args) => export::run(&args, context).await,
        LedgerCommand::Import(args) => import::run(&args, context).await,
        LedgerCommand::Prune(args) => prune::run(args, context).await,
        LedgerCommand::Accept(args) => accept(args, context).await,
    }
}

/// Brings the schema up to date.
async fn migrate(context: &Context) -> Result<u8, Failure> {
    context.say_default();
    let ledger = context.ledger().await?;
    let standing = ledger.standing().await?;
    context.output.say(&format!("{}: schema {}", context.config.ledger.value, standing.schema));
    Ok(0)
}

/// Accepts a ledger that was restored from an older copy (L12).
async fn accept(args: AcceptArgs, context: &Context) -> Result<u8, Failure> {
    context.say_default();
    let ledger = context.ledger().await?;
    let forgotten = ledger.forgotten().await?;
    ledger.accept(&context.note(args.because)).await?;
    let what = match &forgotten {
        Some(why) => format!("accepted, though {why}"),
        None => "accepted; nothing that this machine knows stood against it".to_owned(),
    };
    if context.output.json {
        context.output.object(&serde_json::json!({ "accepted": true, "restored": forgotten }))?;
    }
    context.output.say(&what);
    Ok(0)
}
