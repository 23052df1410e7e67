-- What the database itself keeps, against any writer.

-- Every change of the ledger begins here: it is on disk before it is acknowledged, whatever the
-- server, the database or the role says; later statements see what others have committed; and
-- nobody is waited for longer than a statement may take, or less where the session says so.
-- Never answers NULL.
CREATE FUNCTION {schema}.begin_change_v1() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed'
        AND current_setting('synchronous_commit') <> 'off'
        AND current_setting('lock_timeout') <> '0'
    THEN
        RETURN '';
    END IF;
    PERFORM {schema}.begin_change();
    IF current_setting('lock_timeout') = '0' THEN
        RETURN set_config('lock_timeout', '4s', true);
    END IF;
    RETURN '';
END $$;

CREATE FUNCTION {schema}.begin_change() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'ledger: changes are made at READ COMMITTED' USING ERRCODE = 'BL001';
    END IF;
    IF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END $$;

-- The advisory lock of a posting: whoever makes attempts of it holds it until the end of the
-- transaction, and is alone.
CREATE FUNCTION {schema}.lock_of(p_marketplace text, p_posting text) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended('{name}:' || p_marketplace || ':' || p_posting, 7305804402566329188);
$$;

CREATE FUNCTION {schema}.lock_posting(p_marketplace text, p_posting text) RETURNS void
LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock({schema}.lock_of(p_marketplace, p_posting));
$$;

-- What the running transaction may do besides bidding: `import`, `prune`, or nothing. It is said by
-- set_config('bidlock.pass', …, true), and ends with the transaction.
CREATE FUNCTION {schema}.may(p_what text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(current_setting('bidlock.pass', true), '') = p_what;
$$;

CREATE FUNCTION {schema}.check_values(n {schema}.attempts) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF n.state NOT IN ('reserved', 'started', 'placed', 'refused', 'unknown', 'withdrawn',
            'abandoned')
        OR NOT n.token BETWEEN 0 AND 4503599627370496
        OR NOT n.token_seen BETWEEN n.token AND 4503599627370496
        -- Only what never started may lack a send-by.
        OR (n.started_at_us IS NULL) <> (n.send_by_us IS NULL)
        OR (n.started_at_us IS NULL AND n.state NOT IN ('reserved', 'abandoned'))
        OR octet_length(n.reference) > 512 OR octet_length(n.reason) > 1024
    THEN
        RAISE EXCEPTION 'ledger: no attempt is like this' USING ERRCODE = 'BL004';
    END IF;
END $$;

CREATE FUNCTION {schema}.attempts_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The function that makes this attempt is alone at the posting, and has looked at it.
    IF current_setting('bidlock.seen', true) = NEW.id::text AND NEW.state = 'reserved'
        AND NEW.token BETWEEN 0 AND 4503599627370496 AND NEW.token_seen = NEW.token
        AND NEW.started_at_us IS NULL AND NEW.send_by_us IS NULL
        AND NEW.reference IS NULL AND NEW.reason IS NULL
    THEN
        NEW.seq := nextval('{schema}.attempts_seq');
        RETURN NEW;
    END IF;
    PERFORM {schema}.begin_change();
    PERFORM {schema}.lock_posting(NEW.marketplace, NEW.posting);
    -- L3: a token that a posting has seen is never forgotten.
    IF EXISTS (SELECT FROM {schema}.attempts a WHERE a.marketplace = NEW.marketplace
            AND a.posting = NEW.posting AND a.token_seen > NEW.token) THEN
        RAISE EXCEPTION 'ledger: the posting has seen a higher token' USING ERRCODE = 'BL003';
    END IF;
    IF NOT {schema}.may('import') AND (NEW.state <> 'reserved' OR NEW.token_seen <> NEW.token)
    THEN
        RAISE EXCEPTION 'ledger: an attempt begins reserved' USING ERRCODE = 'BL004';
    END IF;
    PERFORM {schema}.check_values(NEW);
    NEW.seq := nextval('{schema}.attempts_seq');
    RETURN NEW;
END $$;
CREATE TRIGGER attempts_insert BEFORE INSERT ON {schema}.attempts
    FOR EACH ROW EXECUTE FUNCTION {schema}.attempts_insert();

CREATE FUNCTION {schema}.attempts_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The steps of a bid's life that need no second look.
    IF current_setting('transaction_isolation') = 'read committed'
        AND current_setting('synchronous_commit') <> 'off'
        AND (NEW.seq, NEW.id, NEW.marketplace, NEW.posting, NEW.reserved_at_us, NEW.holder,
                NEW.process)
            = (OLD.seq, OLD.id, OLD.marketplace, OLD.posting, OLD.reserved_at_us, OLD.holder,
                OLD.process)
        AND NEW.seen_at_us IS NOT DISTINCT FROM OLD.seen_at_us
        AND NEW.token_seen >= OLD.token_seen AND NEW.event <> 'resent'
        AND NEW.token_seen <= 4503599627370496
        AND coalesce(octet_length(NEW.reference) <= 512, true)
        AND coalesce(octet_length(NEW.reason) <= 1024, true)
        AND (CASE OLD.state
            WHEN 'reserved' THEN NEW.state = 'started' AND NEW.token BETWEEN 0 AND NEW.token_seen
                AND NEW.started_at_us IS NOT NULL AND NEW.send_by_us IS NOT NULL
            WHEN 'started' THEN NEW.state IN ('placed', 'refused', 'unknown', 'abandoned')
                AND (NEW.send_by_us, NEW.started_at_us, NEW.token)
                    = (OLD.send_by_us, OLD.started_at_us, OLD.token)
                AND NEW.payload IS NOT DISTINCT FROM OLD.payload
            ELSE false END)
    THEN
        RETURN NEW;
    END IF;
    PERFORM {schema}.begin_change();
    PERFORM {schema}.check_step(OLD, NEW);
    PERFORM {schema}.check_values(NEW);
    RETURN NEW;
END $$;

CREATE FUNCTION {schema}.check_step(o {schema}.attempts, n {schema}.attempts) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_import boolean := {schema}.may('import');
BEGIN
    IF (n.seq, n.id, n.marketplace, n.posting, n.reserved_at_us)
        <> (o.seq, o.id, o.marketplace, o.posting, o.reserved_at_us)
        OR n.seen_at_us IS DISTINCT FROM o.seen_at_us
    THEN
        RAISE EXCEPTION 'ledger: an attempt keeps its identity' USING ERRCODE = 'BL009';
    END IF;
    -- L3
    IF n.token_seen < o.token_seen THEN
        RAISE EXCEPTION 'ledger: a token that was seen stays seen' USING ERRCODE = 'BL003';
    END IF;
    -- L9: what was fixed at the start stays.
    IF o.state <> 'reserved'
        AND (n.payload, n.started_at_us) IS DISTINCT FROM (o.payload, o.started_at_us)
    THEN
        RAISE EXCEPTION 'ledger: fixed at the start' USING ERRCODE = 'BL009';
    END IF;
    -- L4: the steps that there are, and no other. An import may take several at once.
    IF n.state <> o.state AND NOT (CASE o.state
            WHEN 'reserved' THEN n.state IN ('started', 'abandoned')
            WHEN 'started' THEN n.state IN ('placed', 'refused', 'unknown', 'abandoned')
            WHEN 'unknown' THEN n.state IN ('placed', 'refused', 'abandoned')
            WHEN 'placed' THEN n.state = 'withdrawn'
            WHEN 'refused' THEN n.state = 'abandoned'
            WHEN 'withdrawn' THEN n.state = 'abandoned'
            ELSE false END)
        AND NOT (v_import AND CASE o.state
            WHEN 'reserved' THEN true
            WHEN 'started' THEN n.state <> 'reserved'
            WHEN 'unknown' THEN n.state NOT IN ('reserved', 'started')
            WHEN 'placed' THEN n.state IN ('withdrawn', 'abandoned')
            ELSE n.state = 'abandoned' END)
    THEN
        RAISE EXCEPTION 'ledger: no step leads from % to %', o.state, n.state
            USING ERRCODE = 'BL004';
    END IF;
    IF v_import THEN
        RETURN;
    END IF;
    -- L11: with the same payload, by a higher token, and not before the send-by.
    IF n.event = 'resent' THEN
        IF NOT coalesce(o.state IN ('started', 'unknown') AND n.state = 'unknown'
            AND n.payload = o.payload AND n.token > o.token_seen AND n.token_seen = n.token
            AND n.send_by_us > o.send_by_us AND n.decided_at_us >= o.send_by_us, false)
        THEN
            RAISE EXCEPTION 'ledger: an attempt is not sent again like this'
                USING ERRCODE = 'BL011';
        END IF;
        RETURN;
    END IF;
    -- L9: only L11 moves the send-by, the token and the sender.
    IF o.state <> 'reserved'
        AND (n.send_by_us, n.token) IS DISTINCT FROM (o.send_by_us, o.token)
    THEN
        RAISE EXCEPTION 'ledger: fixed at the start' USING ERRCODE = 'BL009';
    END IF;
    IF (n.holder, n.process) <> (o.holder, o.process) THEN
        RAISE EXCEPTION 'ledger: an attempt keeps its identity' USING ERRCODE = 'BL009';
    END IF;
END $$;
CREATE TRIGGER attempts_update BEFORE UPDATE ON {schema}.attempts
    FOR EACH ROW EXECUTE FUNCTION {schema}.attempts_update();

-- L10: what stands against a bid, and what tells of it, leaves by a prune only: a posting whose
-- every attempt is over, and whose last step lies before the horizon.
CREATE FUNCTION {schema}.is_over(p_marketplace text, p_posting text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_horizon bigint := (SELECT coalesce(m.pruned_before_us, 0) FROM {schema}.meta m);
BEGIN
    RETURN NOT EXISTS (SELECT FROM {schema}.attempts a
            WHERE a.marketplace = p_marketplace AND a.posting = p_posting
                AND (a.state IN ('reserved', 'started', 'unknown')
                    OR greatest(a.reserved_at_us, a.started_at_us, a.decided_at_us) >= v_horizon))
        AND NOT EXISTS (SELECT FROM {schema}.history h
            WHERE h.marketplace = p_marketplace AND h.posting = p_posting
                AND h.at_us >= v_horizon);
END $$;

CREATE FUNCTION {schema}.attempts_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT {schema}.may('prune') OR NOT {schema}.is_over(OLD.marketplace, OLD.posting) THEN
        RAISE EXCEPTION 'ledger: it still keeps others from bidding' USING ERRCODE = 'BL010';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER attempts_delete BEFORE DELETE ON {schema}.attempts
    FOR EACH ROW EXECUTE FUNCTION {schema}.attempts_delete();

CREATE FUNCTION {schema}.history_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT {schema}.may('prune') OR NOT {schema}.is_over(OLD.marketplace, OLD.posting) THEN
        RAISE EXCEPTION 'ledger: history is append-only' USING ERRCODE = 'BL007';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER history_delete BEFORE DELETE ON {schema}.history
    FOR EACH ROW EXECUTE FUNCTION {schema}.history_delete();

-- Whoever reads the audit in the order of its numbers misses nothing that is committed later.
CREATE FUNCTION {schema}.lock_audit() RETURNS void LANGUAGE sql AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('{name}:audit', 7305804402566329188));
$$;

CREATE FUNCTION {schema}.audit_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.begin_change();
    PERFORM {schema}.lock_audit();
    NEW.seq := nextval('{schema}.audit_seq');
    RETURN NEW;
END $$;
CREATE TRIGGER audit_insert BEFORE INSERT ON {schema}.audit
    FOR EACH ROW EXECUTE FUNCTION {schema}.audit_insert();

CREATE FUNCTION {schema}.append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger: % is append-only', TG_TABLE_NAME USING ERRCODE = 'BL007';
END $$;
CREATE TRIGGER history_fixed BEFORE UPDATE ON {schema}.history
    FOR EACH ROW EXECUTE FUNCTION {schema}.append_only();
CREATE TRIGGER audit_fixed BEFORE UPDATE OR DELETE ON {schema}.audit
    FOR EACH ROW EXECUTE FUNCTION {schema}.append_only();
CREATE TRIGGER attempts_kept BEFORE TRUNCATE ON {schema}.attempts
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.append_only();
CREATE TRIGGER history_kept BEFORE TRUNCATE ON {schema}.history
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.append_only();
CREATE TRIGGER audit_kept BEFORE TRUNCATE ON {schema}.audit
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.append_only();

CREATE FUNCTION {schema}.meta_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.begin_change();
    IF (NEW.one, NEW.id, NEW.created_at_us) <> (OLD.one, OLD.id, OLD.created_at_us) THEN
        RAISE EXCEPTION 'ledger: a ledger keeps its identity' USING ERRCODE = 'BL012';
    END IF;
    IF OLD.pruned_before_us IS NOT NULL
        AND coalesce(NEW.pruned_before_us < OLD.pruned_before_us, true)
    THEN
        RAISE EXCEPTION 'ledger: the horizon never goes back' USING ERRCODE = 'BL010';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER meta_update BEFORE UPDATE ON {schema}.meta
    FOR EACH ROW EXECUTE FUNCTION {schema}.meta_update();
CREATE TRIGGER meta_kept BEFORE DELETE OR TRUNCATE ON {schema}.meta
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.append_only();
