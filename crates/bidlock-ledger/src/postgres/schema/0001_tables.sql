-- The ledger, version 1. Times are microseconds since 1970. {schema} stands for the schema's name
-- as an identifier, {name} for the bare name inside a text.

CREATE TABLE {schema}.meta (
    one              boolean PRIMARY KEY DEFAULT true CONSTRAINT meta_one CHECK (one),
    version          integer NOT NULL,
    -- Programs that know this version, or a later one, may use the ledger as it is.
    compatible_from  integer NOT NULL,
    id               uuid NOT NULL,
    created_at_us    bigint NOT NULL,
    -- L10: the horizon of the last prune.
    pruned_before_us bigint,
    -- L12: when a person last accepted a restored copy.
    accepted_at_us   bigint,
    -- L12: where this ledger lives; NULL is not compared.
    system_id        text,
    database_oid     text,
    timeline         text
);

CREATE SEQUENCE {schema}.attempts_seq;
CREATE TABLE {schema}.attempts (
    -- Given by a trigger, under the posting's lock.
    seq            bigint NOT NULL CONSTRAINT attempts_seq_once PRIMARY KEY,
    id             uuid NOT NULL CONSTRAINT attempts_id UNIQUE,
    -- What values may be is looked at by triggers: a CHECK is read anew in every statement.
    -- Compared by bytes: a new version of the system's collations must not break an index.
    marketplace    text COLLATE "C" NOT NULL,
    -- As keys encode it; independent of any prefix.
    posting        text COLLATE "C" NOT NULL,
    state          text COLLATE "C" NOT NULL,
    -- What brought it there.
    event          text COLLATE "C" NOT NULL,
    token          bigint NOT NULL,
    -- The highest token that has met this attempt.
    token_seen     bigint NOT NULL,
    holder         text NOT NULL,
    process        text NOT NULL,
    seen_at_us     bigint,
    reserved_at_us bigint NOT NULL,
    started_at_us  bigint,
    send_by_us     bigint,
    decided_at_us  bigint,
    reference      text,
    payload        text,
    reason         text
);

-- L1: at most one attempt of a posting is outside `abandoned`.
CREATE UNIQUE INDEX attempts_open
    ON {schema}.attempts (marketplace, posting) WHERE state <> 'abandoned';
-- L3: the highest token that a posting has seen, in one look-up.
CREATE INDEX attempts_seen ON {schema}.attempts (marketplace, posting, token_seen, seq);
-- L10: the oldest postings, for a prune; made with hardly any work for each row.
CREATE INDEX attempts_reserved_at ON {schema}.attempts USING brin (reserved_at_us);
-- Most are placed in the end, and found without it.
CREATE INDEX attempts_by_state ON {schema}.attempts (state, seq) WHERE state <> 'placed';

-- L7: history and audit are append-only.
CREATE SEQUENCE {schema}.history_seq;
CREATE TABLE {schema}.history (
    seq         bigint NOT NULL DEFAULT nextval('{schema}.history_seq'),
    at_us       bigint NOT NULL,
    marketplace text COLLATE "C" NOT NULL,
    posting     text COLLATE "C" NOT NULL,
    attempt     uuid NOT NULL,
    event       text COLLATE "C" NOT NULL,
    token       bigint,
    -- A holder or an operator.
    actor       text NOT NULL,
    detail      text,
    CONSTRAINT history_posting PRIMARY KEY (marketplace, posting, seq)
);

CREATE SEQUENCE {schema}.audit_seq;
CREATE TABLE {schema}.audit (
    -- Given by a trigger, in the order of commits.
    seq         bigint NOT NULL CONSTRAINT audit_seq_once PRIMARY KEY,
    at_us       bigint NOT NULL,
    actor       text NOT NULL,
    act         text NOT NULL,
    marketplace text COLLATE "C",
    posting     text COLLATE "C",
    attempt     uuid,
    token       bigint,
    because     text NOT NULL,
    CONSTRAINT audit_because CHECK (length(because) > 0)
);
CREATE INDEX audit_posting ON {schema}.audit (marketplace, posting, seq);
-- Finds an entry that was taken in before.
CREATE INDEX audit_at ON {schema}.audit (at_us);
