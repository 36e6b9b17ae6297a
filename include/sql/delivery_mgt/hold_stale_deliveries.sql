-- Hold what was due to leave too long ago, and tell its owner: nothing starts late by surprise.
--
-- Grain: deliveries about to leave whose date lies further back than the setting stale_after, and that
-- nobody released since (campaign.delivery_is_stale, which the gate before anything leaves asks too).
-- Rerun: a held delivery has its held_at.
WITH stale AS (
    UPDATE campaign.delivery AS delivery
    SET held_at = %(as_of)s::timestamptz
    FROM campaign.campaign AS campaign
    WHERE
        delivery.campaign_id = campaign.id
        AND delivery.held_at IS NULL
        AND delivery.status IN (
            'extraction_pending', 'extracting', 'file_to_approve', 'proof_to_submit', 'proof_to_validate',
            'routing', 'start_pending'
        )
        AND NOT delivery.is_template
        AND campaign.status IN ('being_edited', 'started')
        -- The dates alone find the few that it can be, by an index.
        AND (
            delivery.contact_date < %(as_of)s::timestamptz - campaign.stale_after()
            OR (
                delivery.extraction_date < %(as_of)s::timestamptz - campaign.stale_after()
                AND delivery.status IN ('extraction_pending', 'extracting')
            )
        )
        AND campaign.delivery_is_stale(delivery.id, %(as_of)s::timestamptz)
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING
        delivery.id,
        delivery.label,
        delivery.campaign_id,
        delivery.extraction_date,
        delivery.contact_date,
        campaign.label AS campaign_label,
        campaign.notifications_enabled
),

told AS (
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
    SELECT
        'delivery_held',
        concat_ws(':', 'delivery_held', stale.id, extract(EPOCH FROM %(as_of)s::timestamptz), owner.staff_id),
        %(dag_id)s::text,
        owner.staff_id,
        owner.email,
        jsonb_build_object(
            'delivery', stale.label, 'delivery_id', stale.id, 'campaign', stale.campaign_label,
            'extraction_date', stale.extraction_date, 'contact_date', stale.contact_date
        ),
        stale.id,  -- noqa: AL08
        stale.campaign_id
    FROM stale
    CROSS JOIN LATERAL campaign.people_in_charge(stale.campaign_id) AS owner
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
