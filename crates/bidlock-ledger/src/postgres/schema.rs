//! Which schema a ledger has, and bringing it up to date.

use std::time::Duration;

use bidlock_core::{Refusal, Rng, WallTime};
use tokio_postgres::types::Type;

use super::config::SchemaName;
use super::fault::{Done, Fail};
use super::pool::Session;
use super::rows::{parsed, sql_time, value};
use crate::values::LedgerId;

/// The schema's steps: number N leads from version N - 1 to N.
const MIGRATIONS: [&[&str]; 1] = [&[
    include_str!("schema/0001_tables.sql"),
    include_str!("schema/0001_rules.sql"),
    include_str!("schema/0001_calls.sql"),
]];

/// The version that this code reads and writes.
pub(super) const VERSION: i32 = 1;

/// The oldest version whose programs may use a ledger of this one as it is.
const COMPATIBLE_FROM: i32 = 1;

/// Whoever steps up a schema of this database holds this for the transaction.
const MIGRATION_LOCK: i64 = 7_305_804_402_566_329_190;

/// The oldest server: it has procedures' transactions, generated columns and extended hashes.
const SERVER_MIN: i32 = 130_000;

/// What the database says of a ledger in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) version: i32,
    pub(super) compatible_from: i32,
    pub(super) id: LedgerId,
    /// Whether this role may keep how a bid went.
    pub(super) records: bool,
}

/// What a ledger is after it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) id: LedgerId,
    /// As in [`Found`].
    pub(super) records: bool,
    /// The version that was there; none where it was made.
    pub(super) from: Option<u32>,
}

impl Opened {
    /// One that is used as it was found.
    pub(super) fn as_found(found: Found) -> Self {
        let from = u32::try_from(found.version).ok();
        Self { id: found.id, records: found.records, from }
    }
}

/// The ledger that a store was opened on: every connection has to lead to it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) schema: SchemaName,
    pub(super) id: LedgerId,
}

impl Known {
    /// Refuses a connection that leads elsewhere: what was written there would be forgotten, and
    /// another process would bid again.
    pub(super) async fn check(&self, session: &Session) -> Done<()> {
        let found = find(session, &self.schema).await?;
        match found {
            Some(found) if found.id == self.id => usable(found).map(drop),
            Some(_) => Err(moved("was replaced by another one")),
            None => Err(moved("was removed")),
        }
    }
}

fn moved(how: &str) -> Fail {
    Fail::Refused(Refusal::Corrupt(format!("the ledger {how} while it was open")))
}

/// Looks for a ledger.
pub(super) async fn find(session: &Session, schema: &SchemaName) -> Done<Option<Found>> {
    let client = session.client();
    let there = "SELECT to_regclass($1) IS NOT NULL, current_setting('server_version_num')::int4";
    let name = schema.put_into("{schema}.meta");
    let row = client.query_typed_one(there, &[(&name, Type::TEXT)]).await?;
    let server: i32 = value(&row, 1)?;
    if server < SERVER_MIN {
        let why = format!("PostgreSQL {} is too old: 13 or a later one is needed", server / 10_000);
        return Err(Fail::Refused(Refusal::Other(why)));
    }
    if !value::<bool>(&row, 0)? {
        return Ok(None);
    }
    let meta = schema.put_into(
        "SELECT version, compatible_from, id::text, coalesce(has_function_privilege(to_regprocedure(
                 '{schema}.record_v1(uuid, text, text, text, text, bigint)'), 'EXECUTE'), true)
             AND has_any_column_privilege('{schema}.attempts', 'UPDATE')
             AND has_any_column_privilege('{schema}.history', 'INSERT')
         FROM {schema}.meta",
    );
    let Some(row) = client.query_typed_opt(&meta, &[]).await? else { return Ok(None) };
    let (version, compatible_from) = (value(&row, 0)?, value(&row, 1)?);
    let (id, records) = (parsed(&row, 2, |text| text.parse().ok())?, value(&row, 3)?);
    Ok(Some(Found { version, compatible_from, id, records }))
}

/// Whether a schema may be used as it is; refuses one that this code would misread.
pub(super) fn usable(found: Found) -> Done<bool> {
    if found.version <= VERSION || found.compatible_from <= VERSION {
        return Ok(found.version >= VERSION);
    }
    let why = format!("its ledger has version {}, this program knows {VERSION}", found.version);
    Err(Fail::Refused(Refusal::Newer(why)))
}

/// Makes the schema, or brings it up to date; nothing is done where another process was faster.
pub(super) async fn migrate(
    session: &mut Session,
    schema: &SchemaName,
    rng: &dyn Rng,
    now: WallTime,
) -> Done<Opened> {
    let transaction = session.begin().await?;
    let lock = "SELECT pg_advisory_xact_lock($1), current_setting('server_encoding')";
    let row = transaction.query_typed_one(lock, &[(&MIGRATION_LOCK, Type::INT8)]).await?;
    let encoding: &str = value(&row, 1)?;
    if encoding != "UTF8" {
        let why = format!("the database's encoding is {encoding}: make one with encoding 'UTF8'");
        return Err(Fail::Refused(Refusal::Other(why)));
    }
    let has = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
                   to_regclass($2) IS NOT NULL";
    let (name, meta) = (schema.as_str(), schema.put_into("{schema}.meta"));
    let row = transaction.query_typed_one(has, &[(&name, Type::NAME), (&meta, Type::TEXT)]).await?;
    let (has_schema, has_meta): (bool, bool) = (value(&row, 0)?, value(&row, 1)?);
    let mut version = 0;
    if has_meta {
        let read = schema.put_into("SELECT version FROM {schema}.meta");
        let row = transaction.query_typed_opt(&read, &[]).await?;
        version = row.map_or(Ok(0), |row| value(&row, 0))?;
    }
    if !has_schema {
        transaction.batch_execute(&schema.put_into("CREATE SCHEMA {schema}")).await?;
    }
    let from = usize::try_from(version).unwrap_or(0).min(MIGRATIONS.len());
    for text in MIGRATIONS[from..].iter().copied().flatten() {
        transaction.batch_execute(&schema.put_into(text)).await?;
    }
    let id = LedgerId::random(rng).to_string();
    let finish = schema.put_into(
        "INSERT INTO {schema}.meta (version, compatible_from, id, created_at_us, system_id,
             database_oid, timeline)
         SELECT 0, 0, $1::uuid, $2, p.system_id, p.database_oid,
                 {schema}.timeline_v1() FROM {schema}.place_v1() p
         ON CONFLICT DO NOTHING",
    );
    let now = sql_time(now);
    transaction.execute_typed(&finish, &[(&id, Type::TEXT), (&now, Type::INT8)]).await?;
    let finish = schema.put_into(
        "UPDATE {schema}.meta SET version = $1, compatible_from = $2
         WHERE version < $1 RETURNING 1",
    );
    let versions = &[
        (&VERSION as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT4),
        (&COMPATIBLE_FROM, Type::INT4),
    ];
    transaction.execute_typed(&finish, versions).await?;
    let read = schema.put_into("SELECT id::text FROM {schema}.meta");
    let row = transaction.query_typed_one(&read, &[]).await?;
    let id = parsed(&row, 0, |text| text.parse().ok())?;
    transaction.commit().await?;
    let from = u32::try_from(version).ok().filter(|version| *version > 0);
    // Whoever may change the schema owns it.
    Ok(Opened { id, records: true, from })
}

/// How long stepping up may take, with the wait for others who do it.
pub(super) const MIGRATION_MAX: Duration = Duration::from_mins(2);

/// Says what to do where this role may not make or change the schema.
pub(super) fn needs_an_owner(fail: Fail) -> Fail {
    if !fail.lacks_right() {
        return fail;
    }
    let why = "the ledger's schema is missing or older, and this role may not make it: run \
               `bidlock ledger migrate` once as a role that owns the schema or may create one";
    Fail::Refused(Refusal::Permission(why.to_owned()))
}
