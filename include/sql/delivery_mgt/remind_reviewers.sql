-- Remind reviewers before the deadline, and tell the owner when it has passed.
--
-- Grain: one notice per pending approval, reviewer and reminder. Of the reminders that are due only the
-- latest is sent, so those missed during an outage collapse into one. Rerun: the next reminder is set, and the notice
-- has a unique key.
WITH passed AS (
    UPDATE campaign.approval AS approval
    SET next_reminder_at = campaign.next_reminder(approval.reminders, approval.deadline_at, %(as_of)s::timestamptz)
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        approval.delivery_id = delivery.id
        AND approval.status = 'pending'
        AND approval.next_reminder_at <= %(as_of)s::timestamptz
        AND campaign.status IN ('being_edited', 'started')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING
        approval.id,
        approval.deadline_at,
        approval.submitted_at,
        approval.reminders
),

due AS (
    SELECT
        passed.id AS approval_id,
        min(reminder.before_deadline) AS before_deadline
    FROM passed
    CROSS JOIN LATERAL unnest(passed.reminders) AS reminder (before_deadline)
    WHERE
        passed.deadline_at > %(as_of)s::timestamptz
        AND passed.deadline_at - reminder.before_deadline <= %(as_of)s::timestamptz
        AND passed.deadline_at - reminder.before_deadline > passed.submitted_at
    GROUP BY passed.id
),

told AS (
    SELECT
        campaign.notify_reviewers(
            array_agg(due.approval_id), 'approval_reminder', due.before_deadline::text
        ) AS count
    FROM due
    GROUP BY due.before_deadline
)

SELECT coalesce(sum(told.count), 0) AS reminders_written
FROM told;

WITH late AS (
    UPDATE campaign.approval AS approval
    SET late = TRUE
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    WHERE
        approval.delivery_id = delivery.id
        AND approval.status = 'pending'
        AND NOT approval.late
        AND campaign.status IN ('being_edited', 'started')
        AND approval.deadline_at <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING
        approval.id,
        approval.kind,
        approval.deadline_at,
        delivery.id AS delivery_id,
        delivery.campaign_id,
        delivery.label
),

told AS (
    SELECT campaign.notify_owner_of_approval(array_agg(late.id), 'approval_late') AS count
    FROM late
),

noted AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'warning',
        %(dag_id)s::text,
        %(run_id)s::text,
        late.campaign_id,
        late.delivery_id,
        format('The approval of the %%s of %%L is late: its deadline was %%s.', late.kind, late.label, late.deadline_at)
    FROM late
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM noted) AS approvals_late,
    coalesce((SELECT told.count FROM told), 0) AS owners_told_late;
