-- The approvals that wait, of one scope: those that ask the reader, or those that ask others and that the
-- reader may decide (an administrator) or only watches (the owner of the campaign).
-- Grain: one row per pending approval, first deadline first, a page of them; each row carries the counts of
-- both scopes and of all that match, so an empty page has one row with counts alone. Changes nothing.
WITH visible AS (
    SELECT
        approval.id,
        approval.kind,
        approval.round,
        approval.submitted_at,
        approval.deadline_at,
        approval.warnings,
        delivery.label AS delivery,
        delivery.channel,
        delivery.message_count,
        campaign.label AS campaign,
        allowed.may_decide,
        allowed.may_decide AND (
            campaign.owner_id = %(staff_id)s::bigint
            OR EXISTS (
                SELECT 1
                FROM campaign.approval_reviewer AS reviewer
                WHERE reviewer.approval_id = approval.id AND reviewer.staff_id = %(staff_id)s::bigint
            )
        ) AS is_for_reader
    FROM campaign.approval
    INNER JOIN campaign.delivery ON approval.delivery_id = delivery.id
    INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
    CROSS JOIN LATERAL campaign.may_decide(approval.id, %(staff_id)s::bigint) AS allowed (may_decide)
    WHERE
        approval.status = 'pending'
        AND (allowed.may_decide OR campaign.owner_id = %(staff_id)s::bigint)
),

matching AS (
    SELECT *
    FROM visible
    WHERE
        visible.is_for_reader = (%(scope)s::text = 'mine')
        AND (%(kind)s::text IS NULL OR visible.kind = %(kind)s::text)
        AND (
            %(search)s::text IS NULL
            OR strpos(lower(visible.delivery || ' ' || visible.campaign), lower(%(search)s::text)) > 0
        )
),

page AS (
    SELECT *
    FROM matching
    ORDER BY matching.deadline_at, matching.id
    LIMIT %(limit)s::integer OFFSET %(offset)s::integer
)

SELECT
    page.*,
    totals.mine,
    totals.others,
    totals.matching,
    campaign.moment() AS moment
FROM (
    SELECT
        count(*) FILTER (WHERE visible.is_for_reader) AS mine,
        count(*) FILTER (WHERE NOT visible.is_for_reader) AS others,
        (SELECT count(*) FROM matching) AS matching
    FROM visible
) AS totals
LEFT JOIN page ON TRUE
ORDER BY page.deadline_at, page.id;
