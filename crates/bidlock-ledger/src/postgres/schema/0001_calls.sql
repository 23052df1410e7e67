-- Conditions on a state are written `(…) IS TRUE`, which no index serves: where few attempts have
-- it, the planner would rather look through all of those than for the one that is meant.

-- What programs call. A name's version changes with what it takes or answers, and old names stay,
-- so that several versions of bidlock use one ledger side by side.

-- Where this session really is, which never changes while it lasts: the cluster, where this role
-- may ask for it, and the database.
CREATE FUNCTION {schema}.place_v1(OUT system_id text, OUT database_oid text)
LANGUAGE plpgsql AS $$
BEGIN
    database_oid := (SELECT oid::text FROM pg_database WHERE datname = current_database());
    system_id := (SELECT c.system_identifier::text FROM pg_control_system() c);
EXCEPTION WHEN insufficient_privilege THEN
    system_id := NULL;
END $$;

-- The server's timeline, which a promotion and a restored backup change; NULL in recovery.
CREATE FUNCTION {schema}.timeline_v1() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RETURN NULL;
    END IF;
    RETURN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
END $$;

-- L12: why this is another ledger than the one that was opened, or another copy than the one that
-- was accepted last; NULL when it is not.
CREATE FUNCTION {schema}.changed_v1(p_ledger uuid, p_trust_failover boolean) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    m record;
    p record;
    v_timeline text := {schema}.timeline_v1();
BEGIN
    SELECT * INTO p FROM {schema}.place_v1();
    -- Kept with the server's own session, of which it tells: true behind a pooler, too.
    PERFORM set_config('bidlock.place', concat(p.system_id, '/', p.database_oid), false);
    SELECT id, system_id, database_oid, timeline INTO m FROM {schema}.meta;
    RETURN CASE
        WHEN p_ledger <> m.id THEN format(
            'it is the ledger %s, and was %s when it was opened', m.id, p_ledger)
        WHEN p.system_id <> m.system_id THEN format(
            'it is in the cluster %s, and was in %s', p.system_id, m.system_id)
        WHEN p.database_oid <> m.database_oid THEN format(
            'it is in the database number %s, and was in %s', p.database_oid, m.database_oid)
        WHEN v_timeline <> m.timeline AND NOT p_trust_failover THEN format(
            'the server is on timeline %s, and was on %s: a standby was promoted, or a backup '
            'restored', v_timeline, m.timeline)
        END;
END $$;

-- The functions below are what every bid pays for. Each statement and each expression in one has
-- its price in every transaction, so that what can be said in one is. They begin alike: whether
-- the ledger is the one that was opened, where that is seen at once; else `changed_v1` looks. No
-- ledger is named where that was looked at before, in the same transaction.

-- Answers, with what is known of the attempt:
--   reserved  it is made, now or by the same call before
--   not       another attempt stands against it
--   stale     what was known of the posting may be forgotten (L10)
--   too_low   the posting has seen a higher token; nothing was changed (L3)
--   changed   the ledger is another copy, for the reason in `note`; nothing was changed (L12)
CREATE FUNCTION {schema}.reserve_v1(
    p_marketplace text, p_posting text, p_id uuid, p_token bigint, p_holder text,
    p_process text, p_seen_at_us bigint, p_now_us bigint, p_doubt text,
    p_ledger uuid, p_trust_failover boolean,
    OUT answer text, OUT note text, OUT it {schema}.attempts
) LANGUAGE plpgsql AS $$
DECLARE
    v_alone boolean;
    v_state text;
    v_stale boolean;
BEGIN
    IF p_ledger IS NOT NULL THEN
        SELECT {schema}.changed_v1(p_ledger, p_trust_failover) INTO note FROM {schema}.meta m
            WHERE NOT coalesce(m.id = p_ledger
                AND concat(m.system_id, '/', m.database_oid)
                    = current_setting('bidlock.place', true)
                AND m.timeline = CASE WHEN pg_is_in_recovery() THEN NULL
                    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, false);
    END IF;
    IF note IS NOT NULL THEN
        answer := 'changed';
        RETURN;
    END IF;
    -- Alone at the posting; the next statements see what those before it have committed.
    v_alone := {schema}.begin_change_v1() IS NULL
        OR pg_advisory_xact_lock({schema}.lock_of(p_marketplace, p_posting)) IS NULL
        OR set_config('bidlock.seen', p_id::text, true) IS NULL;
    LOOP
        -- The newest has the highest token, and only it can be open.
        SELECT a.* INTO it FROM {schema}.attempts a
            WHERE a.marketplace = p_marketplace AND a.posting = p_posting
            ORDER BY a.token_seen DESC, a.seq DESC LIMIT 1;
        IF FOUND THEN
            v_state := CASE WHEN it.state = 'started' AND it.send_by_us <= p_now_us
                THEN 'unknown' ELSE it.state END; -- L5
            answer := CASE
                WHEN v_state = 'reserved' AND it.id = p_id THEN 'reserved' -- A repeat.
                WHEN v_state IN ('placed', 'refused', 'withdrawn', 'unknown') THEN 'not'
                WHEN p_token < it.token_seen THEN 'too_low' -- L3
                WHEN v_state = 'abandoned' THEN NULL
                WHEN p_token = it.token_seen OR (v_state = 'started' AND it.id = p_id) THEN 'not'
                END;
            IF answer IS NOT NULL THEN
                RETURN;
            END IF;
        END IF;
        IF v_state = 'started' THEN -- L5: nobody can tell how it went.
            UPDATE {schema}.attempts a SET state = 'unknown', event = 'doubted',
                token_seen = p_token, decided_at_us = p_now_us, reason = p_doubt
                WHERE a.seq = it.seq AND (a.state = 'started') IS TRUE AND a.token_seen < p_token
                RETURNING a.* INTO it;
            -- Else it was moved on meanwhile: look again.
            CONTINUE WHEN NOT FOUND;
            INSERT INTO {schema}.history
                    (at_us, marketplace, posting, attempt, event, token, actor)
                VALUES (p_now_us, it.marketplace, it.posting, it.id, 'doubted', p_token, p_holder);
            answer := 'not';
            RETURN;
        END IF;
        IF p_seen_at_us IS NOT NULL THEN -- L10: what was known of it may be forgotten.
            v_stale := (SELECT p_seen_at_us < m.pruned_before_us FROM {schema}.meta m);
            IF v_stale THEN
                answer := 'stale';
                RETURN;
            END IF;
        END IF;
        EXIT WHEN v_state IS DISTINCT FROM 'reserved';
        -- It never started, and gives way to a higher token.
        UPDATE {schema}.attempts a SET state = 'abandoned', event = 'taken_over',
            token_seen = p_token, decided_at_us = p_now_us, reason = NULL
            WHERE a.seq = it.seq AND (a.state = 'reserved') IS TRUE AND a.token_seen < p_token
            RETURNING a.* INTO it;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO {schema}.history
                (at_us, marketplace, posting, attempt, event, token, actor, detail)
            VALUES (p_now_us, it.marketplace, it.posting, it.id, 'taken_over', p_token,
                p_holder, 'by attempt ' || p_id);
        EXIT;
    END LOOP;
    WITH made AS (
        INSERT INTO {schema}.attempts AS a (id, marketplace, posting, state, event, token,
                token_seen, holder, process, seen_at_us, reserved_at_us)
            VALUES (p_id, p_marketplace, p_posting, 'reserved', 'reserved', p_token, p_token,
                p_holder, p_process, p_seen_at_us, p_now_us)
            RETURNING a.*
    ), told AS (
        INSERT INTO {schema}.history (at_us, marketplace, posting, attempt, event, token, actor)
            SELECT p_now_us, p_marketplace, p_posting, p_id, 'reserved', p_token, p_holder
    )
    SELECT made.* INTO it FROM made;
    answer := 'reserved';
END $$;

-- Answers `yes` once in an attempt's life (L2), `no`, `missing` or `changed`.
CREATE FUNCTION {schema}.start_v1(
    p_id uuid, p_token bigint, p_send_by_us bigint, p_payload text, p_now_us bigint,
    p_ledger uuid, p_trust_failover boolean,
    OUT answer text, OUT note text, OUT it {schema}.attempts
) LANGUAGE plpgsql AS $$
BEGIN
    IF p_ledger IS NOT NULL THEN
        SELECT {schema}.changed_v1(p_ledger, p_trust_failover) INTO note FROM {schema}.meta m
            WHERE NOT coalesce(m.id = p_ledger
                AND concat(m.system_id, '/', m.database_oid)
                    = current_setting('bidlock.place', true)
                AND m.timeline = CASE WHEN pg_is_in_recovery() THEN NULL
                    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, false);
    END IF;
    IF note IS NOT NULL OR {schema}.begin_change_v1() IS NULL THEN
        answer := 'changed';
        RETURN;
    END IF;
    WITH made AS (
        UPDATE {schema}.attempts a SET state = 'started', event = 'started', token = p_token,
                token_seen = p_token, started_at_us = p_now_us, send_by_us = p_send_by_us,
                payload = p_payload
            WHERE a.id = p_id AND (a.state = 'reserved') IS TRUE AND a.token_seen <= p_token
            RETURNING a.*
    ), told AS (
        INSERT INTO {schema}.history
                (at_us, marketplace, posting, attempt, event, token, actor, detail)
            SELECT p_now_us, m.marketplace, m.posting, m.id, 'started', p_token, m.holder,
                p_payload FROM made m
    )
    SELECT made.* INTO it FROM made;
    IF FOUND THEN
        answer := 'yes';
        RETURN;
    END IF;
    SELECT a.* INTO it FROM {schema}.attempts a WHERE a.id = p_id;
    answer := CASE WHEN FOUND THEN 'no' ELSE 'missing' END;
END $$;

-- Keeps an outcome by the attempt alone (L8): the event is placed, refused, not_sent, unknown or
-- given_up, and leads to `p_next`. Answers `written`, `already`, `late`, `not_started` or
-- `missing`.
CREATE FUNCTION {schema}.record_v1(
    p_id uuid, p_event text, p_next text, p_reference text, p_reason text, p_now_us bigint,
    OUT answer text, OUT note text, OUT it {schema}.attempts
) LANGUAGE plpgsql AS $$
DECLARE
    v_resent boolean := true;
    v_closed record;
BEGIN
    IF p_next NOT IN ('placed', 'refused', 'abandoned', 'unknown')
        OR {schema}.begin_change_v1() IS NULL
    THEN
        RAISE EXCEPTION 'ledger: no outcome leads to %', p_next USING ERRCODE = 'BL004';
    END IF;
    LOOP
        WITH made AS (
            UPDATE {schema}.attempts a SET state = p_next, event = p_event,
                    decided_at_us = p_now_us, reference = p_reference, reason = p_reason
                WHERE a.id = p_id AND (a.state = 'started'
                    OR (a.state = 'unknown' AND p_next IN ('placed', 'refused'))
                    OR (a.state = 'unknown' AND p_next = 'abandoned' AND NOT v_resent)
                    OR (a.state = 'reserved' AND p_next = 'abandoned')) IS TRUE
                RETURNING a.*
        ), told AS (
            INSERT INTO {schema}.history
                    (at_us, marketplace, posting, attempt, event, actor, detail)
                SELECT p_now_us, m.marketplace, m.posting, m.id, p_event, m.holder,
                    coalesce(p_reference, p_reason) FROM made m
        )
        SELECT made.* INTO it FROM made;
        IF FOUND THEN
            answer := 'written';
            RETURN;
        END IF;
        SELECT a.* INTO it FROM {schema}.attempts a WHERE a.id = p_id FOR UPDATE;
        IF NOT FOUND THEN
            answer := 'missing';
            RETURN;
        END IF;
        IF it.state = 'unknown' AND p_next = 'abandoned' THEN
            -- L11: it was sent twice, and a submitter speaks for one of the two.
            v_resent := EXISTS (SELECT FROM {schema}.history h
                WHERE h.marketplace = it.marketplace AND h.posting = it.posting
                    AND h.attempt = p_id AND h.event = 'resent');
            CONTINUE WHEN NOT v_resent;
        END IF;
        -- Somebody else moved it in between.
        CONTINUE WHEN it.state = 'started'
            OR (it.state = 'unknown' AND p_next IN ('placed', 'refused'))
            OR (it.state = 'reserved' AND p_next = 'abandoned');
        EXIT;
    END LOOP;
    SELECT c.* INTO v_closed
        FROM {schema}.closed_v1(it, p_event, p_next, p_reference, p_reason, p_now_us) AS c;
    answer := v_closed.answer;
    it := v_closed.it;
END $$;

-- What an outcome is that comes when its attempt is not open for it; the row is locked.
CREATE FUNCTION {schema}.closed_v1(
    p_it {schema}.attempts, p_event text, p_next text, p_reference text, p_reason text,
    p_now_us bigint, OUT answer text, OUT it {schema}.attempts
) LANGUAGE plpgsql AS $$
DECLARE
    v_detail text := coalesce(p_reference, p_reason);
    v_event text;
BEGIN
    it := p_it;
    answer := CASE
        WHEN it.state = 'reserved' THEN 'not_started'
        -- The submitter's own word that it has stopped, in the place of a guess.
        WHEN it.state = 'unknown' AND it.event <> 'unknown' AND p_event IN ('unknown', 'not_sent')
            THEN 'written'
        WHEN p_event = 'placed' AND it.state IN ('placed', 'withdrawn')
            AND (p_reference IS NULL OR p_reference IS NOT DISTINCT FROM it.reference)
            THEN 'already'
        WHEN p_event = 'refused' AND it.state = 'refused'
            AND (p_reason IS NULL OR p_reason IS NOT DISTINCT FROM it.reason)
            THEN 'already'
        WHEN p_event = 'not_sent' AND it.state = 'abandoned' AND it.event <> 'reopened'
            THEN 'already'
        WHEN p_next IN ('unknown', 'abandoned') AND it.state = 'unknown' THEN 'already'
        ELSE 'late' END;
    IF answer = 'written' THEN
        v_event := 'unknown';
        UPDATE {schema}.attempts a
            SET event = v_event, decided_at_us = p_now_us, reason = p_reason
            WHERE a.id = p_it.id RETURNING a.* INTO it;
    ELSIF answer = 'late' AND NOT EXISTS (SELECT FROM {schema}.history h
            WHERE h.marketplace = p_it.marketplace AND h.posting = p_it.posting
                AND h.attempt = p_it.id AND h.event = 'late_' || p_event
                AND h.detail IS NOT DISTINCT FROM v_detail) THEN
        v_event := 'late_' || p_event;
    END IF;
    IF v_event IS NOT NULL THEN
        INSERT INTO {schema}.history (at_us, marketplace, posting, attempt, event, actor, detail)
            VALUES (p_now_us, it.marketplace, it.posting, it.id, v_event, it.holder, v_detail);
    END IF;
END $$;

-- L11: answers `yes` once for a token, `no`, `missing` or `changed`.
CREATE FUNCTION {schema}.resend_v1(
    p_id uuid, p_token bigint, p_send_by_us bigint, p_payload text, p_retention_us bigint,
    p_holder text, p_process text, p_now_us bigint, p_ledger uuid,
    p_trust_failover boolean,
    OUT answer text, OUT note text, OUT it {schema}.attempts
) LANGUAGE plpgsql AS $$
BEGIN
    IF p_ledger IS NOT NULL THEN
        note := {schema}.changed_v1(p_ledger, p_trust_failover);
    END IF;
    IF note IS NOT NULL THEN
        answer := 'changed';
        RETURN;
    END IF;
    PERFORM {schema}.begin_change_v1();
    UPDATE {schema}.attempts a SET state = 'unknown', event = 'resent', token = p_token,
            token_seen = p_token, send_by_us = p_send_by_us, holder = p_holder,
            process = p_process, decided_at_us = p_now_us, reason = NULL
        WHERE a.id = p_id AND (a.state IN ('started', 'unknown')) IS TRUE AND a.payload = p_payload
            AND a.token_seen < p_token AND a.send_by_us <= p_now_us
            AND a.send_by_us < p_send_by_us
            AND p_send_by_us - a.started_at_us <= p_retention_us
        RETURNING a.* INTO it;
    IF FOUND THEN
        INSERT INTO {schema}.history
                (at_us, marketplace, posting, attempt, event, token, actor, detail)
            VALUES (p_now_us, it.marketplace, it.posting, it.id, 'resent', p_token,
                p_holder, p_payload);
        answer := 'yes';
    ELSE
        SELECT a.* INTO it FROM {schema}.attempts a WHERE a.id = p_id;
        answer := CASE WHEN FOUND THEN 'no' ELSE 'missing' END;
    END IF;
END $$;

-- Several calls in one transaction: each takes 10 elements, the function's name and what it takes
-- besides the ledger, and answers one row, in their order. When one of them fails, all are taken
-- back. Locks of others are not waited for long: whoever waits keeps all others waiting.
CREATE FUNCTION {schema}.batch_v1(
    p_calls text[], p_ledger uuid, p_trust_failover boolean,
    OUT answer text, OUT note text, OUT it {schema}.attempts
) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    c text[];
    i integer := 0;
    r record;
    v_changed text;
BEGIN
    PERFORM set_config('lock_timeout', '250ms', true);
    SELECT {schema}.changed_v1(p_ledger, p_trust_failover) INTO v_changed FROM {schema}.meta m
        WHERE NOT coalesce(m.id = p_ledger
            AND concat(m.system_id, '/', m.database_oid) = current_setting('bidlock.place', true)
            AND m.timeline = CASE WHEN pg_is_in_recovery() THEN NULL
                ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END, false);
    WHILE i < cardinality(p_calls) LOOP
        c := p_calls[i + 1 : i + 10];
        i := i + 10;
        IF v_changed IS NOT NULL AND c[1] <> 'record' THEN
            answer := 'changed';
            note := v_changed;
            it := NULL;
            RETURN NEXT;
            CONTINUE;
        END IF;
        CASE c[1]
            WHEN 'reserve' THEN
                r := {schema}.reserve_v1(c[2], c[3], c[4]::uuid, c[5]::bigint, c[6], c[7],
                    c[8]::bigint, c[9]::bigint, c[10], NULL, NULL);
            WHEN 'start' THEN
                r := {schema}.start_v1(c[2]::uuid, c[3]::bigint, c[4]::bigint, c[5],
                    c[6]::bigint, NULL, NULL);
            WHEN 'resend' THEN
                r := {schema}.resend_v1(c[2]::uuid, c[3]::bigint, c[4]::bigint, c[5],
                    c[6]::bigint, c[7], c[8], c[9]::bigint, NULL, NULL);
            WHEN 'record' THEN
                r := {schema}.record_v1(c[2]::uuid, c[3], c[4], c[5], c[6], c[7]::bigint);
        END CASE;
        answer := r.answer;
        note := r.note;
        it := r.it;
        RETURN NEXT;
    END LOOP;
END $$;
