-- updated_at on what people edit. A cost that budgetMgt calculated is no edit: while it writes, it says so.
DO $$
DECLARE
    edited text;
BEGIN
    FOR edited IN
        SELECT c.relname
        FROM pg_catalog.pg_class AS c
        INNER JOIN pg_catalog.pg_attribute AS a ON c.oid = a.attrelid AND a.attname = 'updated_at'
        WHERE c.relnamespace = 'campaign'::regnamespace AND c.relkind = 'r'
    LOOP
        EXECUTE format(
            'CREATE TRIGGER touch_updated_at BEFORE UPDATE ON campaign.%I '
            'FOR EACH ROW WHEN (current_setting(''campaign.cost_bookkeeping'', TRUE) IS DISTINCT FROM ''off'') '
            'EXECUTE FUNCTION campaign.touch_updated_at()', edited
        );
    END LOOP;
END
$$;
