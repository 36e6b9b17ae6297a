-- A rule that cannot be used is refused where it is entered, and a served schedule line stays on record: without
-- it, the rule would make the line again, and it would be served twice. A periodic campaign is a template.

CREATE OR REPLACE FUNCTION campaign.check_recurrence() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    problem CONSTANT text := campaign.recurrence_problem(NEW.recurrence);
BEGIN
    -- What is no rule at all, the constraint of the column refuses.
    IF problem IS NOT NULL AND NEW.recurrence ~* 'FREQ=' THEN
        RAISE EXCEPTION 'The recurrence of campaign % cannot be used: %', quote_literal(NEW.label), problem
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER check_new_recurrence BEFORE INSERT ON campaign.campaign
FOR EACH ROW WHEN (NEW.recurrence IS NOT NULL) EXECUTE FUNCTION campaign.check_recurrence();
CREATE OR REPLACE TRIGGER check_recurrence BEFORE UPDATE OF recurrence ON campaign.campaign
FOR EACH ROW WHEN (NEW.recurrence IS NOT NULL AND NEW.recurrence IS DISTINCT FROM OLD.recurrence)
EXECUTE FUNCTION campaign.check_recurrence();

-- It lives by what is made from it: on its own dates it neither starts nor ends, and nobody pays for it.
CREATE OR REPLACE FUNCTION campaign.make_periodic_a_template() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.is_template := TRUE;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER make_periodic_a_template BEFORE INSERT OR UPDATE OF kind, is_template ON campaign.campaign
FOR EACH ROW WHEN (NEW.kind = 'periodic' AND NOT NEW.is_template)
EXECUTE FUNCTION campaign.make_periodic_a_template();

CREATE OR REPLACE FUNCTION campaign.keep_served_line() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    -- A campaign that is deleted takes its lines with it.
    IF EXISTS (SELECT 1 FROM campaign.campaign WHERE campaign.id = OLD.campaign_id) THEN
        RAISE EXCEPTION 'The schedule line of % was served or skipped: it stays on record, so that it is not served again.',
            OLD.starts_at USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN OLD;
END
$$;

CREATE OR REPLACE TRIGGER keep_served_line BEFORE DELETE ON campaign.campaign_schedule
FOR EACH ROW WHEN (num_nonnulls(OLD.workflow_id, OLD.created_campaign_id, OLD.skipped_at) > 0)
EXECUTE FUNCTION campaign.keep_served_line();
