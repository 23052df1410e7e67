-- The ledger, version 2: it knows who it is (L12), forgets on purpose only (L10), can be taken
-- along to another store, and an attempt can be sent again under its own id (L11).

CREATE TABLE ledger_meta (
    one              INTEGER PRIMARY KEY CONSTRAINT ledger_meta_one CHECK (one = 1),
    id               TEXT NOT NULL,
    created_at_us    INTEGER NOT NULL,
    -- L10: the horizon of the last prune.
    pruned_before_us INTEGER,
    -- L12: when a person last accepted a restored copy.
    accepted_at_us   INTEGER,
    -- Programs that know this version of the schema, or a later one, may use the ledger as it
    -- is. A later version that older programs misread raises it.
    compatible_from  INTEGER NOT NULL
) STRICT;

CREATE TRIGGER ledger_meta_identity BEFORE UPDATE OF one, id, created_at_us ON ledger_meta
BEGIN
    SELECT RAISE(ABORT, 'ledger_meta: a ledger keeps its identity');
END;
CREATE TRIGGER ledger_meta_delete BEFORE DELETE ON ledger_meta
BEGIN
    SELECT RAISE(ABORT, 'ledger_meta: a ledger keeps its identity');
END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER ledger_meta_replace BEFORE INSERT ON ledger_meta
WHEN EXISTS (SELECT 1 FROM ledger_meta)
BEGIN
    SELECT RAISE(ABORT, 'ledger_meta: a ledger keeps its identity');
END;
CREATE TRIGGER ledger_meta_horizon BEFORE UPDATE OF pruned_before_us ON ledger_meta
WHEN OLD.pruned_before_us IS NOT NULL AND ifnull(NEW.pruned_before_us < OLD.pruned_before_us, 1)
BEGIN
    SELECT RAISE(ABORT, 'ledger_meta: the horizon never goes back');
END;

-- What the running transaction may do besides bidding. Its row refers to a parent that cannot
-- exist, and that is looked at by the commit: a transaction that leaves one behind is refused.
CREATE TABLE ledger_pass (
    one   INTEGER PRIMARY KEY CONSTRAINT ledger_pass_one CHECK (one = 1),
    what  TEXT NOT NULL CONSTRAINT ledger_pass_what CHECK (what IN ('import', 'prune')),
    never INTEGER NOT NULL DEFAULT 0 CONSTRAINT ledger_pass_never CHECK (never = 0)
        REFERENCES ledger_meta (one) DEFERRABLE INITIALLY DEFERRED
) STRICT;

-- L4: the steps that there are, and no other. An import may take several at once.
DROP TRIGGER ledger_attempts_step;
CREATE TRIGGER ledger_attempts_step BEFORE UPDATE OF state ON ledger_attempts
WHEN NOT CASE OLD.state
    WHEN 'reserved' THEN NEW.state IN ('started', 'abandoned')
    WHEN 'started' THEN NEW.state IN ('placed', 'refused', 'unknown', 'abandoned')
    WHEN 'unknown' THEN NEW.state IN ('placed', 'refused', 'abandoned')
        OR (NEW.state = 'unknown' AND NEW.event = 'resent') -- L11
    WHEN 'placed' THEN NEW.state = 'withdrawn'
    WHEN 'refused' THEN NEW.state = 'abandoned'
    WHEN 'withdrawn' THEN NEW.state = 'abandoned'
    ELSE 0 END
AND NOT (EXISTS (SELECT 1 FROM ledger_pass WHERE what = 'import') AND CASE OLD.state
    WHEN 'reserved' THEN 1
    WHEN 'started' THEN NEW.state <> 'reserved'
    WHEN 'unknown' THEN NEW.state NOT IN ('reserved', 'started')
    WHEN 'placed' THEN NEW.state IN ('placed', 'withdrawn', 'abandoned')
    ELSE NEW.state IN (OLD.state, 'abandoned') END)
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: no such step');
END;

DROP TRIGGER ledger_attempts_birth;
CREATE TRIGGER ledger_attempts_birth BEFORE INSERT ON ledger_attempts
WHEN NEW.state <> 'reserved' AND NOT EXISTS (SELECT 1 FROM ledger_pass WHERE what = 'import')
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: an attempt begins reserved');
END;

-- L11: `resent` stays only on a row that is sent again, with the same payload, by a higher
-- token, and not before its send-by.
CREATE TRIGGER ledger_attempts_resent BEFORE UPDATE ON ledger_attempts
WHEN NEW.event = 'resent' AND NOT EXISTS (SELECT 1 FROM ledger_pass WHERE what = 'import')
    AND NOT ifnull(
        OLD.state IN ('started', 'unknown') AND NEW.state = 'unknown'
        AND NEW.payload = OLD.payload
        AND NEW.token > OLD.token_seen AND NEW.token_seen = NEW.token
        AND NEW.send_by_us > OLD.send_by_us AND NEW.decided_at_us >= OLD.send_by_us, 0)
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: an attempt is not sent again like this');
END;

-- L9: what was fixed at the start stays. Only L11 moves the send-by and the token.
DROP TRIGGER ledger_attempts_fixed;
CREATE TRIGGER ledger_attempts_fixed
BEFORE UPDATE OF payload, send_by_us, started_at_us, token ON ledger_attempts
WHEN OLD.state <> 'reserved' AND (NEW.payload IS NOT OLD.payload
    OR NEW.started_at_us IS NOT OLD.started_at_us
    OR ((NEW.send_by_us IS NOT OLD.send_by_us OR NEW.token IS NOT OLD.token)
        AND NEW.event <> 'resent'
        AND NOT EXISTS (SELECT 1 FROM ledger_pass WHERE what = 'import')))
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: fixed at the start');
END;

-- What an attempt is about stays from the beginning. Only L11 moves the sender.
DROP TRIGGER ledger_attempts_identity;
CREATE TRIGGER ledger_attempts_identity
BEFORE UPDATE OF seq, id, marketplace, posting, seen_at_us, reserved_at_us ON ledger_attempts
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: an attempt keeps its identity');
END;
CREATE TRIGGER ledger_attempts_sender BEFORE UPDATE OF holder, process ON ledger_attempts
WHEN NEW.event <> 'resent' AND NOT EXISTS (SELECT 1 FROM ledger_pass WHERE what = 'import')
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: an attempt keeps its identity');
END;

-- L10: what stands against a bid, and what tells of it, leaves by a prune only: a posting whose
-- every attempt is over, and whose last step lies before the horizon.
DROP TRIGGER ledger_attempts_delete;
CREATE TRIGGER ledger_attempts_delete BEFORE DELETE ON ledger_attempts
WHEN NOT EXISTS (SELECT 1 FROM ledger_pass WHERE what = 'prune')
    OR EXISTS (SELECT 1 FROM ledger_attempts AS its
        WHERE its.marketplace = OLD.marketplace AND its.posting = OLD.posting
            AND (its.state IN ('reserved', 'started', 'unknown')
                OR max(its.reserved_at_us, ifnull(its.started_at_us, 0),
                    ifnull(its.decided_at_us, 0))
                >= (SELECT ifnull(max(pruned_before_us), 0) FROM ledger_meta)))
    OR EXISTS (SELECT 1 FROM ledger_history AS its
        WHERE its.marketplace = OLD.marketplace AND its.posting = OLD.posting
            AND its.at_us >= (SELECT ifnull(max(pruned_before_us), 0) FROM ledger_meta))
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: it still keeps others from bidding');
END;
DROP TRIGGER ledger_history_delete;
CREATE TRIGGER ledger_history_delete BEFORE DELETE ON ledger_history
WHEN NOT EXISTS (SELECT 1 FROM ledger_pass WHERE what = 'prune')
    OR EXISTS (SELECT 1 FROM ledger_attempts AS its
        WHERE its.marketplace = OLD.marketplace AND its.posting = OLD.posting
            AND (its.state IN ('reserved', 'started', 'unknown')
                OR max(its.reserved_at_us, ifnull(its.started_at_us, 0),
                    ifnull(its.decided_at_us, 0))
                >= (SELECT ifnull(max(pruned_before_us), 0) FROM ledger_meta)))
    OR EXISTS (SELECT 1 FROM ledger_history AS its
        WHERE its.marketplace = OLD.marketplace AND its.posting = OLD.posting
            AND its.at_us >= (SELECT ifnull(max(pruned_before_us), 0) FROM ledger_meta))
BEGIN
    SELECT RAISE(ABORT, 'ledger_history: append-only');
END;

-- Finds what a prune may take.
CREATE INDEX ledger_attempts_reserved ON ledger_attempts (reserved_at_us);
-- Finds an entry that was taken in before.
CREATE INDEX ledger_audit_at ON ledger_audit (at_us);
