-- A delivery whose file cannot be made: the reason is on it and in the journal, and the people in charge of
-- its campaign are told.
-- Grain: one delivery. Rerun: a delivery that failed is not extracted any more.

WITH failed AS (
    UPDATE campaign.delivery AS delivery
    SET
        status = 'failed',
        failed_from = 'extraction_pending',
        failure = %(reason)s::text
    FROM campaign.campaign
    WHERE
        delivery.id = %(delivery_id)s::bigint
        AND delivery.campaign_id = campaign.id
        AND delivery.status IN ('extraction_pending', 'extracting')
    RETURNING delivery.id, delivery.label, delivery.campaign_id, campaign.label AS campaign_label
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'error' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        failed.campaign_id,
        failed.id,
        format('The file of %%L could not be made: %%s', failed.label, %(reason)s::text) AS message
    FROM failed
),

told AS (
    INSERT INTO campaign.notification (
        kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id
    )
    SELECT
        'extraction_failed' AS kind,
        format(
            'extraction_failed:%%s:%%s:%%s', failed.id,
            campaign.incident_number('extraction_failed', failed.id, person.staff_id), person.staff_id
        ) AS dedupe_key,
        %(dag_id)s::text,
        person.staff_id,
        person.email,
        jsonb_build_object(
            'campaign', failed.campaign_label, 'delivery', failed.label, 'reason', %(reason)s::text
        ) AS facts,
        failed.id,
        failed.campaign_id
    FROM failed
    CROSS JOIN LATERAL campaign.people_in_charge(failed.campaign_id) AS person
    ON CONFLICT (dedupe_key) DO NOTHING
)

SELECT count(*) AS deliveries_failed FROM failed;
