-- Void the approvals of what is no longer what was shown, and tell the owner.
--
-- Grain: approvals, pending or granted, of deliveries that have not left yet. A new round is asked for by
-- submit_approvals. Rerun: a void approval is neither pending nor granted, so it is passed over.
WITH changed AS (
    UPDATE campaign.approval AS approval
    SET status = 'void'
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        approval.delivery_id = delivery.id
        AND approval.status IN ('pending', 'approved')
        AND approval.submitted_at <= %(as_of)s::timestamptz
        AND delivery.status IN (
            'targeting_pending', 'target_ready', 'extraction_pending', 'extracting', 'file_to_approve',
            'proof_to_submit', 'proof_to_validate', 'routing', 'pending_confirmation', 'start_pending'
        )
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND approval.seal <> campaign.approval_seal(delivery.id, approval.kind)
    RETURNING
        approval.id,
        approval.kind,
        approval.round,
        delivery.id AS delivery_id,
        delivery.campaign_id,
        delivery.label
),

told AS (
    SELECT campaign.notify_owner_of_approval(array_agg(changed.id), 'approval_void') AS count
    FROM changed
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'warning',
        %(dag_id)s::text,
        %(run_id)s::text,
        changed.campaign_id,
        changed.delivery_id,
        format(
            'The approval of the %%s of %%L (round %%s) is void: what was shown has changed.',
            changed.kind, changed.label, changed.round
        )
    FROM changed
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM noted) AS approvals_voided,
    coalesce((SELECT told.count FROM told), 0) AS owners_told;
