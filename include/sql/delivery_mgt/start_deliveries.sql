-- Start the online deliveries whose contact date is reached: their content is kept as it was approved, and
-- their target becomes messages, in batches of a thousand.
--
-- Grain: deliveries in start_pending that are due, checked, and cleared at this moment (approved as they
-- stand, not held, not stale); a delivery_message for each main recipient and seed. Rerun: a delivery starts
-- once, out of start_pending.

-- Nobody edits what is being started: the statements after this one see it as it is, and stays.
WITH due AS (
    SELECT delivery.id
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        delivery.status = 'start_pending'
        AND (delivery.contact_date <= %(as_of)s::timestamptz OR delivery.contact_date IS NULL)
        AND delivery.channel <> 'direct_mail'
        AND NOT delivery.is_template
        AND delivery.content_checked
        AND delivery.held_at IS NULL
        AND campaign.status IN ('being_edited', 'started')
        AND coalesce(delivery.analysed_at, '-infinity') <= %(as_of)s::timestamptz
        AND coalesce(delivery.confirmed_at, '-infinity') <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    ORDER BY delivery.id
    FOR NO KEY UPDATE OF delivery
),

noted AS (
    SELECT set_config('campaign.due_deliveries', coalesce(string_agg(due.id::text, ','), ''), TRUE) AS ids
    FROM due
)

SELECT cardinality(string_to_array(noted.ids, ',')) AS deliveries_due
FROM noted;

WITH cleared AS (
    SELECT
        delivery.id,
        CASE
            WHEN delivery.channel = 'email' THEN coalesce(provider.message_conn_id, 'smtp_default')
            ELSE provider.message_conn_id
        END AS conn_id,
        CASE
            WHEN delivery.channel = 'email' AND coalesce(trim(delivery.subject), '') = ''
                THEN 'it has no subject: give it one'
            WHEN delivery.channel = 'email' AND coalesce(trim(concat(delivery.body_text, delivery.body_html)), '') = ''
                THEN 'it has neither body_text nor body_html: give it one of them'
            WHEN delivery.channel <> 'email' AND coalesce(trim(delivery.body_text), '') = ''
                THEN 'it has no body_text: give it one'
            WHEN delivery.channel <> 'email' AND provider.message_conn_id IS NULL
                THEN format(
                    'give its provider (%%s) the message_conn_id of an HTTP connection',
                    coalesce(provider.label, 'it has none: name a service')
                )
        END AS hindrance
    FROM campaign.delivery AS delivery
    LEFT JOIN campaign.service AS service ON delivery.service_id = service.id
    LEFT JOIN campaign.provider AS provider ON service.provider_id = provider.id
    WHERE
        delivery.id = ANY(string_to_array(current_setting('campaign.due_deliveries'), ',')::bigint[])
        AND campaign.delivery_is_cleared(delivery.id, %(as_of)s::timestamptz)
),

started AS (
    UPDATE campaign.delivery AS delivery
    SET status = 'in_progress', started_at = %(as_of)s::timestamptz
    FROM cleared
    WHERE delivery.id = cleared.id AND delivery.status = 'start_pending' AND cleared.hindrance IS NULL
    RETURNING
        delivery.id,
        delivery.campaign_id,
        delivery.internal_name,
        delivery.label,
        delivery.channel,
        delivery.subject,
        delivery.body_text,
        delivery.body_html,
        delivery.sender,
        cleared.conn_id
),

kept AS (
    INSERT INTO campaign.delivery_sending
    (
        delivery_id, delivery_name, delivery_label, campaign_label, channel, subject, body_text, body_html, sender,
        conn_id, started_at
    )
    SELECT
        started.id,
        started.internal_name,
        started.label,
        campaign.label,  -- noqa: AL08
        started.channel,
        started.subject,
        started.body_text,
        started.body_html,
        started.sender,
        started.conn_id,
        %(as_of)s::timestamptz
    FROM started
    INNER JOIN campaign.campaign AS campaign ON started.campaign_id = campaign.id
    RETURNING 1
),

unable AS (
    UPDATE campaign.delivery AS delivery
    SET
        status = 'failed',
        failed_from = 'start_pending',
        failure = format(
            'It cannot be sent: %%s. Then call campaign.retry_delivery(%%s).', cleared.hindrance, delivery.id
        )
    FROM cleared
    WHERE delivery.id = cleared.id AND delivery.status = 'start_pending' AND cleared.hindrance IS NOT NULL
    RETURNING delivery.id, delivery.campaign_id, delivery.label, delivery.failure
),

told AS (
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
    SELECT
        'delivery_failed',
        concat_ws(':', 'delivery_failed', unable.id, md5(unable.failure), owner.staff_id),
        %(dag_id)s::text,
        owner.staff_id,
        owner.email,
        jsonb_build_object(
            'delivery', unable.label, 'delivery_id', unable.id, 'campaign', campaign.label,
            'failure', unable.failure
        ),
        unable.id,  -- noqa: AL08
        unable.campaign_id
    FROM unable
    INNER JOIN campaign.campaign AS campaign
        ON unable.campaign_id = campaign.id AND campaign.notifications_enabled
    CROSS JOIN LATERAL campaign.people_in_charge(campaign.id) AS owner
    ON CONFLICT (dedupe_key) DO NOTHING
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        said.level,
        %(dag_id)s::text,
        %(run_id)s::text,
        said.campaign_id,
        said.id,
        said.message
    FROM (
        SELECT
            'info' AS level,
            started.campaign_id,
            started.id,
            format('Delivery %%L is started.', started.label) AS message
        FROM started
        UNION ALL
        SELECT
            'error',
            unable.campaign_id,
            unable.id,
            format('Delivery %%L failed: %%s', unable.label, unable.failure)
        FROM unable
    ) AS said
)

SELECT
    (SELECT count(*) FROM kept) AS deliveries_started,
    (SELECT count(*) FROM unable) AS deliveries_unable;

WITH started AS (
    SELECT
        sending.delivery_id,
        sending.channel
    FROM campaign.delivery_sending AS sending
    WHERE
        sending.delivery_id = ANY(string_to_array(current_setting('campaign.due_deliveries'), ',')::bigint[])
        AND sending.started_at = %(as_of)s::timestamptz
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.delivery_batch AS batch
            WHERE batch.delivery_id = sending.delivery_id
        )
),

written AS (
    INSERT INTO campaign.delivery_message (delivery_id, recipient_id)
    SELECT
        target.delivery_id,
        target.recipient_id
    FROM started
    INNER JOIN campaign.delivery_target AS target ON started.delivery_id = target.delivery_id
    WHERE target.role IN ('main', 'seed')
    ORDER BY target.delivery_id, target.recipient_id
    RETURNING delivery_id, recipient_id
),

numbered AS (
    SELECT
        written.delivery_id,
        written.recipient_id,
        row_number() OVER (PARTITION BY written.delivery_id ORDER BY written.recipient_id) AS number
    FROM written
),

batched AS (
    INSERT INTO campaign.delivery_batch (delivery_id, first_recipient_id, last_recipient_id, message_count)
    SELECT
        numbered.delivery_id,
        min(numbered.recipient_id),
        max(numbered.recipient_id),
        count(*)
    FROM numbered
    GROUP BY numbered.delivery_id, (numbered.number - 1) / 1000
    ORDER BY numbered.delivery_id, min(numbered.recipient_id)
    RETURNING message_count
)

SELECT
    count(*) AS batches_written,
    coalesce(sum(batched.message_count), 0)::bigint AS messages_written
FROM batched;
