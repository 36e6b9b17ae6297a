-- What changes a cost is noted in campaign.cost_change, and budgetMgt is told.
--
-- One statement trigger per kind of statement, over its transition tables: a bulk update costs its writers
-- one more pass over its rows, not a call for each. Updates that change no cost are not noted. The
-- statements of budgetMgt itself are passed over (SET LOCAL campaign.cost_bookkeeping = 'off').

CREATE OR REPLACE FUNCTION campaign.announce_cost_change(is_noted boolean) RETURNS void
LANGUAGE sql AS $$
    SELECT pg_notify('campaign_event', 'budgetMgt') WHERE is_noted
$$;

CREATE OR REPLACE FUNCTION campaign.note_delivery_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'delivery',
            written.id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'delivery',
            written.id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE (
            written.campaign_id, written.channel, CASE WHEN written.status IN ('finished', 'canceled') THEN written.status END,
            written.service_id, written.budget_id, written.commitment_level,
            written.provisional_cost, written.real_cost, written.is_template,
            written.message_count, written.analysed_at, written.finished_at,
            written.canceled_at
        ) IS DISTINCT FROM (
            gone.campaign_id, gone.channel, CASE WHEN gone.status IN ('finished', 'canceled') THEN gone.status END,
            gone.service_id, gone.budget_id, gone.commitment_level,
            gone.provisional_cost, gone.real_cost, gone.is_template,
            gone.message_count, gone.analysed_at, gone.finished_at,
            gone.canceled_at
        )
        UNION
        SELECT
            'campaign',
            gone.campaign_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE gone.campaign_id IS NOT NULL AND written.campaign_id IS DISTINCT FROM gone.campaign_id
        UNION
        SELECT
            'campaign',
            written.campaign_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.campaign_id IS NOT NULL AND written.campaign_id IS DISTINCT FROM gone.campaign_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'campaign',
            gone.campaign_id
        FROM gone
        WHERE gone.campaign_id IS NOT NULL;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.delivery
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_delivery_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.delivery
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_delivery_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.delivery
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_delivery_change();

CREATE OR REPLACE FUNCTION campaign.note_task_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'task',
            written.id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'task',
            written.id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE (
            written.campaign_id, written.program_id, CASE WHEN written.status IN ('finished', 'canceled') THEN written.status END,
            written.days_completed, written.finished_at, written.canceled_at,
            written.service_id, written.budget_id, written.commitment_level,
            written.provisional_cost, written.real_cost
        ) IS DISTINCT FROM (
            gone.campaign_id, gone.program_id, CASE WHEN gone.status IN ('finished', 'canceled') THEN gone.status END,
            gone.days_completed, gone.finished_at, gone.canceled_at,
            gone.service_id, gone.budget_id, gone.commitment_level,
            gone.provisional_cost, gone.real_cost
        )
        UNION
        SELECT
            'campaign',
            gone.campaign_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE gone.campaign_id IS NOT NULL AND written.campaign_id IS DISTINCT FROM gone.campaign_id
        UNION
        SELECT
            'campaign',
            written.campaign_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.campaign_id IS NOT NULL AND written.campaign_id IS DISTINCT FROM gone.campaign_id
        UNION
        SELECT
            'program',
            gone.program_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE gone.program_id IS NOT NULL AND written.program_id IS DISTINCT FROM gone.program_id
        UNION
        SELECT
            'program',
            written.program_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.program_id IS NOT NULL AND written.program_id IS DISTINCT FROM gone.program_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'campaign',
            gone.campaign_id
        FROM gone
        WHERE gone.campaign_id IS NOT NULL
        UNION ALL
        SELECT DISTINCT
            'program',
            gone.program_id
        FROM gone
        WHERE gone.program_id IS NOT NULL;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.task
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_task_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.task
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_task_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.task
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_task_change();

CREATE OR REPLACE FUNCTION campaign.note_campaign_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'campaign',
            written.id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'campaign',
            written.id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE (
            written.program_id, written.is_template, CASE WHEN written.status IN ('finished', 'canceled') THEN written.status END,
            written.ends_at, written.canceled_at, written.budget_id,
            written.budget_status, written.commitment_level, written.provisional_cost,
            written.fixed_cost, written.real_cost
        ) IS DISTINCT FROM (
            gone.program_id, gone.is_template, CASE WHEN gone.status IN ('finished', 'canceled') THEN gone.status END,
            gone.ends_at, gone.canceled_at, gone.budget_id,
            gone.budget_status, gone.commitment_level, gone.provisional_cost,
            gone.fixed_cost, gone.real_cost
        )
        UNION
        SELECT
            'program',
            gone.program_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE gone.program_id IS NOT NULL AND written.program_id IS DISTINCT FROM gone.program_id
        UNION
        SELECT
            'program',
            written.program_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.program_id IS NOT NULL AND written.program_id IS DISTINCT FROM gone.program_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'program',
            gone.program_id
        FROM gone
        WHERE gone.program_id IS NOT NULL;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.campaign
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_campaign_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.campaign
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_campaign_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.campaign
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_campaign_change();

CREATE OR REPLACE FUNCTION campaign.note_program_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'program',
            written.id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'program',
            written.id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE (
            written.plan_id, written.budget_id, written.provisional_cost,
            written.real_cost
        ) IS DISTINCT FROM (
            gone.plan_id, gone.budget_id, gone.provisional_cost,
            gone.real_cost
        )
        UNION
        SELECT
            'plan',
            gone.plan_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE gone.plan_id IS NOT NULL AND written.plan_id IS DISTINCT FROM gone.plan_id
        UNION
        SELECT
            'plan',
            written.plan_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.plan_id IS NOT NULL AND written.plan_id IS DISTINCT FROM gone.plan_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'plan',
            gone.plan_id
        FROM gone
        WHERE gone.plan_id IS NOT NULL;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.program
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_program_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.program
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_program_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.program
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_program_change();

CREATE OR REPLACE FUNCTION campaign.note_plan_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'plan',
            written.id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'plan',
            written.id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE (
            written.provisional_cost, written.real_cost
        ) IS DISTINCT FROM (
            gone.provisional_cost, gone.real_cost
        );
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.plan
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_plan_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.plan
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_plan_change();

CREATE OR REPLACE FUNCTION campaign.note_delivery_cost_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'delivery',
            written.delivery_id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'delivery',
            written.delivery_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE (
            written.delivery_id, written.cost_type_id, written.surcharge,
            written.expense_category_id
        ) IS DISTINCT FROM (
            gone.delivery_id, gone.cost_type_id, gone.surcharge,
            gone.expense_category_id
        )
        UNION
        SELECT
            'delivery',
            gone.delivery_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.delivery_id <> gone.delivery_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'delivery',
            gone.delivery_id
        FROM gone;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.delivery_cost
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_delivery_cost_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.delivery_cost
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_delivery_cost_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.delivery_cost
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_delivery_cost_change();

CREATE OR REPLACE FUNCTION campaign.note_task_cost_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'task',
            written.task_id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'task',
            written.task_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE (
            written.task_id, written.cost_type_id, written.surcharge,
            written.expense_category_id
        ) IS DISTINCT FROM (
            gone.task_id, gone.cost_type_id, gone.surcharge,
            gone.expense_category_id
        )
        UNION
        SELECT
            'task',
            gone.task_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.task_id <> gone.task_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'task',
            gone.task_id
        FROM gone;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.task_cost
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_task_cost_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.task_cost
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_task_cost_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.task_cost
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_task_cost_change();

CREATE OR REPLACE FUNCTION campaign.note_cost_breakdown_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            CASE WHEN written.delivery_id IS NOT NULL THEN 'delivery' WHEN written.task_id IS NOT NULL THEN 'task' ELSE 'campaign' END,
            coalesce(written.delivery_id, written.task_id, written.campaign_id)
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            CASE WHEN written.delivery_id IS NOT NULL THEN 'delivery' WHEN written.task_id IS NOT NULL THEN 'task' ELSE 'campaign' END,
            coalesce(written.delivery_id, written.task_id, written.campaign_id)
        FROM written
        UNION
        SELECT DISTINCT
            CASE WHEN gone.delivery_id IS NOT NULL THEN 'delivery' WHEN gone.task_id IS NOT NULL THEN 'task' ELSE 'campaign' END,
            coalesce(gone.delivery_id, gone.task_id, gone.campaign_id)
        FROM gone;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            CASE WHEN gone.delivery_id IS NOT NULL THEN 'delivery' WHEN gone.task_id IS NOT NULL THEN 'task' ELSE 'campaign' END,
            coalesce(gone.delivery_id, gone.task_id, gone.campaign_id)
        FROM gone;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.cost_breakdown
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_breakdown_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.cost_breakdown
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_breakdown_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.cost_breakdown
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_breakdown_change();

CREATE OR REPLACE FUNCTION campaign.note_cost_structure_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'cost_type',
            written.cost_type_id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'cost_type',
            written.cost_type_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE (
            written.cost_type_id, written.basis, written.method,
            written.amount, written.batch_size, written.whole_batches,
            written.beyond_amount
        ) IS DISTINCT FROM (
            gone.cost_type_id, gone.basis, gone.method,
            gone.amount, gone.batch_size, gone.whole_batches,
            gone.beyond_amount
        )
        UNION
        SELECT
            'cost_type',
            gone.cost_type_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.cost_type_id <> gone.cost_type_id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'cost_type',
            gone.cost_type_id
        FROM gone;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.cost_structure
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_structure_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.cost_structure
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_structure_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.cost_structure
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_structure_change();

CREATE OR REPLACE FUNCTION campaign.note_cost_threshold_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'cost_type',
            structure.cost_type_id
        FROM written
        INNER JOIN campaign.cost_structure AS structure ON written.cost_structure_id = structure.id;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'cost_type',
            structure.cost_type_id
        FROM written
        INNER JOIN campaign.cost_structure AS structure ON written.cost_structure_id = structure.id
        UNION
        SELECT DISTINCT
            'cost_type',
            structure.cost_type_id
        FROM gone
        INNER JOIN campaign.cost_structure AS structure ON gone.cost_structure_id = structure.id;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'cost_type',
            structure.cost_type_id
        FROM gone
        INNER JOIN campaign.cost_structure AS structure ON gone.cost_structure_id = structure.id;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.cost_threshold
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_threshold_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.cost_threshold
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_threshold_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.cost_threshold
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_threshold_change();

CREATE OR REPLACE FUNCTION campaign.note_cost_category_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'service',
            written.service_id
        FROM written;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'service',
            written.service_id
        FROM written
        UNION
        SELECT DISTINCT
            'service',
            gone.service_id
        FROM gone;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'service',
            gone.service_id
        FROM gone;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.cost_category
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_category_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.cost_category
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_category_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.cost_category
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_category_change();

CREATE OR REPLACE FUNCTION campaign.note_cost_type_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'service',
            category.service_id
        FROM written
        INNER JOIN campaign.cost_category AS category ON written.cost_category_id = category.id;
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'service',
            category.service_id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        INNER JOIN campaign.cost_category AS category ON category.id IN (written.cost_category_id, gone.cost_category_id)
        WHERE (written.cost_category_id, written.selected_by_default) IS DISTINCT FROM (gone.cost_category_id, gone.selected_by_default);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT DISTINCT
            'service',
            category.service_id
        FROM gone
        INNER JOIN campaign.cost_category AS category ON gone.cost_category_id = category.id;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_insert AFTER INSERT ON campaign.cost_type
REFERENCING NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_type_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.cost_type
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_type_change();
CREATE OR REPLACE TRIGGER note_cost_change_on_delete AFTER DELETE ON campaign.cost_type
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_cost_type_change();

CREATE OR REPLACE FUNCTION campaign.note_budget_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            'budget',
            written.id
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.currency <> gone.currency;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.budget
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_budget_change();

CREATE OR REPLACE FUNCTION campaign.note_invoice_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            CASE WHEN line.delivery_id IS NOT NULL THEN 'delivery' ELSE 'task' END,
            coalesce(line.delivery_id, line.task_id)
        FROM written
        INNER JOIN gone ON written.id = gone.id
        INNER JOIN campaign.invoice_line AS invoice_line ON written.id = invoice_line.invoice_id
        INNER JOIN campaign.expense_line AS line ON invoice_line.id = line.invoice_line_id
        WHERE (written.status, written.paid_at) IS DISTINCT FROM (gone.status, gone.paid_at);
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.invoice
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_invoice_change();

CREATE OR REPLACE FUNCTION campaign.note_invoice_line_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            CASE WHEN line.delivery_id IS NOT NULL THEN 'delivery' ELSE 'task' END,
            coalesce(line.delivery_id, line.task_id)
        FROM written
        INNER JOIN gone ON written.id = gone.id
        INNER JOIN campaign.expense_line AS line ON written.id = line.invoice_line_id
        WHERE (written.invoice_id, written.amount) IS DISTINCT FROM (gone.invoice_id, gone.amount);
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.invoice_line
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_invoice_line_change();

CREATE OR REPLACE FUNCTION campaign.note_expense_line_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO campaign.cost_change (element, element_id)
        SELECT
            CASE WHEN written.delivery_id IS NOT NULL THEN 'delivery' ELSE 'task' END,
            coalesce(written.delivery_id, written.task_id)
        FROM written
        INNER JOIN gone ON written.id = gone.id
        WHERE written.invoice_line_id IS DISTINCT FROM gone.invoice_line_id;
    END IF;
    PERFORM campaign.announce_cost_change(FOUND);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER note_cost_change_on_update AFTER UPDATE ON campaign.expense_line
REFERENCING OLD TABLE AS gone NEW TABLE AS written FOR EACH STATEMENT
WHEN (current_setting('campaign.cost_bookkeeping', TRUE) IS DISTINCT FROM 'off')
EXECUTE FUNCTION campaign.note_expense_line_change();
