-- Superseded by triggers/delivery_changes.sql.
DROP TRIGGER IF EXISTS note_cost_change_on_update ON campaign.delivery;
DROP TRIGGER IF EXISTS queue_on_update ON campaign.delivery;
DROP TRIGGER IF EXISTS stock_note_changed ON campaign.delivery;
DROP FUNCTION IF EXISTS campaign.note_delivery_update;
DROP FUNCTION IF EXISTS campaign.queue_delivery_update;
DROP FUNCTION IF EXISTS campaign.note_changed_delivery_volume;
-- The functions in triggers/budget_changes.sql do it themselves.
DROP FUNCTION IF EXISTS campaign.announce_cost_change;
-- Superseded by stock_note_reselected, which compares (triggers/stock_changes.sql).
DROP TRIGGER IF EXISTS stock_note_reselected_from ON campaign.delivery_cost;
