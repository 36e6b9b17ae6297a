-- What people and the systems around us do with a delivery. Each function enforces the rules and refuses
-- with a plain message; all take ids.

CREATE OR REPLACE FUNCTION campaign.lock_delivery(delivery_id bigint) RETURNS campaign.delivery
LANGUAGE plpgsql AS $$
DECLARE
    locked campaign.delivery;
BEGIN
    -- Not FOR UPDATE: rows that merely name the delivery (a notice, a journal line) need not wait for it.
    SELECT * INTO locked FROM campaign.delivery AS delivery WHERE delivery.id = $1 FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no delivery %.', $1 USING ERRCODE = 'no_data_found';
    END IF;
    RETURN locked;
END
$$;

CREATE OR REPLACE FUNCTION campaign.refuse_delivery(refused campaign.delivery, wanted text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'Delivery % is %: %', quote_literal(refused.label), replace(refused.status, '_', ' '), wanted
        USING ERRCODE = 'object_not_in_prerequisite_state';
END
$$;

CREATE OR REPLACE FUNCTION campaign.require_active_staff(staff_id bigint) RETURNS campaign.staff
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_staff campaign.staff;
BEGIN
    SELECT * INTO found_staff FROM campaign.staff AS staff WHERE staff.id = $1 AND staff.active;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no active member of staff %.', $1 USING ERRCODE = 'no_data_found';
    END IF;
    RETURN found_staff;
END
$$;

CREATE OR REPLACE FUNCTION campaign.submit_delivery(delivery bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    submitted campaign.delivery;
    parent campaign.campaign;
BEGIN
    submitted := campaign.lock_delivery($1);
    IF submitted.is_template THEN
        RAISE EXCEPTION 'Delivery % is a template: it is only copied.', quote_literal(submitted.label)
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF submitted.status <> 'being_edited' THEN
        PERFORM campaign.refuse_delivery(submitted, 'only one that is being edited can be submitted.');
    END IF;
    SELECT * INTO parent FROM campaign.campaign WHERE id = submitted.campaign_id;
    IF parent.is_template OR parent.status IN ('finished', 'canceled') THEN
        RAISE EXCEPTION 'Delivery % cannot be submitted: its campaign % is %.',
            quote_literal(submitted.label), quote_literal(parent.label),
            CASE WHEN parent.is_template THEN 'a template' ELSE parent.status END
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE campaign.delivery
    SET status = 'targeting_pending', submitted_at = campaign.moment()
    WHERE id = submitted.id;
    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'deliveryMgt', submitted.campaign_id, submitted.id, format('Delivery %L was submitted.', submitted.label)
    );
END
$$;

CREATE OR REPLACE FUNCTION campaign.start_confirmed(delivery_id bigint, staff_id bigint) RETURNS void
LANGUAGE sql AS $$
    UPDATE campaign.delivery
    SET status = 'start_pending', confirmed_at = campaign.moment(), confirmed_by_id = $2
    WHERE id = $1 AND status = 'pending_confirmation'
$$;

CREATE OR REPLACE FUNCTION campaign.confirm_delivery(delivery bigint, staff bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    confirmed campaign.delivery;
    confirmer campaign.staff;
    waiting bigint;
BEGIN
    confirmed := campaign.lock_delivery($1);
    confirmer := campaign.require_active_staff($2);
    IF confirmed.status <> 'pending_confirmation' THEN
        PERFORM campaign.refuse_delivery(confirmed, 'only one that waits for its confirmation can be confirmed.');
    END IF;
    SELECT approval.id INTO waiting
    FROM campaign.approval AS approval
    WHERE approval.delivery_id = confirmed.id AND approval.kind = 'start' AND approval.status = 'pending';
    IF waiting IS NOT NULL THEN
        PERFORM campaign.decide_approval(waiting, confirmer.id, true);
        RETURN;
    END IF;
    IF EXISTS (
        SELECT 1
        FROM campaign.approval_setting AS setting
        WHERE setting.delivery_id = confirmed.id AND setting.kind = 'start' AND setting.is_demanded
    ) THEN
        RAISE EXCEPTION 'The start of delivery % must be submitted for approval first.',
            quote_literal(confirmed.label) USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM campaign.require_owner_or_admin(confirmed, confirmer, 'confirm');
    PERFORM campaign.start_confirmed(confirmed.id, confirmer.id);
    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'deliveryMgt', confirmed.campaign_id, confirmed.id,
        format('%s confirmed the start of %L.', confirmer.internal_name, confirmed.label)
    );
END
$$;

CREATE OR REPLACE FUNCTION campaign.require_owner_or_admin(
    subject campaign.delivery, person campaign.staff, deed text
) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT person.is_admin AND NOT EXISTS (
        SELECT 1
        FROM campaign.campaign AS campaign
        WHERE campaign.id = subject.campaign_id AND campaign.owner_id = person.id
    ) THEN
        RAISE EXCEPTION '% may not % delivery %: its campaign''s owner or an administrator may.',
            person.label, deed, quote_literal(subject.label) USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION campaign.cancel_delivery(delivery bigint, reason text) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    canceled campaign.delivery;
BEGIN
    canceled := campaign.lock_delivery($1);
    -- An online delivery leaves message by message: what has not left can be canceled.
    IF
        coalesce(canceled.failed_from, canceled.status) IN ('finished', 'canceled')
        OR (coalesce(canceled.failed_from, canceled.status) = 'in_progress' AND canceled.channel = 'direct_mail')
    THEN
        PERFORM campaign.refuse_delivery(canceled, 'only one that has not left can be canceled.');
    END IF;
    UPDATE campaign.delivery
    SET
        status = 'canceled', canceled_at = campaign.moment(), failed_from = NULL, failure = NULL,
        held_at = NULL
    WHERE id = canceled.id;
    -- One that is being sent: nothing more leaves. What is on its way is recorded by its sender.
    PERFORM campaign.stop_batches(canceled.id, 'canceled');
    UPDATE campaign.delivery_message AS message
    SET status = 'failed', error = 'not sent: the delivery was canceled', next_try_at = NULL
    WHERE
        message.delivery_id = canceled.id
        AND message.status = 'pending'
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.delivery_batch AS batch
            WHERE batch.delivery_id = canceled.id AND message.recipient_id = ANY (batch.in_flight)
        );
    UPDATE campaign.delivery_batch SET status = 'done'
    WHERE delivery_id = canceled.id AND status = 'canceled' AND in_flight = '{}';
    UPDATE campaign.approval SET status = 'canceled' WHERE delivery_id = canceled.id AND status = 'pending';
    UPDATE campaign.notification
    SET failed_at = campaign.moment(), error = 'not sent: the delivery was canceled'
    WHERE
        delivery_id = canceled.id AND sent_at IS NULL AND failed_at IS NULL
        AND kind IN ('approval_request', 'approval_reminder', 'approval_late', 'approval_void', 'delivery_held');
    INSERT INTO campaign.journal (level, source, campaign_id, delivery_id, message)
    VALUES (
        'warning', 'deliveryMgt', canceled.campaign_id, canceled.id,
        format(
            'Delivery %L was canceled when it was %s: %s', canceled.label,
            replace(canceled.status, '_', ' '), coalesce(nullif($2, ''), 'no reason given')
        )
    );
END
$$;

CREATE OR REPLACE FUNCTION campaign.release_delivery(delivery bigint, staff bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    released campaign.delivery;
    releaser campaign.staff;
BEGIN
    released := campaign.lock_delivery($1);
    releaser := campaign.require_active_staff($2);
    IF released.held_at IS NULL THEN
        PERFORM campaign.refuse_delivery(released, 'it is not held, so there is nothing to release.');
    END IF;
    PERFORM campaign.require_owner_or_admin(released, releaser, 'release');
    UPDATE campaign.delivery SET held_at = NULL, released_at = campaign.moment() WHERE id = released.id;
    -- What had failed until now does not stop it again.
    UPDATE campaign.delivery_sending AS sending
    SET sent_before = counted.sent, refused_before = counted.refused
    FROM (
        SELECT
            sum(batch.sent_count) AS sent,
            sum(batch.refused_count) AS refused
        FROM campaign.delivery_batch AS batch
        WHERE batch.delivery_id = released.id
    ) AS counted
    WHERE sending.delivery_id = released.id AND counted.sent IS NOT NULL;
    UPDATE campaign.delivery_batch SET status = 'open' WHERE delivery_id = released.id AND status = 'stopped';
    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'deliveryMgt', released.campaign_id, released.id,
        format('%s released %L, held since %s.', releaser.internal_name, released.label, released.held_at)
    );
END
$$;

CREATE OR REPLACE FUNCTION campaign.retry_delivery(delivery bigint) RETURNS void
LANGUAGE sql AS $$
    SELECT campaign.retry_delivery($1, NULL)
$$;

-- The same, with the person who asks for it: the campaign's owner or an administrator. None is a system.
CREATE OR REPLACE FUNCTION campaign.retry_delivery(delivery bigint, staff bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    retried campaign.delivery;
    person campaign.staff;
BEGIN
    retried := campaign.lock_delivery($1);
    IF $2 IS NOT NULL THEN
        person := campaign.require_active_staff($2);
        PERFORM campaign.require_owner_or_admin(retried, person, 'retry');
    END IF;
    IF retried.status <> 'failed' THEN
        PERFORM campaign.refuse_delivery(retried, 'only one that failed can be sent back to the step that failed.');
    END IF;
    UPDATE campaign.delivery
    SET status = retried.failed_from, failed_from = NULL, failure = NULL
    WHERE id = retried.id;
    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'deliveryMgt', retried.campaign_id, retried.id,
        format(
            'Delivery %L was sent back to %s%s.',
            retried.label, replace(retried.failed_from, '_', ' '), ' by ' || person.internal_name
        )
    );
END
$$;
