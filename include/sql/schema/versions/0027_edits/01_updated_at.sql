-- updated_at on what people edit. A cost that budgetMgt calculated is no edit: it changes calculated_cost, and nobody
-- else does. To look at that column costs a bulk update less than to ask for a setting of the session at each row.
DO $$
DECLARE
    edited record;
BEGIN
    FOR edited IN
        SELECT
            c.relname AS name,
            EXISTS (
                SELECT 1
                FROM pg_catalog.pg_attribute AS a
                WHERE c.oid = a.attrelid AND a.attname = 'calculated_cost' AND NOT a.attisdropped
            ) AS has_cost
        FROM pg_catalog.pg_class AS c
        INNER JOIN pg_catalog.pg_trigger AS t ON c.oid = t.tgrelid AND t.tgname = 'touch_updated_at'
        WHERE c.relnamespace = 'campaign'::regnamespace AND c.relkind = 'r'
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER touch_updated_at BEFORE UPDATE ON campaign.%I FOR EACH ROW %s '
            'EXECUTE FUNCTION campaign.touch_updated_at()',
            edited.name,
            CASE WHEN edited.has_cost THEN 'WHEN (OLD.calculated_cost IS NOT DISTINCT FROM NEW.calculated_cost)' END
        );
    END LOOP;
END
$$;
