-- Move each delivery whose approvals are granted to its next status.
--
-- Grain: of the deliveries that this run looks at (void_changed_approvals.sql), those in a status that ends with
-- approvals. Rerun: each moves once, out of the status that it is found in, as far as it can: what its new status asks
-- for, submit_approvals asks in the same run, and nothing is left to the next.
WITH cleared AS (
    SELECT
        delivery.id,
        delivery.status AS old_status,
        CASE
            WHEN delivery.status = 'target_ready' AND delivery.channel = 'direct_mail' THEN 'extraction_pending'
            WHEN delivery.status = 'target_ready' THEN 'pending_confirmation'
            WHEN delivery.status = 'file_to_approve' AND coalesce(proof.is_missing, FALSE) THEN 'proof_to_submit'
            ELSE 'routing'
        END AS new_status
    FROM campaign.approval_candidate AS candidate
    INNER JOIN campaign.delivery AS delivery ON candidate.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    LEFT JOIN LATERAL (
        SELECT
            found.is_demanded AND NOT EXISTS (
                SELECT 1
                FROM campaign.approval AS granted
                WHERE
                    granted.delivery_id = delivery.id
                    AND granted.kind = 'proof'
                    AND granted.status = 'approved'
                    AND granted.decided_at <= %(as_of)s::timestamptz
                    AND granted.seal = campaign.approval_seal(delivery.id, 'proof')
            ) AS is_missing
        FROM campaign.approval_setting AS found
        WHERE found.delivery_id = delivery.id AND found.kind = 'proof' AND delivery.status = 'file_to_approve'
        OFFSET 0  -- noqa: AM09
    ) AS proof ON TRUE
    WHERE
        delivery.status IN ('target_ready', 'file_to_approve', 'proof_to_submit', 'proof_to_validate')
        AND NOT delivery.is_template
        AND campaign.status IN ('being_edited', 'started')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND coalesce(delivery.analysed_at, '-infinity') <= %(as_of)s::timestamptz
        AND (
            delivery.status = 'target_ready'
            OR coalesce(delivery.extracted_at, '-infinity') <= %(as_of)s::timestamptz
        )
        AND campaign.delivery_is_cleared(delivery.id, %(as_of)s::timestamptz)
),

moved AS (
    UPDATE campaign.delivery AS delivery
    SET status = cleared.new_status
    FROM cleared
    WHERE delivery.id = cleared.id AND delivery.status = cleared.old_status
    RETURNING
        delivery.id,
        delivery.campaign_id,
        delivery.label,
        cleared.old_status,
        cleared.new_status
),

noted AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        moved.campaign_id,
        moved.id,
        format(
            'Delivery %%L went from %%s to %%s: all that had to be approved is.',
            moved.label, replace(moved.old_status, '_', ' '), replace(moved.new_status, '_', ' ')
        )
    FROM moved
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM noted) AS deliveries_advanced,
    count(*) FILTER (WHERE moved.new_status = 'extraction_pending') AS to_extraction_pending,
    count(*) FILTER (WHERE moved.new_status = 'pending_confirmation') AS to_pending_confirmation,
    count(*) FILTER (WHERE moved.new_status = 'proof_to_submit') AS to_proof_to_submit,
    count(*) FILTER (WHERE moved.new_status = 'routing') AS to_routing
FROM moved;
