-- What nobody has to answer any more is not asked of anybody: a reminder that has not been sent when its approval
-- ends, as when the mail server was away, and an approval that waits when its delivery leaves without it (its policy
-- was switched off, or a person had asked for it though none was demanded).

CREATE OR REPLACE FUNCTION campaign.withdraw_reminders() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE campaign.notification
    SET failed_at = campaign.moment(), error = format('not sent: the approval is %s', NEW.status)
    WHERE
        delivery_id = NEW.delivery_id AND kind = 'approval_reminder' AND sent_at IS NULL AND failed_at IS NULL
        AND (facts -> 'approval_id')::bigint = NEW.id;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER withdraw_reminders AFTER UPDATE OF status ON campaign.approval
FOR EACH ROW WHEN (old.status = 'pending' AND new.status <> 'pending')
EXECUTE FUNCTION campaign.withdraw_reminders();

CREATE OR REPLACE FUNCTION campaign.withdraw_approvals() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE campaign.approval SET status = 'canceled' WHERE delivery_id = NEW.id AND status = 'pending';
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER withdraw_approvals AFTER UPDATE OF status ON campaign.delivery
FOR EACH ROW WHEN (new.status IN ('in_progress', 'finished') AND old.status NOT IN ('in_progress', 'finished'))
EXECUTE FUNCTION campaign.withdraw_approvals();
