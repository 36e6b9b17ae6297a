-- News for the workflows: what leaves work for one notifies the channel campaign_event with its dag_id,
-- and Airflow runs it at once. A hint to look: each workflow finds by itself what there is to do.

CREATE OR REPLACE FUNCTION campaign.announce_delivery() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    next_workflow CONSTANT text := CASE
        WHEN NEW.status IN ('targeting_pending', 'extraction_pending', 'extracting') THEN 'operationMgt'
        WHEN NEW.status = 'routing' THEN 'providerMgt'
        WHEN NEW.status IN ('finished', 'failed', 'being_edited') THEN NULL
        ELSE 'deliveryMgt'
    END;
BEGIN
    IF next_workflow IS NOT NULL THEN
        PERFORM pg_notify('campaign_event', next_workflow);
    END IF;
    IF NEW.status IN ('file_to_approve', 'in_progress', 'canceled') THEN
        PERFORM pg_notify('campaign_event', 'stockMgt');
    END IF;
    IF NEW.status = 'canceled' THEN
        PERFORM pg_notify('campaign_event', 'providerMgt');
    END IF;
    RETURN NULL;
END
$$;

-- Per row, but only for rows whose state changed: the condition costs nothing on bulk updates of others.
CREATE OR REPLACE TRIGGER announce_new AFTER INSERT ON campaign.delivery
FOR EACH ROW WHEN (NEW.status <> 'being_edited') EXECUTE FUNCTION campaign.announce_delivery();
CREATE OR REPLACE TRIGGER announce_status AFTER UPDATE OF status ON campaign.delivery
FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION campaign.announce_delivery();

CREATE OR REPLACE FUNCTION campaign.announce() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('campaign_event', TG_ARGV[0]);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER announce_release AFTER UPDATE OF held_at ON campaign.delivery
FOR EACH ROW WHEN (OLD.held_at IS NOT NULL AND NEW.held_at IS NULL)
EXECUTE FUNCTION campaign.announce('deliveryMgt');
CREATE OR REPLACE TRIGGER announce_answer AFTER UPDATE OF status ON campaign.approval
FOR EACH ROW WHEN (OLD.status = 'pending' AND NEW.status IN ('approved', 'rejected'))
EXECUTE FUNCTION campaign.announce('deliveryMgt');
-- Per row: a statement that inserts nothing is no news, or a workflow would wake itself without end.
CREATE OR REPLACE TRIGGER announce_order AFTER INSERT ON campaign.stock_order
FOR EACH ROW EXECUTE FUNCTION campaign.announce('stockMgt');
CREATE OR REPLACE TRIGGER announce_workflow AFTER INSERT ON campaign.workflow
FOR EACH ROW EXECUTE FUNCTION campaign.announce('operationMgt');
CREATE OR REPLACE TRIGGER announce_cancellation AFTER UPDATE OF status ON campaign.workflow
FOR EACH ROW WHEN (NEW.status = 'canceled' AND OLD.status = 'running')
EXECUTE FUNCTION campaign.announce('operationMgt');
CREATE OR REPLACE TRIGGER announce_start AFTER UPDATE OF automatic_start ON campaign.workflow
FOR EACH ROW WHEN (NEW.automatic_start AND NOT OLD.automatic_start)
EXECUTE FUNCTION campaign.announce('operationMgt');
-- What operationMgt makes of a rule by itself is no news.
CREATE OR REPLACE TRIGGER announce_line AFTER INSERT ON campaign.campaign_schedule
FOR EACH ROW WHEN (NOT NEW.from_rule) EXECUTE FUNCTION campaign.announce('operationMgt');
CREATE OR REPLACE TRIGGER announce_new_rule AFTER INSERT ON campaign.campaign
FOR EACH ROW WHEN (NEW.recurrence IS NOT NULL) EXECUTE FUNCTION campaign.announce('operationMgt');
CREATE OR REPLACE TRIGGER announce_rule AFTER UPDATE OF recurrence, time_zone, starts_at, ends_at ON campaign.campaign
FOR EACH ROW WHEN (NEW.recurrence IS NOT NULL OR OLD.recurrence IS NOT NULL)
EXECUTE FUNCTION campaign.announce('operationMgt');
CREATE OR REPLACE TRIGGER announce_job AFTER UPDATE OF status ON campaign.provider_job
FOR EACH ROW WHEN (OLD.status = 'failed' AND NEW.status = 'pending')
EXECUTE FUNCTION campaign.announce('providerMgt');
-- A real cost may follow from what was answered.
CREATE OR REPLACE TRIGGER announce_counted_answer AFTER UPDATE OF answered ON campaign.provider_answer
FOR EACH ROW WHEN (NEW.answered_at IS NOT NULL AND NEW.costed_at IS NULL)
EXECUTE FUNCTION campaign.announce('budgetMgt');

-- A cost split that a budget approval waits for. Of a new one, budgetMgt says so itself.
CREATE OR REPLACE FUNCTION campaign.announce_cost_split() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1
        FROM written
        INNER JOIN campaign.delivery AS delivery ON written.delivery_id = delivery.id
        WHERE delivery.status = 'target_ready'
    ) THEN
        PERFORM pg_notify('campaign_event', 'deliveryMgt');
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER announce_changed_split AFTER UPDATE ON campaign.expense_line
REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION campaign.announce_cost_split();
