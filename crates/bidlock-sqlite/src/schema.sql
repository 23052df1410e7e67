-- The locks of one file. Times are microseconds of CLOCK_BOOTTIME and mean something only under
-- the boot id beside them: a row of another boot has ended. The ledger may keep its tables in
-- the same file, so every name here starts with lock_.

CREATE TABLE lock_version (version INTEGER NOT NULL) STRICT;
INSERT INTO lock_version VALUES (1);

-- A row per grant. The row with the empty key is the fencing counter: in the same b-tree as the
-- grants, a grant and its counter are usually one page to write (I1).
-- state: 0 held, 1 handed over and not yet confirmed, 2 revoked and not yet given up.
CREATE TABLE lock_keys (
    key        TEXT    NOT NULL PRIMARY KEY,
    lease      TEXT    NOT NULL,
    token      INTEGER NOT NULL,
    boot       TEXT    NOT NULL,
    granted_us INTEGER NOT NULL,
    ends_us    INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    label      TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO lock_keys VALUES ('', '', 0, '', 0, 0, 0, NULL);

-- A row per lease whose key was taken at once, until what it was promised has passed: its holder
-- is told that an operator did it.
CREATE TABLE lock_revoked (
    lease   TEXT    NOT NULL PRIMARY KEY,
    boot    TEXT    NOT NULL,
    ends_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A row per waiter, in the order in which they came.
CREATE TABLE lock_waiters (
    key         TEXT    NOT NULL,
    place       INTEGER NOT NULL,
    lease       TEXT    NOT NULL,
    label       TEXT,
    ttl_ms      INTEGER NOT NULL,
    process     TEXT    NOT NULL,
    boot        TEXT    NOT NULL,
    deadline_us INTEGER NOT NULL,
    seen_us     INTEGER NOT NULL,
    PRIMARY KEY (key, place)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX lock_waiters_by_lease ON lock_waiters (lease, key);
