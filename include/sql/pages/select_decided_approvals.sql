-- Approvals that are over and concern the reader: asked, decided by or of a campaign of the reader; for an
-- administrator all of them.
-- Grain: one row per approval, latest first, a page of them; each row says whether more follow. Changes nothing.
SELECT
    approval.id,
    approval.kind,
    approval.round,
    approval.status,
    approval.decided_at,
    approval.comment,
    approval.submitted_at,
    decider.label AS decided_by,
    delivery.label AS delivery,
    delivery.channel,
    campaign.label AS campaign
FROM campaign.approval
INNER JOIN campaign.delivery ON approval.delivery_id = delivery.id
INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
LEFT JOIN campaign.staff AS decider ON approval.decided_by_id = decider.id
WHERE
    approval.status <> 'pending'
    AND (
        %(is_admin)s::boolean
        OR campaign.owner_id = %(staff_id)s::bigint
        OR approval.decided_by_id = %(staff_id)s::bigint
        OR EXISTS (
            SELECT 1
            FROM campaign.approval_reviewer AS reviewer
            WHERE reviewer.approval_id = approval.id AND reviewer.staff_id = %(staff_id)s::bigint
        )
    )
    AND (%(kind)s::text IS NULL OR approval.kind = %(kind)s::text)
    AND (
        %(search)s::text IS NULL
        OR strpos(lower(delivery.label || ' ' || campaign.label), lower(%(search)s::text)) > 0
    )
ORDER BY coalesce(approval.decided_at, approval.submitted_at) DESC, approval.id DESC
LIMIT %(limit)s::integer OFFSET %(offset)s::integer;
