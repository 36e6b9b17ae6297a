-- One approval with all that its mail says as it stands now, who is asked, and what the reader may do.
-- Grain: one row, or none. Changes nothing.
SELECT
    approval.id,
    approval.delivery_id,
    approval.kind,
    approval.round,
    approval.status,
    approval.submitted_at,
    approval.deadline_at,
    approval.decided_at,
    approval.comment,
    approval.warnings,
    decider.label AS decided_by,
    owner.label AS owner,
    allowed.may_decide,
    coalesce(approval.decided_by_id = %(staff_id)s::bigint, FALSE) AS is_decided_by_reader,
    approval.seal = campaign.approval_seal(approval.delivery_id, approval.kind) AS is_as_shown,
    campaign.approval_facts(approval.id) AS facts,
    CASE
        WHEN approval.kind = 'extraction' AND approval.status = 'pending'
            THEN campaign.stock_warnings(approval.delivery_id)
        ELSE approval.warnings
    END AS warnings_now,
    (
        SELECT array_agg(staff.label ORDER BY staff.label)
        FROM campaign.approval_reviewer AS reviewer
        INNER JOIN campaign.staff ON reviewer.staff_id = staff.id
        WHERE reviewer.approval_id = approval.id
    ) AS reviewers,
    allowed.may_decide
    OR coalesce(approval.decided_by_id = %(staff_id)s::bigint, FALSE)
    OR coalesce(campaign.owner_id = %(staff_id)s::bigint, FALSE) AS may_see,
    (
        SELECT next_approval.id
        FROM campaign.approval AS next_approval
        INNER JOIN campaign.approval_reviewer AS reviewer ON next_approval.id = reviewer.approval_id
        WHERE
            next_approval.status = 'pending'
            AND next_approval.id <> approval.id
            AND reviewer.staff_id = %(staff_id)s::bigint
        ORDER BY next_approval.deadline_at, next_approval.id
        LIMIT 1
    ) AS next_id,
    campaign.moment() AS moment
FROM campaign.approval
INNER JOIN campaign.delivery ON approval.delivery_id = delivery.id
INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
LEFT JOIN campaign.staff AS decider ON approval.decided_by_id = decider.id
LEFT JOIN campaign.staff AS owner ON campaign.owner_id = owner.id
CROSS JOIN LATERAL campaign.may_decide(approval.id, %(staff_id)s::bigint) AS allowed (may_decide)
WHERE approval.id = %(approval_id)s::bigint;
