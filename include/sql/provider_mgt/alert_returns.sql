-- Alert, once, to answers that do not come in time and to quantities that differ; note when that is over.
--
-- Grain: one open provider_alert per delivery and kind, with a notification per person. Rerun: an open alert
-- is not raised again, and one that is over stays over until it is raised anew.
CREATE TEMPORARY TABLE standing ON COMMIT DROP AS
SELECT
    quantity.delivery_id,
    quantity.campaign_id,
    wrong.kind,
    wrong.is_wrong AND delivery.status <> 'canceled' AS is_wrong,
    CASE wrong.kind
        WHEN 'late'
            THEN
                format(
                    '%%s has not answered about %%L, which it has since %%s: its answer was due at %%s.',
                    quantity.provider, delivery.label, to_char(quantity.handed_at, 'YYYY-MM-DD HH24:MI'),
                    to_char(quantity.due_at, 'YYYY-MM-DD HH24:MI')
                )
        ELSE
            concat_ws(
                ', ',
                format(
                    'The quantities of %%L at %%s differ by %%s %%%%, more than the %%s %%%% allowed: extracted %%s',
                    delivery.label, quantity.provider, trim_scale(quantity.difference),
                    trim_scale(quantity.tolerance), quantity.extracted
                ),
                'accepted ' || quantity.accepted,
                'printed ' || quantity.printed,
                'posted ' || quantity.posted,
                'invoiced ' || quantity.invoiced
            ) || '.'
    END AS message,
    quantity.provider,
    quantity.service,
    delivery.label AS delivery
FROM campaign.delivery_quantity AS quantity
INNER JOIN campaign.delivery AS delivery ON quantity.delivery_id = delivery.id
CROSS JOIN
    LATERAL (
        VALUES
        (
            'late',
            quantity.state = 'late' OR (quantity.answered_at IS NULL AND quantity.due_at <= %(as_of)s::timestamptz)
        ),
        ('difference', quantity.state = 'different')
    ) AS wrong (kind, is_wrong)
WHERE
    (
        %(full)s::boolean
        OR quantity.handed_at > %(as_of)s::timestamptz - (
            SELECT (setting.value #>> '{}')::interval FROM campaign.setting AS setting
            WHERE setting.name = 'returns_watched_for'
        )
        OR EXISTS (
            SELECT 1 FROM campaign.provider_alert AS open
            WHERE open.delivery_id = quantity.delivery_id AND open.recovered_at IS NULL
        )
    )
    AND (%(campaign)s::text IS NULL OR quantity.campaign = %(campaign)s::text);

WITH recovered AS (
    UPDATE campaign.provider_alert AS alert
    SET recovered_at = greatest(%(as_of)s::timestamptz, alert.raised_at)
    FROM standing
    WHERE
        alert.delivery_id = standing.delivery_id AND alert.kind = standing.kind AND alert.recovered_at IS NULL
        AND NOT standing.is_wrong
    RETURNING
        standing.delivery_id,
        standing.campaign_id,
        standing.kind,
        standing.provider,
        standing.delivery
),

noted AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        recovered.campaign_id,
        recovered.delivery_id,
        format(
            CASE recovered.kind
                WHEN 'late' THEN 'The answer of %%s about %%L is not overdue any more.'
                ELSE 'The quantities at %%s of %%L agree again.'
            END, recovered.provider, recovered.delivery
        ) AS message
    FROM recovered
    RETURNING 1
)

SELECT count(*) AS alerts_over FROM noted;

WITH raised AS (
    INSERT INTO campaign.provider_alert AS alert (delivery_id, kind, message, raised_at, run_id)
    SELECT
        standing.delivery_id,
        standing.kind,
        standing.message,
        %(as_of)s::timestamptz,
        %(run_id)s::text
    FROM standing
    WHERE standing.is_wrong
    -- In the order in which budgetMgt locks deliveries: neither waits for the other in a circle.
    ORDER BY standing.delivery_id
    ON CONFLICT (delivery_id, kind) WHERE recovered_at IS NULL DO NOTHING
    RETURNING alert.id, alert.delivery_id, alert.kind
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        standing.campaign_id,
        standing.delivery_id,
        standing.message
    FROM raised
    INNER JOIN standing ON raised.delivery_id = standing.delivery_id AND raised.kind = standing.kind
    RETURNING 1
),

told AS (
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
    SELECT
        'provider_return' AS kind,
        concat_ws(':', 'provider_alert', raised.id, contact.staff_id) AS dedupe_key,
        %(dag_id)s::text AS source,
        contact.staff_id,
        contact.email,
        jsonb_build_object(
            'problem', standing.kind, 'error', standing.message, 'delivery', standing.delivery,
            'provider', standing.provider, 'service', standing.service
        ) AS facts,
        standing.delivery_id,
        standing.campaign_id
    FROM raised
    INNER JOIN standing ON raised.delivery_id = standing.delivery_id AND raised.kind = standing.kind
    CROSS JOIN LATERAL campaign.campaign_contacts(standing.campaign_id) AS contact
    ORDER BY standing.delivery_id
    ON CONFLICT (dedupe_key) DO NOTHING
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM noted) AS alerts_raised,
    (SELECT count(*) FROM told) AS alerts_to_send;

DROP TABLE standing;
