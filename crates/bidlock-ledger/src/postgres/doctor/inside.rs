//! What the doctor asks of a ledger that is there, and what the answers mean.

use bidlock_core::Finding;
use tokio_postgres::types::Type;

use crate::postgres::config::PostgresConfig;
use crate::postgres::fault::Done;
use crate::postgres::pool::Session;
use crate::postgres::rows::{text, value};

/// What can be asked where there is a ledger.
pub(super) struct Inside {
    lacks: Lacks,
    broken: Vec<String>,
    /// None where the role may not ask.
    copy: Option<Whereabouts>,
}

/// What a role may not do.
struct Lacks {
    /// Of what bids do.
    for_bids: Vec<String>,
    /// Of what operators do, and no bid.
    for_operators: Vec<String>,
}

/// Whether the ledger is where it was.
struct Whereabouts {
    changed: Option<String>,
    knows_cluster: bool,
}

/// The rights that are missing, each as PostgreSQL names it, and whether bids need it. Functions
/// run with the rights of their caller, so that both are asked for. A new one is needed by bids
/// until it is named here as one that only operators call; of triggers' own nobody is asked.
const LACKS: &str = "SELECT r.what, r.for_bids FROM (VALUES
         ('SELECT on attempts', true, has_table_privilege($1 || '.attempts', 'SELECT')),
         ('INSERT on attempts', true, has_any_column_privilege($1 || '.attempts', 'INSERT')),
         ('UPDATE on attempts', true, has_any_column_privilege($1 || '.attempts', 'UPDATE')),
         ('SELECT on history', true, has_table_privilege($1 || '.history', 'SELECT')),
         ('INSERT on history', true, has_any_column_privilege($1 || '.history', 'INSERT')),
         ('SELECT on meta', true, has_table_privilege($1 || '.meta', 'SELECT')),
         ('USAGE on attempts_seq', true,
             has_sequence_privilege($1 || '.attempts_seq', 'USAGE, UPDATE')),
         ('USAGE on history_seq', true,
             has_sequence_privilege($1 || '.history_seq', 'USAGE, UPDATE')),
         ('DELETE on attempts', false, has_table_privilege($1 || '.attempts', 'DELETE')),
         ('DELETE on history', false, has_table_privilege($1 || '.history', 'DELETE')),
         ('SELECT on audit', false, has_table_privilege($1 || '.audit', 'SELECT')),
         ('INSERT on audit', false, has_table_privilege($1 || '.audit', 'INSERT')),
         ('USAGE on audit_seq', false,
             has_sequence_privilege($1 || '.audit_seq', 'USAGE, UPDATE')),
         ('UPDATE on meta', false, (SELECT
             bool_and(has_column_privilege($1 || '.meta', c, 'UPDATE'))
             FROM unnest(ARRAY['pruned_before_us', 'accepted_at_us', 'system_id',
                 'database_oid', 'timeline']) c))
     ) AS r (what, for_bids, given) WHERE NOT r.given
     UNION ALL SELECT 'EXECUTE on ' || string_agg(DISTINCT p.proname::text, ' and '), n.for_bids
         FROM pg_proc p, LATERAL (SELECT p.proname NOT IN ('lock_audit', 'is_over')) n (for_bids)
         WHERE p.pronamespace = to_regnamespace($1) AND p.prorettype <> 'trigger'::regtype
             -- Others may have their own in the same schema.
             AND p.proowner = (SELECT c.relowner FROM pg_class c
                 WHERE c.oid = to_regclass($1 || '.meta'))
             AND NOT has_function_privilege(p.oid, 'EXECUTE')
         GROUP BY n.for_bids";

/// What keeps the rules, and does not: indexes that are not valid, triggers that are off.
const BROKEN: &str = "SELECT 'the index ' || i.indexrelid::regclass || ' is not valid'
         FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         WHERE c.relnamespace = to_regnamespace($1) AND NOT (i.indisvalid AND i.indisready)
     UNION ALL SELECT 'the trigger ' || t.tgname || ' is switched off'
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
         WHERE c.relnamespace = to_regnamespace($1) AND NOT t.tgisinternal AND t.tgenabled = 'D'
     UNION ALL SELECT 'the ' || n.kind || ' ' || n.name || ' is missing'
         FROM (VALUES ('index', 'attempts_open'), ('index', 'attempts_id'),
             ('trigger', 'attempts_insert'), ('trigger', 'attempts_update'),
             ('trigger', 'attempts_delete'), ('trigger', 'attempts_kept'),
             ('trigger', 'history_fixed'),
             ('trigger', 'history_delete'), ('trigger', 'history_kept'),
             ('trigger', 'audit_insert'), ('trigger', 'audit_fixed'),
             ('trigger', 'audit_kept'), ('trigger', 'meta_update'), ('trigger', 'meta_kept')
         ) AS n (kind, name)
         WHERE NOT EXISTS (SELECT FROM pg_class c WHERE n.kind = 'index'
                 AND c.relnamespace = to_regnamespace($1) AND c.relname = n.name)
             AND NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                 WHERE n.kind = 'trigger' AND c.relnamespace = to_regnamespace($1)
                     AND t.tgname = n.name)";

impl Inside {
    pub(super) async fn take(session: &Session, config: &PostgresConfig) -> Done<Self> {
        let client = session.client();
        let schema = config.schema.put_into("{schema}");
        let mut lacks = Lacks { for_bids: Vec::new(), for_operators: Vec::new() };
        for row in client.query_typed(LACKS, &[text(&schema)]).await? {
            let whose =
                if value(&row, 1)? { &mut lacks.for_bids } else { &mut lacks.for_operators };
            whose.push(value(&row, 0)?);
        }
        let broken = client.query_typed(BROKEN, &[text(&schema)]).await?;
        let broken = broken.iter().map(|row| value(row, 0)).collect::<Done<_>>()?;
        // It is a function's word, and all that it calls.
        let may_ask = !lacks.for_bids.iter().any(|what| what.starts_with("EXECUTE"));
        let copy = if may_ask { Some(Whereabouts::take(session, config).await?) } else { None };
        Ok(Self { lacks, broken, copy })
    }

    pub(super) fn findings(&self, config: &PostgresConfig) -> Vec<Finding> {
        let mut findings = vec![self.lacks.finding()];
        findings.push(if self.broken.is_empty() {
            Finding::good("rules", "every index is valid and every trigger on")
        } else {
            let why = "the database does not keep the rules against a second bid";
            let mend = "restore the schema from a backup, or rebuild: REINDEX, ALTER TABLE … \
                        ENABLE TRIGGER ALL";
            Finding::failure("rules", self.broken.join("; "), why, mend)
        });
        findings.extend(self.copy.as_ref().map(|copy| copy.finding(config)));
        findings
    }
}

impl Lacks {
    fn finding(&self) -> Finding {
        let Self { for_bids, for_operators } = self;
        if for_bids.is_empty() && for_operators.is_empty() {
            return Finding::good("rights", "this role may bid and record");
        }
        let missing =
            format!("this role lacks {}", [&for_bids[..], for_operators].concat().join(", "));
        let mend = "bidlock doctor --acl prints the statements; run them as the schema's owner";
        if for_bids.is_empty() {
            return Finding::warning(
                "rights",
                missing,
                "some of what operators do is refused",
                mend,
            );
        }
        // Without this one nothing begins, as for a role that reads.
        let why = if for_bids.iter().any(|what| what == "INSERT on attempts") {
            "no bid can be made or recorded"
        } else {
            "a bid is refused, or it is sent and cannot be recorded, and stays in doubt"
        };
        Finding::failure("rights", missing, why, mend)
    }
}

impl Whereabouts {
    async fn take(session: &Session, config: &PostgresConfig) -> Done<Self> {
        let asked = config.schema.put_into(
            "SELECT {schema}.changed_v1(NULL, $1), (SELECT p.system_id IS NOT NULL
                 FROM {schema}.place_v1() p)",
        );
        let trusts = [(&config.trusts_failover as _, Type::BOOL)];
        let row = session.client().query_typed_one(&asked, &trusts).await?;
        Ok(Self { changed: value(&row, 0)?, knows_cluster: value(&row, 1)? })
    }

    fn finding(&self, config: &PostgresConfig) -> Finding {
        match &self.changed {
            Some(why) => Finding::failure(
                "copy",
                why.clone(),
                "bids that were made since may be forgotten, so nothing is given out",
                "bidlock ledger import FILE (the newest export), or ask the marketplaces what it \
                 has forgotten, then bidlock ledger accept --because TEXT",
            ),
            None if !self.knows_cluster => Finding::warning(
                "copy",
                "this role may not ask which cluster this is",
                "a copy in another cluster may not be noticed",
                "GRANT EXECUTE ON FUNCTION pg_control_system() TO the role",
            ),
            None if config.trusts_failover => {
                Finding::good("copy", "it is where it was; a failover is trusted")
            }
            None => Finding::good("copy", "it is where it was"),
        }
    }
}
