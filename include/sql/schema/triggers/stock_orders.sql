-- A received order is part of the ledger: it stands as it is. A correcting order puts it right.

CREATE OR REPLACE FUNCTION campaign.keep_received_order() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION
        'Order % was received on %: its quantity, its date and its stock line cannot be changed any more.',
        OLD.id, campaign.stock_day(OLD.received_at)
        USING
            ERRCODE = 'check_violation',
            HINT = 'Enter a correcting order: the difference as its quantity, this order as its corrects_id.';
END
$$;

CREATE OR REPLACE TRIGGER stock_keep_received BEFORE UPDATE ON campaign.stock_order
FOR EACH ROW WHEN (
    OLD.received_at IS NOT NULL
    AND (OLD.stock_line_id, OLD.quantity, OLD.delivery_on, OLD.corrects_id, OLD.received_at)
    IS DISTINCT FROM (NEW.stock_line_id, NEW.quantity, NEW.delivery_on, NEW.corrects_id, NEW.received_at)
) EXECUTE FUNCTION campaign.keep_received_order();
CREATE OR REPLACE TRIGGER stock_keep_received_row BEFORE DELETE ON campaign.stock_order
FOR EACH ROW WHEN (OLD.received_at IS NOT NULL) EXECUTE FUNCTION campaign.keep_received_order();

CREATE OR REPLACE FUNCTION campaign.check_correcting_order() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    corrected campaign.stock_order;
    corrections record;
BEGIN
    -- One correction of an order at a time: two together could take more than there was.
    SELECT stock_order.* INTO corrected
    FROM campaign.stock_order AS stock_order
    WHERE stock_order.id = coalesce(NEW.corrects_id, NEW.id)
    FOR NO KEY UPDATE;
    IF corrected.corrects_id IS NOT NULL THEN
        RAISE EXCEPTION 'Order % is a correction itself: correct order %, which it corrects.',
            corrected.id, corrected.corrects_id USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.corrects_id IS NOT NULL AND EXISTS (
        SELECT 1
        FROM campaign.stock_order AS stock_order
        WHERE stock_order.corrects_id = NEW.id
    ) THEN
        RAISE EXCEPTION 'Order % is corrected by others: it cannot be a correction itself.',
            NEW.id USING ERRCODE = 'check_violation';
    END IF;
    SELECT
        coalesce(sum(stock_order.quantity), 0) AS quantity,
        coalesce(bool_and(stock_order.stock_line_id = corrected.stock_line_id), TRUE) AS are_on_its_line
    INTO corrections
    FROM campaign.stock_order AS stock_order
    WHERE stock_order.corrects_id = corrected.id;
    IF NOT corrections.are_on_its_line THEN
        RAISE EXCEPTION 'A correcting order is on the same stock_line as the order that it corrects (%).',
            corrected.id USING ERRCODE = 'check_violation';
    END IF;
    IF corrected.quantity + corrections.quantity < 0 THEN
        RAISE EXCEPTION 'Order % was of %: its corrections cannot take more than that.',
            corrected.id, corrected.quantity USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER stock_check_correction AFTER INSERT ON campaign.stock_order
FOR EACH ROW WHEN (NEW.corrects_id IS NOT NULL) EXECUTE FUNCTION campaign.check_correcting_order();
-- The order that is corrected may still be changed until it is received, but not behind its corrections' back.
CREATE OR REPLACE TRIGGER stock_check_corrected AFTER UPDATE ON campaign.stock_order
FOR EACH ROW WHEN (
    (OLD.stock_line_id, OLD.quantity, OLD.corrects_id)
    IS DISTINCT FROM (NEW.stock_line_id, NEW.quantity, NEW.corrects_id)
) EXECUTE FUNCTION campaign.check_correcting_order();
