-- What deliveryMgt has to look at again, so that a run costs what changed or has come due, however many deliveries
-- wait for an answer or for their date. docs/deliveries.md says how it is used.

-- Deliveries whose approvals may be void, missing or complete since something changed, and from when on. Append-only,
-- written by triggers in the transaction of the change (triggers/approval_changes.sql): a row is seen when that
-- transaction commits, however late. No key, so that writers do not wait for each other; what stands twice counts
-- once.
CREATE TABLE campaign.approval_queue (
    delivery_id bigint NOT NULL,
    due_at timestamptz NOT NULL DEFAULT '-infinity'
);

-- What the first step of a run took from the queue, for the steps after it; the last of them clears it. What a killed
-- run leaves here is looked at by the next.
CREATE TABLE campaign.approval_candidate (
    delivery_id bigint PRIMARY KEY
);

-- What was under way before there was a queue is looked at once.
INSERT INTO campaign.approval_queue (delivery_id)
SELECT delivery.id
FROM campaign.delivery AS delivery
WHERE delivery.status NOT IN ('being_edited', 'in_progress', 'finished', 'canceled', 'failed');

-- What is to leave, by the date that it should have left by.
CREATE INDEX delivery_leaving ON campaign.delivery (contact_date)
WHERE held_at IS NULL
AND status IN (
    'extraction_pending', 'extracting', 'file_to_approve', 'proof_to_submit', 'proof_to_validate', 'routing',
    'start_pending'
);
CREATE INDEX delivery_extractable ON campaign.delivery (extraction_date)
WHERE held_at IS NULL AND status IN ('extraction_pending', 'extracting');

CREATE INDEX delivery_in_progress ON campaign.delivery (id) WHERE status = 'in_progress';
-- Who is concerned when the items of an outline change.
CREATE INDEX delivery_outline_used ON campaign.delivery (outline_id) WHERE outline_id IS NOT NULL;

-- The moment of the reminder to come, kept by a trigger (triggers/approval_reminders.sql); null: none is left.
ALTER TABLE campaign.approval ADD COLUMN next_reminder_at timestamptz;

UPDATE campaign.approval
SET
    next_reminder_at = (
        SELECT min(approval.deadline_at - reminder.before_deadline)
        FROM unnest(approval.reminders) AS reminder (before_deadline)
        WHERE approval.deadline_at - reminder.before_deadline > approval.submitted_at
    )
WHERE status = 'pending' AND cardinality(reminders) > 0;

CREATE INDEX approval_reminder ON campaign.approval (next_reminder_at)
WHERE status = 'pending' AND next_reminder_at IS NOT NULL;
CREATE INDEX approval_deadline ON campaign.approval (deadline_at) WHERE status = 'pending' AND NOT late;
