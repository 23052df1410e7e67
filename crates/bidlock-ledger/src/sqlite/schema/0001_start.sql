-- The ledger, version 1. Times are microseconds since 1970.

CREATE TABLE ledger_attempts (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL CONSTRAINT ledger_attempts_id UNIQUE,
    marketplace    TEXT NOT NULL,
    -- As keys encode it; independent of any prefix.
    posting        TEXT NOT NULL,
    state          TEXT NOT NULL,
    -- What brought it there.
    event          TEXT NOT NULL,
    token          INTEGER NOT NULL,
    -- The highest token that has met this attempt.
    token_seen     INTEGER NOT NULL,
    holder         TEXT NOT NULL,
    process        TEXT NOT NULL,
    seen_at_us     INTEGER,
    reserved_at_us INTEGER NOT NULL,
    started_at_us  INTEGER,
    send_by_us     INTEGER,
    decided_at_us  INTEGER,
    reference      TEXT,
    payload        TEXT,
    reason         TEXT,
    CONSTRAINT ledger_attempts_state CHECK (state IN (
        'reserved', 'started', 'placed', 'refused', 'unknown', 'withdrawn', 'abandoned')),
    CONSTRAINT ledger_attempts_token CHECK (
        token BETWEEN 0 AND 4503599627370496 AND token_seen BETWEEN token AND 4503599627370496),
    -- Only what never started may lack a send-by.
    CONSTRAINT ledger_attempts_send_by CHECK (
        (started_at_us IS NULL) = (send_by_us IS NULL)
        AND (started_at_us IS NOT NULL OR state IN ('reserved', 'abandoned'))),
    CONSTRAINT ledger_attempts_reference CHECK (length(CAST(reference AS BLOB)) <= 512),
    CONSTRAINT ledger_attempts_reason CHECK (length(CAST(reason AS BLOB)) <= 1024)
) STRICT;

-- L1: at most one attempt of a posting is outside `abandoned`.
CREATE UNIQUE INDEX ledger_attempts_open
    ON ledger_attempts (marketplace, posting) WHERE state <> 'abandoned';
-- L3: the highest token that a posting has seen, in one look-up.
CREATE INDEX ledger_attempts_seen ON ledger_attempts (marketplace, posting, token_seen);
CREATE INDEX ledger_attempts_by_state ON ledger_attempts (state, seq);

-- L4: the steps that there are, and no other.
CREATE TRIGGER ledger_attempts_step BEFORE UPDATE OF state ON ledger_attempts
WHEN NOT CASE OLD.state
    WHEN 'reserved' THEN NEW.state IN ('started', 'abandoned')
    WHEN 'started' THEN NEW.state IN ('placed', 'refused', 'unknown', 'abandoned')
    WHEN 'unknown' THEN NEW.state IN ('placed', 'refused', 'abandoned')
    WHEN 'placed' THEN NEW.state = 'withdrawn'
    WHEN 'refused' THEN NEW.state = 'abandoned'
    WHEN 'withdrawn' THEN NEW.state = 'abandoned'
    ELSE 0 END
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: no such step');
END;

CREATE TRIGGER ledger_attempts_birth BEFORE INSERT ON ledger_attempts
WHEN NEW.state <> 'reserved'
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: an attempt begins reserved');
END;

-- L9: what was fixed at the start stays; what an attempt is about stays from the beginning.
CREATE TRIGGER ledger_attempts_fixed
BEFORE UPDATE OF payload, send_by_us, started_at_us, token ON ledger_attempts
WHEN OLD.state <> 'reserved' AND (NEW.payload IS NOT OLD.payload
    OR NEW.send_by_us IS NOT OLD.send_by_us OR NEW.started_at_us IS NOT OLD.started_at_us
    OR NEW.token IS NOT OLD.token)
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: fixed at the start');
END;

CREATE TRIGGER ledger_attempts_identity
BEFORE UPDATE OF seq, id, marketplace, posting, process, reserved_at_us ON ledger_attempts
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: an attempt keeps its identity');
END;

-- L3: a token that a posting has seen is never forgotten.
CREATE TRIGGER ledger_attempts_token_seen BEFORE UPDATE OF token_seen ON ledger_attempts
WHEN NEW.token_seen < OLD.token_seen
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: a token that was seen stays seen');
END;

-- P1: what stands against a bid is not forgotten. Only an abandoned attempt may be removed, and
-- only after a later one that has seen as high a token (L3).
CREATE TRIGGER ledger_attempts_delete BEFORE DELETE ON ledger_attempts
WHEN OLD.state <> 'abandoned' OR NOT EXISTS (SELECT 1 FROM ledger_attempts
    WHERE marketplace = OLD.marketplace AND posting = OLD.posting
        AND token_seen >= OLD.token_seen AND seq > OLD.seq)
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: it still keeps others from bidding');
END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER ledger_attempts_replace BEFORE INSERT ON ledger_attempts
WHEN EXISTS (SELECT 1 FROM ledger_attempts WHERE seq = NEW.seq OR id = NEW.id)
    OR EXISTS (SELECT 1 FROM ledger_attempts
        WHERE marketplace = NEW.marketplace AND posting = NEW.posting AND state <> 'abandoned')
BEGIN
    SELECT RAISE(ABORT, 'ledger_attempts: no attempt takes the place of another');
END;

-- L7: history and audit are append-only.
CREATE TABLE ledger_history (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us       INTEGER NOT NULL,
    marketplace TEXT NOT NULL,
    posting     TEXT NOT NULL,
    attempt     TEXT NOT NULL,
    event       TEXT NOT NULL,
    token       INTEGER,
    -- A holder or an operator.
    actor       TEXT NOT NULL,
    detail      TEXT
) STRICT;
CREATE INDEX ledger_history_posting ON ledger_history (marketplace, posting, seq);

CREATE TRIGGER ledger_history_update BEFORE UPDATE ON ledger_history
BEGIN
    SELECT RAISE(ABORT, 'ledger_history: append-only');
END;
CREATE TRIGGER ledger_history_delete BEFORE DELETE ON ledger_history
BEGIN
    SELECT RAISE(ABORT, 'ledger_history: append-only');
END;
-- REPLACE deletes without asking the trigger above.
CREATE TRIGGER ledger_history_replace BEFORE INSERT ON ledger_history
WHEN EXISTS (SELECT 1 FROM ledger_history WHERE seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'ledger_history: append-only');
END;

CREATE TABLE ledger_audit (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    at_us       INTEGER NOT NULL,
    actor       TEXT NOT NULL,
    act         TEXT NOT NULL,
    marketplace TEXT,
    posting     TEXT,
    attempt     TEXT,
    token       INTEGER,
    because     TEXT NOT NULL,
    CONSTRAINT ledger_audit_because CHECK (length(because) > 0)
) STRICT;
CREATE INDEX ledger_audit_posting ON ledger_audit (marketplace, posting, seq);

CREATE TRIGGER ledger_audit_update BEFORE UPDATE ON ledger_audit
BEGIN
    SELECT RAISE(ABORT, 'ledger_audit: append-only');
END;
CREATE TRIGGER ledger_audit_delete BEFORE DELETE ON ledger_audit
BEGIN
    SELECT RAISE(ABORT, 'ledger_audit: append-only');
END;
CREATE TRIGGER ledger_audit_replace BEFORE INSERT ON ledger_audit
WHEN EXISTS (SELECT 1 FROM ledger_audit WHERE seq = NEW.seq)
BEGIN
    SELECT RAISE(ABORT, 'ledger_audit: append-only');
END;
