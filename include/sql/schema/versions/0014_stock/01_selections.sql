-- Cost types, and services with cost types that are selected by default, whose use of stock changed. Append-only,
-- written by triggers in the transaction of the change; whom it concerns is looked up when it is read, so that a
-- delivery that left meanwhile is among them (campaign.stock_deliveries_to_record).
CREATE TABLE campaign.stock_selection_queue (
    cost_type_id bigint,
    service_id bigint
);

-- Whom a default of a service concerns: what has left and is not finished.
CREATE INDEX delivery_out ON campaign.delivery (service_id)
WHERE finished_at IS NULL AND (extracted_at IS NOT NULL OR started_at IS NOT NULL);

-- One trigger compares both sides of an update now.
DROP TRIGGER IF EXISTS stock_note_default_new ON campaign.cost_type;
DROP TRIGGER IF EXISTS stock_note_default_old ON campaign.cost_type;
