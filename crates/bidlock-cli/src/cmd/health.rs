use bidlock::Health;
use serde_json::json;

use super::context::Context;
use crate::exit::Failure;
use crate::output::{Cell, Table};

/// Asks both stores for a sign of life; fails with the first store's code that gave none. One that
/// the first bid will make is well: a probe of a new deployment comes before that.
pub(crate) async fn run(context: &Context) -> Result<u8, Failure> {
    context.say_default();
    let config = &context.config;
    let checks = [
        ("lock", &config.lock, lock(context).await),
        ("ledger", &config.ledger, ledger(context).await),
    ];
    let mut table = Table::new(&["STORE", "HEALTH", "SERVER", "ROLE", "LATENCY", "WHERE"]);
    let mut code = 0;
    for (store, setting, check) in checks {
        let endpoint = setting.to_string();
        let mut object = json!({
            "store": store,
            "endpoint": setting.value.to_string(),
            "origin": setting.origin.to_string(),
            "ok": check.as_ref().map_or_else(Failure::is_missing_store, |_| true),
        });
        let dash = || Cell::from("-");
        match check {
            Ok(health) => {
                let micros = u64::try_from(health.latency.as_micros()).unwrap_or(u64::MAX);
                object["server"] = health.server.clone().into();
                object["version"] = health.version.clone().into();
                object["role"] = health.role.clone().into();
                object["latency_us"] = micros.into();
                table.row(vec![
                    store.into(),
                    Cell::colored("ok", "32"),
                    format!("{} {}", health.server, health.version).into(),
                    health.role.into(),
                    format!("{micros}us").into(),
                    endpoint.into(),
                ]);
            }
            Err(none) if none.is_missing_store() => {
                object["missing"] = none.message.clone().into();
                let made = Cell::colored("none yet", "33");
                table.row(vec![store.into(), made, dash(), dash(), dash(), endpoint.into()]);
                let hint = none.hint.unwrap_or_default();
                context.output.say(&format!("note: {}; {hint}", none.message));
            }
            Err(failure) => {
                object["error"] = failure.with_causes().into();
                object["hint"] = failure.hint.clone().into();
                code = if code == 0 { failure.code } else { code };
                let bad = Cell::colored("failed", "1;31");
                table.row(vec![store.into(), bad, dash(), dash(), dash(), endpoint.into()]);
                if !context.output.json {
                    failure.report(&context.output);
                }
            }
        }
        if context.output.json {
            context.output.object(&object)?;
        }
    }
    if !context.output.json {
        context.output.table(&table)?;
    }
    Ok(code)
}

async fn lock(context: &Context) -> Result<Health, Failure> {
    Ok(context.locker_to_read().await?.ping().await?)
}

async fn ledger(context: &Context) -> Result<Health, Failure> {
    Ok(context.ledger_to_read().await?.ping().await?)
}
