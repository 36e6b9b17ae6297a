-- When something was canceled is recorded with it, whoever cancels it and however; what a campaign still
-- has in the house is canceled with it.

CREATE OR REPLACE FUNCTION campaign.record_cancellation() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    NEW.canceled_at := campaign.moment();
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER record_cancellation BEFORE UPDATE OF status ON campaign.delivery
FOR EACH ROW WHEN (new.status = 'canceled' AND old.status <> 'canceled' AND new.canceled_at IS NULL)
EXECUTE FUNCTION campaign.record_cancellation();
CREATE OR REPLACE TRIGGER record_cancellation BEFORE UPDATE OF status ON campaign.task
FOR EACH ROW WHEN (new.status = 'canceled' AND old.status <> 'canceled' AND new.canceled_at IS NULL)
EXECUTE FUNCTION campaign.record_cancellation();
CREATE OR REPLACE TRIGGER record_cancellation BEFORE UPDATE OF status ON campaign.campaign
FOR EACH ROW WHEN (new.status = 'canceled' AND old.status <> 'canceled' AND new.canceled_at IS NULL)
EXECUTE FUNCTION campaign.record_cancellation();

CREATE OR REPLACE FUNCTION campaign.cancel_deliveries_of_campaign() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM campaign.cancel_delivery(delivery.id, 'its campaign was canceled')
    FROM campaign.delivery AS delivery
    WHERE
        delivery.campaign_id = NEW.id
        AND delivery.status NOT IN ('finished', 'canceled')
        AND (delivery.status <> 'in_progress' OR delivery.channel <> 'direct_mail');
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER cancel_deliveries AFTER UPDATE OF status ON campaign.campaign
FOR EACH ROW WHEN (new.status = 'canceled' AND old.status <> 'canceled')
EXECUTE FUNCTION campaign.cancel_deliveries_of_campaign();

-- A workflow that is canceled by itself: what was copied for it goes with it, and what waits for the target that
-- it was to make waits for a person, or it would be given another workflow at once.
CREATE OR REPLACE FUNCTION campaign.settle_deliveries_of_workflow() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE campaign.delivery SET status = 'canceled' WHERE workflow_id = NEW.id AND status = 'being_edited';
    UPDATE campaign.delivery
    SET
        status = 'failed', failed_from = 'targeting_pending',
        failure = format(
            'Its targeting workflow %s was canceled. Send it back with campaign.retry_delivery: it gets a new one.',
            NEW.internal_name
        )
    WHERE workflow_id = NEW.id AND status = 'targeting_pending';
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER settle_deliveries AFTER UPDATE OF status ON campaign.workflow
FOR EACH ROW WHEN (new.status = 'canceled' AND old.status <> 'canceled')
EXECUTE FUNCTION campaign.settle_deliveries_of_workflow();
