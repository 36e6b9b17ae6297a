-- Ask for the approvals that can be asked for now, in campaigns that submit them automatically.
--
-- Grain: of the deliveries that this run looks at (void_changed_approvals.sql), one new approval per delivery and
-- kind that its status needs, that is demanded, and that is neither waiting, nor granted, nor rejected (a rejection
-- waits for a person to resubmit). The budget is asked for when its cost split is calculated for the target as
-- analysed, and for all that was edited since. Rerun: what was asked waits.
WITH askable AS (
    SELECT
        delivery.id AS delivery_id,
        setting.kind
    FROM campaign.approval_candidate AS candidate
    INNER JOIN campaign.delivery AS delivery ON candidate.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    -- For the deliveries that are left, one by one: joined, the view is computed for all there are.
    INNER JOIN LATERAL (
        SELECT
            found.kind,
            found.is_demanded
        FROM campaign.approval_setting AS found
        WHERE found.delivery_id = delivery.id
        OFFSET 0  -- noqa: AM09
    ) AS setting ON TRUE
    LEFT JOIN LATERAL (
        SELECT approval.status
        FROM campaign.approval AS approval
        WHERE approval.delivery_id = delivery.id AND approval.kind = setting.kind
        ORDER BY approval.round DESC
        LIMIT 1
    ) AS latest ON TRUE
    WHERE
        campaign.awaits_approvals(delivery.status)
        AND NOT delivery.is_template
        AND campaign.approval_mode = 'automatic'
        AND campaign.status IN ('being_edited', 'started')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND setting.is_demanded
        AND setting.kind = ANY(campaign.approval_kinds_before_leaving(delivery.status, delivery.channel))
        AND coalesce(delivery.submitted_at, '-infinity') <= %(as_of)s::timestamptz
        AND (setting.kind = 'content' OR coalesce(delivery.analysed_at, '-infinity') <= %(as_of)s::timestamptz)
        AND (setting.kind <> 'extraction' OR coalesce(delivery.extracted_at, '-infinity') <= %(as_of)s::timestamptz)
        AND coalesce(latest.status, 'void') IN ('void', 'canceled')
        AND (
            setting.kind <> 'budget'
            OR delivery.service_id IS NULL
            OR EXISTS (
                SELECT 1
                FROM campaign.expense_line AS line
                WHERE
                    line.delivery_id = delivery.id
                    AND line.computed_at >= coalesce(delivery.analysed_at, '-infinity')
                    AND NOT campaign.cost_is_outdated(delivery.id)
            )
        )
),

opened AS (
    SELECT
        campaign.open_approvals(
            array_agg(askable.delivery_id), array_agg(askable.kind), %(as_of)s::timestamptz
        ) AS approval_id
    FROM askable
)

SELECT count(opened.approval_id) AS approvals_submitted
FROM opened;

-- Those that nobody could answer when they were opened.
WITH unasked AS (
    SELECT approval.id
    FROM campaign.approval AS approval
    INNER JOIN campaign.delivery AS delivery ON approval.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        approval.is_unasked
        AND approval.status = 'pending'
        AND approval.submitted_at <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
)

SELECT campaign.ask_reviewers(array_agg(unasked.id)) AS approvals_asked_later
FROM unasked;

-- A proof that was submitted waits to be validated.
WITH proofed AS (
    UPDATE campaign.delivery AS delivery
    SET status = 'proof_to_validate'
    FROM campaign.approval_candidate AS candidate, campaign.approval AS approval, campaign.campaign AS campaign
    WHERE
        delivery.id = candidate.delivery_id
        AND delivery.status = 'proof_to_submit'
        AND delivery.campaign_id = campaign.id
        AND approval.delivery_id = delivery.id
        AND approval.kind = 'proof'
        AND approval.status = 'pending'
        AND approval.submitted_at <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING
        delivery.id,
        delivery.campaign_id,
        delivery.label
),

noted AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        proofed.campaign_id,
        proofed.id,
        format('Delivery %%L went from proof to submit to proof to validate.', proofed.label)
    FROM proofed
    RETURNING 1
)

SELECT count(*) AS proofs_submitted
FROM noted;

-- The router's e-mail is shown to those who validate the proof: once for each approval of it.
WITH unshown AS MATERIALIZED (
    SELECT delivery.id
    FROM campaign.approval_candidate AS candidate
    INNER JOIN campaign.approval AS approval ON candidate.delivery_id = approval.delivery_id
    INNER JOIN campaign.delivery AS delivery ON candidate.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        approval.kind = 'proof'
        AND approval.status = 'pending'
        AND approval.submitted_at <= %(as_of)s::timestamptz
        AND delivery.status = 'proof_to_validate'
        AND delivery.service_id IS NOT NULL
        AND campaign.status IN ('being_edited', 'started')
        AND campaign.notifications_enabled
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.notification AS shown
            WHERE
                shown.delivery_id = delivery.id
                AND shown.kind = 'provider_file'
                AND (shown.facts -> 'approval_id')::bigint = approval.id
        )
    ORDER BY delivery.id
)

SELECT coalesce(sum(campaign.send_router_proof(unshown.id)), 0)::bigint AS proofs_written
FROM unshown;

-- Looked at, in the status that it has now. What changed meanwhile stands in the queue. A delivery whose
-- budget waits for its cost to be calculated stays: nothing tells when the calculation comes to what stood before.
DELETE FROM campaign.approval_candidate AS candidate
WHERE
    (
        %(campaign)s::text IS NULL
        OR EXISTS (
            SELECT 1
            FROM campaign.delivery AS delivery
            INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
            WHERE delivery.id = candidate.delivery_id AND campaign.internal_name = %(campaign)s::text
        )
    )
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.delivery AS delivery
        WHERE
            delivery.id = candidate.delivery_id
            AND campaign.awaits_approvals(delivery.status)
            AND EXISTS (
                SELECT 1
                FROM campaign.approval_setting AS setting
                WHERE setting.delivery_id = delivery.id AND setting.kind = 'budget' AND setting.is_demanded
                OFFSET 0  -- noqa: AM09
            )
            AND campaign.cost_is_outdated(delivery.id)
    );
