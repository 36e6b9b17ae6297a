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
