-- Every approval of a delivery, of all kinds and rounds, latest first.
-- Grain: one row per approval. Changes nothing.
SELECT
    approval.id,
    approval.kind,
    approval.round,
    approval.status,
    approval.submitted_at,
    approval.decided_at,
    approval.comment,
    decider.label AS decided_by
FROM campaign.approval
LEFT JOIN campaign.staff AS decider ON approval.decided_by_id = decider.id
WHERE approval.delivery_id = %(delivery_id)s::bigint
ORDER BY approval.submitted_at DESC, approval.id DESC;
