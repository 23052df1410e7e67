-- Rows from before bidlock have neither.
ALTER TABLE bids ADD COLUMN attempt uuid UNIQUE, ADD COLUMN token bigint;

-- One row for each posting, whoever inserts; what was not sent may be tried again.
CREATE UNIQUE INDEX bids_once ON bids (marketplace, posting) WHERE status <> 'not sent';

-- The highest fencing token that each posting has seen.
CREATE TABLE bid_tokens (
    marketplace text NOT NULL,
    posting     text NOT NULL,
    token       bigint NOT NULL,
    PRIMARY KEY (marketplace, posting)
);

-- Whether this table knows of no bid. It decides nothing: claim_bid does.
CREATE FUNCTION may_bid(its_marketplace text, its_posting text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (
        SELECT 1 FROM bids
        WHERE marketplace = its_marketplace AND posting = its_posting AND status <> 'not sent')
$$;

-- Makes the row of a bid that is about to be sent, and says whether it did. A token below one
-- that was seen is turned away; so is a second row.
CREATE FUNCTION claim_bid(
    its_marketplace text, its_posting text, its_token bigint, its_attempt uuid, cents bigint
) RETURNS boolean
LANGUAGE sql AS $$
    WITH fence AS (
        INSERT INTO bid_tokens AS seen (marketplace, posting, token)
        VALUES (its_marketplace, its_posting, its_token)
        ON CONFLICT (marketplace, posting) DO UPDATE SET token = excluded.token
            WHERE seen.token <= excluded.token
        RETURNING token
    ), claimed AS (
        INSERT INTO bids (marketplace, posting, amount_cents, status, attempt, token)
        SELECT its_marketplace, its_posting, cents, 'sending', its_attempt, token FROM fence
        ON CONFLICT DO NOTHING
        RETURNING id
    )
    SELECT EXISTS (SELECT 1 FROM claimed)
$$;

-- Keeps how it went.
CREATE FUNCTION close_bid(its_attempt uuid, its_status text, its_reference text) RETURNS void
LANGUAGE sql AS $$
    UPDATE bids SET status = its_status, reference = its_reference WHERE attempt = its_attempt
$$;
