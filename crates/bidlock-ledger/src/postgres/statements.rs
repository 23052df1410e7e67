//! Every statement, with the schema's name in it. None of them is prepared, and none needs a
//! session of its own, so that a pooler may stand in between.

use super::config::SchemaName;
use super::rows::{AUDIT, HISTORY, attempt_columns};

/// The statements of one schema.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) schema: SchemaName,
    pub(super) reserve: String,
    pub(super) start: String,
    pub(super) resend: String,
    pub(super) record: String,
    pub(super) batch: String,
    pub(super) open_attempt: String,
    pub(super) latest: String,
    pub(super) by_id: String,
    pub(super) history: String,
    pub(super) lock_posting: String,
}

/// A call of one of our functions, which answers one record. That is planned in no time, whereas
/// a list of its columns would take longer to plan than to answer.
fn call(function: &str, parameters: &str) -> String {
    format!("SELECT {{schema}}.{function}({parameters})")
}

impl Statements {
    pub(super) fn of(schema: &SchemaName) -> Self {
        let columns = attempt_columns("a");
        let put = |text: String| schema.put_into(&text);
        let attempts =
            |rest: &str| put(format!("SELECT {columns} FROM {{schema}}.attempts a WHERE {rest}"));
        Self {
            schema: schema.clone(),
            reserve: put(call(
                "reserve_v1",
                "$1, $2, $3::uuid, $4, $5, $6, $7, $8, $9, $10::uuid, $11",
            )),
            start: put(call("start_v1", "$1::uuid, $2, $3, $4, $5, $6::uuid, $7")),
            resend: put(call("resend_v1", "$1::uuid, $2, $3, $4, $5, $6, $7, $8, $9::uuid, $10")),
            batch: put(call("batch_v1", "$1, $2::uuid, $3")),
            record: put(call("record_v1", "$1::uuid, $2, $3, $4, $5, $6")),
            open_attempt: attempts(
                "a.marketplace = $1 AND a.posting = $2 AND a.state <> 'abandoned'",
            ),
            latest: attempts(
                "a.marketplace = $1 AND a.posting = $2
                 ORDER BY a.token_seen DESC, a.seq DESC LIMIT 1",
            ),
            by_id: attempts("a.id = $1::uuid"),
            history: put(format!(
                "SELECT {HISTORY} FROM {{schema}}.history
                 WHERE marketplace = $1 AND posting = $2 ORDER BY seq"
            )),
            lock_posting: put("SELECT {schema}.lock_posting($1, $2)".to_owned()),
        }
    }

    /// A statement put together at run time.
    pub(super) fn put(&self, text: &str) -> String {
        self.schema.put_into(text)
    }

    /// A page of attempts, by conditions on `a`.
    pub(super) fn attempts(&self, rest: &str) -> String {
        let columns = attempt_columns("a");
        self.put(&format!("SELECT {columns} FROM {{schema}}.attempts a WHERE {rest}"))
    }

    /// A page of the audit.
    pub(super) fn audit(&self, rest: &str) -> String {
        self.put(&format!("SELECT {AUDIT} FROM {{schema}}.audit {rest}"))
    }
}
