-- Budgets form trees: a cycle is refused, and so are two currencies in one tree.
CREATE OR REPLACE FUNCTION campaign.check_budget_tree() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    kin campaign.budget;
BEGIN
    -- Two people who link budgets at the same time take turns, or each would miss the other's link.
    PERFORM pg_advisory_xact_lock(hashtextextended('campaign.budget_tree', 0));
    IF EXISTS (
        WITH RECURSIVE above AS (
            SELECT
                NEW.parent_id AS id,
                1 AS depth
            UNION ALL
            SELECT
                budget.parent_id,
                above.depth + 1
            FROM above
            INNER JOIN campaign.budget AS budget ON above.id = budget.id
            WHERE budget.parent_id IS NOT NULL AND above.id <> NEW.id
        ) CYCLE id SET is_cycle USING path

        SELECT 1 FROM above WHERE above.id = NEW.id OR above.is_cycle
    ) THEN
        RAISE EXCEPTION 'Budget % cannot be linked to budget %, which is below it: the links would go round.',
            quote_literal(NEW.label),
            (SELECT quote_literal(parent.label) FROM campaign.budget AS parent WHERE parent.id = NEW.parent_id)
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT budget.* INTO kin
    FROM campaign.budget AS budget
    WHERE (budget.id = NEW.parent_id OR budget.parent_id = NEW.id) AND budget.currency <> NEW.currency
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'Budget % is in % and budget %, to which it is linked, in %: linked budgets have one currency.',
            quote_literal(NEW.label), NEW.currency, quote_literal(kin.label), kin.currency
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER check_new_budget_tree AFTER INSERT ON campaign.budget
FOR EACH ROW WHEN (NEW.parent_id IS NOT NULL) EXECUTE FUNCTION campaign.check_budget_tree();
CREATE OR REPLACE TRIGGER check_budget_tree AFTER UPDATE OF parent_id, currency ON campaign.budget
FOR EACH ROW WHEN (
    OLD.parent_id IS DISTINCT FROM NEW.parent_id OR OLD.currency <> NEW.currency
) EXECUTE FUNCTION campaign.check_budget_tree();

CREATE OR REPLACE FUNCTION campaign.refuse_currency_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM campaign.cost_line AS line WHERE line.budget_id = NEW.id) THEN
        RAISE EXCEPTION 'The currency of budget % cannot change from % to %: amounts are charged to it.',
            quote_literal(NEW.label), OLD.currency, NEW.currency USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER refuse_currency_change AFTER UPDATE OF currency ON campaign.budget
FOR EACH ROW WHEN (OLD.currency <> NEW.currency) EXECUTE FUNCTION campaign.refuse_currency_change();
