-- Sending of online deliveries: what is noted of each message before and after it leaves, and how a person
-- pauses, resumes or repeats. docs/deliveries.md says why a message is never sent twice.

-- The key of a message: the left part of its Message-ID, and its id at a provider of SMS or push.
CREATE OR REPLACE FUNCTION campaign.message_key(delivery_id bigint, recipient_id bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN md5('message:' || delivery_id || ':' || recipient_id);

-- A setting that is a number, or what it is unless set. Settings are checked where they are entered.
CREATE OR REPLACE FUNCTION campaign.number_setting(name text, unless_set numeric) RETURNS numeric
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(
    (
        SELECT (setting.value #>> '{}')::numeric
        FROM campaign.setting AS setting
        WHERE setting.name = $1
    ),
    $2
);

-- The lock that says that a process sends a batch; held for as long as its session lives.
CREATE OR REPLACE FUNCTION campaign.batch_lock(batch_id bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN hashtextextended('campaign.delivery_batch', batch_id);

-- Note what became of messages of a batch, and that others are about to leave. Whoever sends calls it, in a
-- transaction of its own, before a message can be taken by anybody outside.
--
-- outstanding: messages on their way, whose answer is not known yet. wanted: those to leave next.
-- Returns whether they may: not when the batch was stopped or canceled meanwhile. A stop waits for the row,
-- so that nothing leaves after it.
CREATE OR REPLACE FUNCTION campaign.note_messages(
    batch_id bigint,
    as_of timestamptz,
    sent bigint[],
    failed bigint[],
    failures text[],
    are_unknown boolean[],
    postponed bigint[],
    postponements text[],
    outstanding bigint[],
    wanted bigint[]
) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    batch campaign.delivery_batch;
    failed_tries CONSTANT integer := campaign.number_setting('message_tries', 5);
    given_up integer := 0;
BEGIN
    UPDATE campaign.delivery_batch
    SET
        in_flight = CASE WHEN status = 'open' THEN $9 || $10 ELSE $9 END,
        sent_count = sent_count + cardinality($3),
        refused_count = refused_count + cardinality($4)
    WHERE id = $1
    RETURNING * INTO STRICT batch;
    IF cardinality($3) > 0 THEN
        UPDATE campaign.delivery_message
        SET
            status = 'sent', sent_at = clock_timestamp(), tries = tries + 1, error = NULL, next_try_at = NULL,
            is_unknown = FALSE
        WHERE delivery_id = batch.delivery_id AND recipient_id = ANY ($3) AND status <> 'sent';
    END IF;
    IF cardinality($4) > 0 THEN
        UPDATE campaign.delivery_message AS message
        SET
            status = 'failed', tries = message.tries + 1, error = refusal.error, next_try_at = NULL,
            is_unknown = refusal.is_unknown
        FROM unnest($4, $5, $6) AS refusal (recipient_id, error, is_unknown)
        WHERE
            message.delivery_id = batch.delivery_id
            AND message.recipient_id = refusal.recipient_id
            AND message.status = 'pending';
    END IF;
    IF cardinality($7) > 0 THEN
        WITH tried AS (
            UPDATE campaign.delivery_message AS message
            SET
                status = CASE WHEN message.tries + 1 < failed_tries THEN 'pending' ELSE 'failed' END,
                tries = message.tries + 1,
                error = refusal.error || CASE
                    WHEN message.tries + 1 < failed_tries THEN '' ELSE format(' (after %s tries)', failed_tries)
                END,
                next_try_at = CASE
                    WHEN message.tries + 1 < failed_tries
                        THEN $2 + campaign.growing_pause('message_pauses', message.tries + 1)
                END
            FROM unnest($7, $8) AS refusal (recipient_id, error)
            WHERE
                message.delivery_id = batch.delivery_id
                AND message.recipient_id = refusal.recipient_id
                AND message.status = 'pending'
            RETURNING message.status
        )

        SELECT count(*) INTO given_up FROM tried WHERE tried.status = 'failed';
        UPDATE campaign.delivery_batch SET refused_count = refused_count + given_up WHERE id = $1 AND given_up > 0;
    END IF;
    RETURN batch.status = 'open';
END
$$;

-- A process that sent a batch is gone: what may have been on its way then is not sent again by itself.
-- Call it under the batch's lock. Returns how many messages nobody knows of.
CREATE OR REPLACE FUNCTION campaign.settle_batch(batch_id bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    settled campaign.delivery_batch;
    unknown bigint;
BEGIN
    SELECT * INTO STRICT settled FROM campaign.delivery_batch WHERE id = $1 FOR NO KEY UPDATE;
    UPDATE campaign.delivery_message
    SET
        status = 'failed', tries = tries + 1, is_unknown = TRUE, next_try_at = NULL,
        error = 'unknown whether it left: the sender was killed while it was on its way'
    WHERE delivery_id = settled.delivery_id AND recipient_id = ANY (settled.in_flight) AND status = 'pending';
    GET DIAGNOSTICS unknown = ROW_COUNT;
    UPDATE campaign.delivery_batch SET in_flight = '{}', refused_count = refused_count + unknown WHERE id = $1;
    INSERT INTO campaign.journal (level, source, campaign_id, delivery_id, message)
    SELECT
        'warning', 'deliveryMgt', delivery.campaign_id, delivery.id,
        format(
            'Of %s messages of %L it is unknown whether they left: their sender was killed. They are not sent again '
            'by themselves: campaign.resend_unknown(%s, your staff id) does it.', unknown, delivery.label, delivery.id
        )
    FROM campaign.delivery AS delivery
    WHERE delivery.id = settled.delivery_id AND unknown > 0;
    RETURN unknown;
END
$$;

-- The worker is through with a batch: it is done when nothing of it is pending, else due at the next try.
CREATE OR REPLACE FUNCTION campaign.close_batch(batch_id bigint) RETURNS void
LANGUAGE sql AS $$
    UPDATE campaign.delivery_batch AS batch
    SET
        status = CASE WHEN waiting.count = 0 THEN 'done' ELSE batch.status END,
        next_try_at = waiting.next_try_at
    FROM (
        SELECT
            count(*) AS count,
            min(message.next_try_at) AS next_try_at
        FROM campaign.delivery_batch AS own
        INNER JOIN campaign.delivery_message AS message
            ON
                own.delivery_id = message.delivery_id
                AND message.recipient_id BETWEEN own.first_recipient_id AND own.last_recipient_id
                AND message.status = 'pending'
        WHERE own.id = $1
    ) AS waiting
    WHERE batch.id = $1 AND batch.in_flight = '{}' AND batch.status <> 'done'
$$;

-- Let nothing more of a delivery leave. What is on its way at this moment is not called back.
CREATE OR REPLACE FUNCTION campaign.stop_batches(delivery_id bigint, new_status text) RETURNS void
LANGUAGE sql AS $$
    -- In the order of their ids, as everybody: so nobody waits in a circle.
    WITH locked AS (
        SELECT batch.id
        FROM campaign.delivery_batch AS batch
        WHERE batch.delivery_id = $1 AND batch.status IN ('open', 'stopped')
        ORDER BY batch.id
        FOR NO KEY UPDATE
    )

    UPDATE campaign.delivery_batch AS batch SET status = $2 FROM locked WHERE batch.id = locked.id
$$;

-- Stop a delivery of which too large a share fails, and tell its owner. Whoever sends calls it after refusals,
-- in a transaction of its own: it locks the delivery first and its batches then, as all others do.
CREATE OR REPLACE FUNCTION campaign.stop_failing_delivery(delivery_id bigint, as_of timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    failing campaign.delivery;
    sent bigint;
    refused bigint;
    reason text;
BEGIN
    SELECT sum(batch.sent_count) - sending.sent_before, sum(batch.refused_count) - sending.refused_before
    INTO sent, refused
    FROM campaign.delivery_sending AS sending
    INNER JOIN campaign.delivery_batch AS batch ON sending.delivery_id = batch.delivery_id
    WHERE sending.delivery_id = $1
    GROUP BY sending.delivery_id;
    IF coalesce(sent + refused < 20, TRUE) OR refused <= (sent + refused) * campaign.number_setting('failed_share', 0.2) THEN
        RETURN;
    END IF;
    UPDATE campaign.delivery SET held_at = $2
    WHERE id = $1 AND held_at IS NULL AND status = 'in_progress'
    RETURNING * INTO failing;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM campaign.stop_batches($1, 'stopped');
    SELECT message.error INTO reason
    FROM campaign.delivery_message AS message
    WHERE message.delivery_id = $1 AND message.status = 'failed'
    GROUP BY message.error
    ORDER BY count(*) DESC
    LIMIT 1;
    INSERT INTO campaign.journal (level, source, campaign_id, delivery_id, message)
    VALUES (
        'error', 'deliveryMgt', failing.campaign_id, failing.id,
        format(
            'Delivery %L is stopped: %s of the last %s messages failed, most often so: %s. Mend the cause, then call '
            'campaign.resume_delivery(%s, your staff id).', failing.label, refused, sent + refused, reason, failing.id
        )
    );
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
    SELECT
        'delivery_stopped',
        concat_ws(':', 'delivery_stopped', failing.id, extract(EPOCH FROM $2), owner.staff_id),
        'deliveryMgt',
        owner.staff_id,
        owner.email,
        jsonb_build_object(
            'delivery', failing.label, 'delivery_id', failing.id, 'campaign', campaign.label,
            'failed_count', refused, 'tried_count', sent + refused, 'reason', reason
        ),
        failing.id,
        failing.campaign_id
    FROM campaign.campaign AS campaign
    CROSS JOIN LATERAL campaign.people_in_charge(campaign.id) AS owner
    WHERE campaign.id = failing.campaign_id
    ON CONFLICT (dedupe_key) DO NOTHING;
END
$$;

-- Pause a delivery that is being sent: when this returns and is committed, nothing more of it leaves.
CREATE OR REPLACE FUNCTION campaign.pause_delivery(delivery bigint, staff bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    paused campaign.delivery;
    pauser campaign.staff;
BEGIN
    paused := campaign.lock_delivery($1);
    pauser := campaign.require_active_staff($2);
    IF paused.status <> 'in_progress' THEN
        PERFORM campaign.refuse_delivery(paused, 'only one that is being sent can be paused.');
    END IF;
    IF paused.held_at IS NOT NULL THEN
        RAISE EXCEPTION 'Delivery % stands still already, since %.', quote_literal(paused.label), paused.held_at
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM campaign.require_owner_or_admin(paused, pauser, 'pause');
    UPDATE campaign.delivery SET held_at = campaign.moment() WHERE id = paused.id;
    PERFORM campaign.stop_batches(paused.id, 'stopped');
    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'deliveryMgt', paused.campaign_id, paused.id,
        format('%s paused %L.', pauser.internal_name, paused.label)
    );
END
$$;

-- Resume a delivery that was paused, or stopped because too much of it failed.
CREATE OR REPLACE FUNCTION campaign.resume_delivery(delivery bigint, staff bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    resumed campaign.delivery;
BEGIN
    resumed := campaign.lock_delivery($1);
    IF resumed.status <> 'in_progress' OR resumed.held_at IS NULL THEN
        PERFORM campaign.refuse_delivery(resumed, 'only one that was paused or stopped can be resumed.');
    END IF;
    PERFORM campaign.release_delivery($1, $2);
END
$$;

-- Send again the messages of which nobody knows whether they left. Some may arrive twice, under the same
-- Message-ID: that is for a person to decide. Returns how many.
CREATE OR REPLACE FUNCTION campaign.resend_unknown(delivery bigint, staff bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    subject campaign.delivery;
    person campaign.staff;
    resent bigint;
BEGIN
    subject := campaign.lock_delivery($1);
    person := campaign.require_active_staff($2);
    IF subject.status NOT IN ('in_progress', 'finished') THEN
        PERFORM campaign.refuse_delivery(subject, 'only of one that was sent can messages be sent again.');
    END IF;
    PERFORM campaign.require_owner_or_admin(subject, person, 'send messages again of');
    PERFORM 1 FROM campaign.delivery_batch AS batch WHERE batch.delivery_id = subject.id ORDER BY batch.id FOR NO KEY UPDATE;
    WITH again AS (
        UPDATE campaign.delivery_message AS message
        SET status = 'pending', is_unknown = FALSE, error = NULL, next_try_at = NULL, tries = 0
        WHERE message.delivery_id = subject.id AND message.is_unknown
        RETURNING message.recipient_id
    ),

    opened AS (
        UPDATE campaign.delivery_batch AS batch
        SET status = CASE WHEN subject.held_at IS NULL THEN 'open' ELSE 'stopped' END, next_try_at = NULL
        WHERE
            batch.delivery_id = subject.id
            AND EXISTS (
                SELECT 1
                FROM again
                WHERE again.recipient_id BETWEEN batch.first_recipient_id AND batch.last_recipient_id
            )
    )

    SELECT count(*) INTO resent FROM again;
    IF resent = 0 THEN
        PERFORM campaign.refuse_delivery(subject, 'of each of its messages it is known whether it left.');
    END IF;
    UPDATE campaign.delivery SET status = 'in_progress', finished_at = NULL
    WHERE id = subject.id AND status = 'finished';
    INSERT INTO campaign.journal (level, source, campaign_id, delivery_id, message)
    VALUES (
        'warning', 'deliveryMgt', subject.campaign_id, subject.id,
        format(
            '%s had %s messages of %L sent again, of which it was unknown whether they left.',
            person.internal_name, resent, subject.label
        )
    );
    PERFORM pg_notify('campaign_event', 'deliveryMgt');
    RETURN resent;
END
$$;
