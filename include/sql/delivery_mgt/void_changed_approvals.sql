-- Void the approvals of what is no longer what was shown, and tell the owner.
--
-- Grain: approvals, pending or granted, of deliveries that have not left yet. A new round is asked for by
-- submit_approvals. Rerun: a void approval is neither pending nor granted, so it is passed over.

-- What this run looks at, in this step and in those after it: the deliveries of which something changed, or has come
-- due (triggers/approval_changes.sql). A full run, and one for the past, looks at all that have not left. One
-- statement takes and deletes, so that it sees one state of the queue: what is noted meanwhile stays.
WITH taken AS (
    DELETE FROM campaign.approval_queue AS queue
    WHERE
        (NOT queue.is_seen OR queue.due_at <= %(as_of)s::timestamptz)
        AND (
            %(campaign)s::text IS NULL
            OR EXISTS (
                SELECT 1
                FROM campaign.delivery AS delivery
                INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
                WHERE delivery.id = queue.delivery_id AND campaign.internal_name = %(campaign)s::text
            )
        )
    RETURNING
        queue.delivery_id,
        queue.due_at
),

-- Looked at now, and again when its moment has come, or that of an approval that a run as of a later moment asked for.
kept AS (
    INSERT INTO campaign.approval_queue (delivery_id, due_at, is_seen)
    SELECT
        taken.delivery_id,
        taken.due_at,
        TRUE
    FROM taken
    WHERE taken.due_at > %(as_of)s::timestamptz
    UNION
    SELECT
        approval.delivery_id,
        approval.submitted_at,
        TRUE
    FROM taken
    INNER JOIN campaign.approval AS approval ON taken.delivery_id = approval.delivery_id
    WHERE approval.status IN ('pending', 'approved') AND approval.submitted_at > %(as_of)s::timestamptz
)

INSERT INTO campaign.approval_candidate (delivery_id)
SELECT taken.delivery_id
FROM taken
UNION
SELECT delivery.id
FROM campaign.delivery AS delivery
WHERE (%(full)s::boolean OR %(is_past)s::boolean) AND delivery.status NOT IN (
    'being_edited', 'in_progress', 'finished', 'canceled', 'failed'
)
ON CONFLICT DO NOTHING;

ANALYZE campaign.approval_candidate;

WITH changed AS (
    UPDATE campaign.approval AS approval
    SET status = 'void'
    FROM campaign.approval_candidate AS candidate
    INNER JOIN campaign.delivery AS delivery ON candidate.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        approval.delivery_id = candidate.delivery_id
        AND approval.status IN ('pending', 'approved')
        AND approval.submitted_at <= %(as_of)s::timestamptz
        AND campaign.awaits_approvals(delivery.status)
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
