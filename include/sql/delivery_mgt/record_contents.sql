-- Record what the check of contents found: a content that is right is not checked again until it is edited; a
-- delivery whose content cannot be sent fails, with the reasons.
--
-- Grain: the deliveries that were checked. Rerun: a checked content is passed over, a failed delivery too.
WITH found_right AS (
    UPDATE campaign.delivery AS delivery
    SET content_checked = TRUE
    WHERE delivery.id = ANY(%(delivery_ids)s::bigint[])
    RETURNING delivery.id
),

found_wrong AS (
    UPDATE campaign.delivery AS delivery
    SET
        status = 'failed',
        failed_from = delivery.status,
        failure = format(
            'The content cannot be sent: %%s. Correct it, then call campaign.retry_delivery(%%s).',
            refused.failure, delivery.id
        )
    FROM unnest(%(refused_ids)s::bigint[], %(failures)s::text[]) AS refused (id, failure)
    WHERE delivery.id = refused.id
    RETURNING delivery.id, delivery.campaign_id, delivery.label, delivery.failure
),

told AS (
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
    SELECT
        'delivery_failed',
        concat_ws(':', 'delivery_failed', found_wrong.id, md5(found_wrong.failure), owner.staff_id),
        %(dag_id)s::text,
        owner.staff_id,
        owner.email,
        jsonb_build_object(
            'delivery', found_wrong.label, 'delivery_id', found_wrong.id, 'campaign', campaign.label,
            'failure', found_wrong.failure
        ),
        found_wrong.id,  -- noqa: AL08
        found_wrong.campaign_id
    FROM found_wrong
    INNER JOIN campaign.campaign AS campaign
        ON found_wrong.campaign_id = campaign.id AND campaign.notifications_enabled
    CROSS JOIN LATERAL campaign.people_in_charge(campaign.id) AS owner
    ON CONFLICT (dedupe_key) DO NOTHING
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'error',
        %(dag_id)s::text,
        %(run_id)s::text,
        found_wrong.campaign_id,
        found_wrong.id,
        format('Delivery %%L failed: %%s', found_wrong.label, found_wrong.failure)
    FROM found_wrong
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM found_right) AS contents_checked,
    (SELECT count(*) FROM noted) AS contents_refused;
