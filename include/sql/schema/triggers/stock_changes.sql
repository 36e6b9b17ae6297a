-- What stockMgt has to look at again: statement triggers note it in append-only queues, in the transaction of
-- the change, so that nothing that commits late is missed. Rows before and after an update are joined by full joins,
-- which are never done by nested loops: see delivery_changes.sql.

-- When a delivery leaves, leaves again or is canceled, that is kept with its moment: see delivery_volume.
CREATE OR REPLACE FUNCTION campaign.note_delivery_volumes(deliveries bigint[]) RETURNS void
LANGUAGE plpgsql
SET plan_cache_mode = 'force_custom_plan' AS $$
BEGIN
    WITH stated AS (
        SELECT
            written.id,
            -- One that failed is where a person will send it back to.
            coalesce(written.failed_from, written.status) AS status,
            coalesce(written.message_count, 0) AS message_count,
            CASE WHEN written.channel = 'direct_mail' THEN written.extracted_at ELSE written.started_at END
                AS left_at,
            written.canceled_at,
            -- Canceled before it left for good: online it was not started, by mail its provider was not done.
            written.status = 'canceled' AND NOT coalesce(
                CASE
                    WHEN written.channel = 'direct_mail' THEN written.finished_at
                    ELSE coalesce(written.started_at, written.finished_at)
                END <= coalesce(written.canceled_at, 'infinity'),
                false
            ) AS is_canceled
        FROM campaign.delivery AS written
        WHERE written.id = ANY(deliveries) AND NOT written.is_template
    ),

    compared AS (
        SELECT
            stated.id,
            stated.status,
            stated.message_count,
            stated.left_at,
            stated.is_canceled,
            -- Canceled with no moment given: as if it had never left.
            greatest(coalesce(stated.canceled_at, first.valid_from, stated.left_at), first.valid_from)
                AS canceled_from,
            first.valid_from AS first_from,
            standing.valid_from AS standing_from,
            standing.message_count AS standing_count
        FROM stated
        LEFT OUTER JOIN campaign.delivery_volume AS standing
            ON stated.id = standing.delivery_id AND standing.valid_until = 'infinity'
        LEFT OUTER JOIN LATERAL (
            SELECT min(volume.valid_from) AS valid_from
            FROM campaign.delivery_volume AS volume
            WHERE volume.delivery_id = stated.id
        ) AS first ON TRUE
        WHERE stated.left_at IS NOT NULL OR standing.delivery_id IS NOT NULL
    ),

    facts AS (
        -- It left, or left again, or with another count. While it is on its way to be extracted again, what
        -- it was extracted with stands.
        SELECT
            compared.id,
            compared.left_at AS valid_from,
            compared.message_count
        FROM compared
        WHERE
            compared.left_at IS NOT NULL
            AND CASE
                WHEN compared.is_canceled
                    THEN compared.standing_from IS NULL AND compared.left_at < compared.canceled_from
                WHEN compared.standing_from IS NULL THEN true
                WHEN compared.status IN (
                    'being_edited', 'targeting_pending', 'target_ready', 'extraction_pending', 'extracting',
                    'pending_confirmation', 'start_pending'
                ) THEN compared.left_at > compared.standing_from
                ELSE (compared.left_at, compared.message_count)
                    IS DISTINCT FROM (compared.standing_from, compared.standing_count)
            END
        UNION ALL
        -- Canceled before it left, or its extraction taken back.
        SELECT
            compared.id,
            CASE WHEN compared.is_canceled THEN compared.canceled_from ELSE compared.first_from END,
            0
        FROM compared
        WHERE
            (compared.is_canceled OR compared.left_at IS NULL)
            AND compared.standing_count IS DISTINCT FROM 0
    ),

    earliest AS (
        SELECT
            facts.id,
            min(facts.valid_from) AS valid_from
        FROM facts
        GROUP BY facts.id
    ),

    ended AS (
        UPDATE campaign.delivery_volume AS volume
        SET valid_until = earliest.valid_from
        FROM earliest
        WHERE
            volume.delivery_id = earliest.id
            AND volume.valid_from < earliest.valid_from
            AND volume.valid_until > earliest.valid_from
    ),

    superseded AS (
        DELETE FROM campaign.delivery_volume AS volume
        USING earliest
        WHERE volume.delivery_id = earliest.id AND volume.valid_from > earliest.valid_from
    ),

    begun AS (
        INSERT INTO campaign.delivery_volume AS volume (delivery_id, valid_from, valid_until, message_count)
        SELECT
            facts.id,
            facts.valid_from,
            coalesce(lead(facts.valid_from) OVER (PARTITION BY facts.id ORDER BY facts.valid_from), 'infinity'),
            facts.message_count
        FROM facts
        ON CONFLICT ON CONSTRAINT "a delivery has one volume from a moment on" DO UPDATE
        SET valid_until = excluded.valid_until, message_count = excluded.message_count
    )

    INSERT INTO campaign.stock_delivery_queue (delivery_id, due_at)
    SELECT
        facts.id,
        facts.valid_from
    FROM facts;
END
$$;

CREATE OR REPLACE FUNCTION campaign.note_new_delivery_volume() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    gone_out CONSTANT bigint [] := ARRAY(
        SELECT written.id
        FROM written
        WHERE num_nonnulls(written.extracted_at, written.started_at) > 0
    );
BEGIN
    IF cardinality(gone_out) > 0 THEN
        PERFORM campaign.note_delivery_volumes(gone_out);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_new AFTER INSERT ON campaign.delivery
REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_new_delivery_volume();
-- An update of deliveries is noted with what else it changes: see delivery_changes.sql.

-- Another cost type selected, or one taken away. Noted of every delivery: whether it left meanwhile, in a transaction
-- that this one does not see, is looked up when it is read.
CREATE OR REPLACE FUNCTION campaign.note_delivery_cost_stock() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign.stock_delivery_queue (delivery_id)
    SELECT DISTINCT changed.delivery_id
    FROM changed;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_selected AFTER INSERT ON campaign.delivery_cost
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_delivery_cost_stock();
CREATE OR REPLACE TRIGGER stock_note_deselected AFTER DELETE ON campaign.delivery_cost
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_delivery_cost_stock();

-- A surcharge or a category that is entered concerns no stock.
CREATE OR REPLACE FUNCTION campaign.note_reselected_stock() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign.stock_delivery_queue (delivery_id)
    SELECT DISTINCT noted.delivery_id
    FROM written
    FULL JOIN gone ON written.id = gone.id
    CROSS JOIN LATERAL (VALUES (written.delivery_id), (gone.delivery_id)) AS noted (delivery_id)
    WHERE
        (written.delivery_id, written.cost_type_id) IS DISTINCT FROM (gone.delivery_id, gone.cost_type_id)
        AND noted.delivery_id IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_reselected AFTER UPDATE ON campaign.delivery_cost
REFERENCING OLD TABLE AS gone NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_reselected_stock();

-- A cost type that names another stock line, takes another number of units, or is selected by default or not any more:
-- it concerns the deliveries that select it, and those of its service.
CREATE OR REPLACE FUNCTION campaign.note_default_cost_type_stock() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign.stock_selection_queue (service_id)
    SELECT DISTINCT category.service_id
    FROM changed
    INNER JOIN campaign.cost_category AS category ON changed.cost_category_id = category.id
    WHERE changed.selected_by_default AND changed.stock_line_id IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_default AFTER INSERT ON campaign.cost_type
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_default_cost_type_stock();
CREATE OR REPLACE TRIGGER stock_note_default_gone AFTER DELETE ON campaign.cost_type
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_default_cost_type_stock();

CREATE OR REPLACE FUNCTION campaign.note_cost_type_stock() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign.stock_selection_queue (cost_type_id, service_id)
    SELECT DISTINCT
        written.id,
        category.service_id
    FROM written
    FULL JOIN gone ON written.id = gone.id
    -- What a cost type leaves behind in its category are the defaults there.
    CROSS JOIN LATERAL (VALUES (written.cost_category_id), (gone.cost_category_id)) AS noted (cost_category_id)
    INNER JOIN campaign.cost_category AS category ON noted.cost_category_id = category.id
    WHERE
        (written.cost_category_id, written.stock_line_id, written.units_per_message, written.selected_by_default)
        IS DISTINCT FROM
        (gone.cost_category_id, gone.stock_line_id, gone.units_per_message, gone.selected_by_default);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_units AFTER UPDATE ON campaign.cost_type
REFERENCING OLD TABLE AS gone NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_cost_type_stock();

-- A category whose defaults count for other deliveries.
CREATE OR REPLACE FUNCTION campaign.note_cost_category_stock() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign.stock_selection_queue (service_id)
    SELECT DISTINCT noted.service_id
    FROM written
    FULL JOIN gone ON written.id = gone.id
    CROSS JOIN LATERAL (VALUES (written.service_id), (gone.service_id)) AS noted (service_id)
    WHERE
        (written.service_id, written.channel) IS DISTINCT FROM (gone.service_id, gone.channel)
        AND noted.service_id IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_category AFTER UPDATE ON campaign.cost_category
REFERENCING OLD TABLE AS gone NEW TABLE AS written
FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_cost_category_stock();

-- Lines whose ledger changed.
CREATE OR REPLACE FUNCTION campaign.note_stock_line() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign.stock_line_queue (stock_line_id)
    SELECT DISTINCT changed.stock_line_id
    FROM changed;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_consumed AFTER INSERT ON campaign.stock_consumption
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_stock_line();
CREATE OR REPLACE TRIGGER stock_note_adjusted AFTER UPDATE ON campaign.stock_consumption
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_stock_line();
CREATE OR REPLACE TRIGGER stock_note_adjusted_from AFTER UPDATE ON campaign.stock_consumption
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_stock_line();
CREATE OR REPLACE TRIGGER stock_note_removed AFTER DELETE ON campaign.stock_consumption
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_stock_line();

CREATE OR REPLACE TRIGGER stock_note_moved_from AFTER UPDATE ON campaign.stock_order
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_stock_line();
CREATE OR REPLACE TRIGGER stock_note_withdrawn AFTER DELETE ON campaign.stock_order
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_stock_line();

-- An order changes its line now, and again when the moment comes at which it is ordered.
CREATE OR REPLACE FUNCTION campaign.note_stock_order() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign.stock_line_queue (stock_line_id, due_at)
    SELECT
        changed.stock_line_id,
        '-infinity'
    FROM changed
    UNION
    SELECT
        changed.stock_line_id,
        changed.ordered_at
    FROM changed
    WHERE changed.received_at IS NULL;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_ordered AFTER INSERT ON campaign.stock_order
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_stock_order();
CREATE OR REPLACE TRIGGER stock_note_moved AFTER UPDATE ON campaign.stock_order
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_stock_order();

CREATE OR REPLACE FUNCTION campaign.note_new_stock_line() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign.stock_line_queue (stock_line_id)
    SELECT changed.id
    FROM changed;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_note_new AFTER INSERT ON campaign.stock_line
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_new_stock_line();
CREATE OR REPLACE TRIGGER stock_note_changed AFTER UPDATE ON campaign.stock_line
REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_new_stock_line();

-- A session that replicates (session_replication_role = replica) fires none of the triggers above. What it writes
-- into the ledger is noted all the same, as written past them; and so is a position that somebody removed.
CREATE OR REPLACE FUNCTION campaign.note_unwatched_ledger() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'stock_line' THEN
        INSERT INTO campaign.stock_line_queue (stock_line_id, is_noted)
        SELECT
            changed.id,
            FALSE
        FROM changed;
    ELSE
        INSERT INTO campaign.stock_line_queue (stock_line_id, is_noted)
        SELECT DISTINCT
            changed.stock_line_id,
            FALSE
        FROM changed;
    END IF;
    RETURN NULL;
END
$$;

DO $$
DECLARE
    watched record;
BEGIN
    FOR watched IN
        SELECT
            ledger.name AS ledger,
            event.name AS event,
            event.state,
            format('stock_unwatched_%s_%s', lower(event.name), lower(event.state)) AS trigger
        FROM (VALUES ('stock_consumption'), ('stock_order'), ('stock_line')) AS ledger (name)
        CROSS JOIN (VALUES ('INSERT', 'NEW'), ('UPDATE', 'NEW'), ('UPDATE', 'OLD'), ('DELETE', 'OLD')) AS event (name, state)
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER %I AFTER %s ON campaign.%I REFERENCING %s TABLE AS changed '
            'FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_unwatched_ledger()',
            watched.trigger, watched.event, watched.ledger, watched.state
        );
        EXECUTE format('ALTER TABLE campaign.%I ENABLE REPLICA TRIGGER %I', watched.ledger, watched.trigger);
    END LOOP;
END
$$;

CREATE OR REPLACE TRIGGER stock_unwatched_delete AFTER DELETE ON campaign.stock_balance
REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION campaign.note_unwatched_ledger();
ALTER TABLE campaign.stock_balance ENABLE ALWAYS TRIGGER stock_unwatched_delete;

-- What watches over the ledger: its triggers, their functions, and the files of its tables, each with the
-- transaction that last touched it. Another watch than at the last whole proof means that the triggers were off, or
-- the ledger emptied (TRUNCATE), in between; or that the schema was laid anew, or the database restored.
CREATE OR REPLACE FUNCTION campaign.stock_ledger_watch() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT md5(string_agg(watcher.state, ',' ORDER BY watcher.state))
    FROM (
        SELECT concat_ws(' ', class.oid, class.relfilenode, trigger.oid, trigger.xmin, function.xmin) AS state
        FROM pg_catalog.pg_class AS class
        LEFT OUTER JOIN pg_catalog.pg_trigger AS trigger ON class.oid = trigger.tgrelid AND NOT trigger.tgisinternal
        LEFT OUTER JOIN pg_catalog.pg_proc AS function ON trigger.tgfoid = function.oid
        WHERE
            class.oid IN (
                'campaign.stock_consumption'::regclass,
                'campaign.stock_order'::regclass,
                'campaign.stock_line'::regclass,
                'campaign.stock_balance'::regclass
            )
    ) AS watcher
$$;
