-- The reminder to come of an approval is known by its moment, so that a run finds what is due by an index.
CREATE OR REPLACE FUNCTION campaign.plan_reminder() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.next_reminder_at := campaign.next_reminder(NEW.reminders, NEW.deadline_at, NEW.submitted_at);
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER plan_reminder
BEFORE INSERT OR UPDATE OF reminders, deadline_at, submitted_at ON campaign.approval
FOR EACH ROW EXECUTE FUNCTION campaign.plan_reminder();
