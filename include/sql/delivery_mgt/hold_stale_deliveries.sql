-- Hold what was due to leave too long ago, and tell its owner: nothing starts late by surprise.
--
-- Grain: deliveries about to leave whose date lies further back than the setting stale_after, and that
-- nobody released since. Rerun: a held delivery has its held_at.
WITH stale AS (
    UPDATE campaign.delivery AS delivery
    SET held_at = %(as_of)s::timestamptz
    FROM campaign.campaign AS campaign
    WHERE
        delivery.campaign_id = campaign.id
        AND delivery.held_at IS NULL
        AND delivery.released_at IS NULL
        AND (
            (
                delivery.status = 'extraction_pending'
                AND delivery.extraction_date < %(as_of)s::timestamptz - campaign.stale_after()
            )
            OR (
                delivery.status IN ('extraction_pending', 'start_pending')
                AND delivery.contact_date < %(as_of)s::timestamptz - campaign.stale_after()
            )
        )
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING
        delivery.id,
        delivery.label,
        delivery.campaign_id,
        delivery.extraction_date,
        delivery.contact_date,
        campaign.label AS campaign_label,
        campaign.owner_id,
        campaign.notifications_enabled
),

told AS (
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
    SELECT
        'delivery_held',
        concat_ws(':', 'delivery_held', stale.id, extract(EPOCH FROM %(as_of)s::timestamptz)),
        %(dag_id)s::text,
        owner.id,
        owner.email,
        jsonb_build_object(
            'delivery', stale.label, 'delivery_id', stale.id, 'campaign', stale.campaign_label,
            'extraction_date', stale.extraction_date, 'contact_date', stale.contact_date
        ),
        stale.id,  -- noqa: AL08
        stale.campaign_id
    FROM stale
    INNER JOIN campaign.staff AS owner ON stale.owner_id = owner.id AND owner.active
    WHERE stale.notifications_enabled
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING 1
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'warning',
        %(dag_id)s::text,
        %(run_id)s::text,
        stale.campaign_id,
        stale.id,
        format(
            'Delivery %%L is held: it was due to leave at %%s. Release it (campaign.release_delivery) or cancel it.',
            stale.label, least(stale.extraction_date, stale.contact_date)
        )
    FROM stale
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM noted) AS deliveries_held,
    (SELECT count(*) FROM told) AS owners_told_held;
