-- Remove what is older than the setting journal_kept_for from the journal: once a day, 20,000 lines at a time.
-- Kept is what is about a campaign that is not over, however old: it explains amounts that still move.
-- Returns the lines removed. A run as of a moment to come removes nothing early.
CREATE OR REPLACE FUNCTION campaign.clean_journal(dag_id text, run_id text, as_of timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    batch_size CONSTANT bigint := 20000;
    kept_for CONSTANT interval := (
        SELECT (setting.value #>> '{}')::interval
        FROM campaign.setting AS setting
        WHERE setting.name = 'journal_kept_for'
    );
    -- Midnight: once a day there is something to do.
    kept_from CONSTANT timestamptz := date_trunc('day', least(as_of, clock_timestamp()) - kept_for, 'UTC');
    removed bigint;
BEGIN
    IF kept_from IS NULL OR EXISTS (
        SELECT 1
        FROM campaign.technical_run AS run
        WHERE run.journal_cleaned_until >= kept_from
    ) OR NOT pg_try_advisory_xact_lock(hashtextextended('campaign.clean_journal', 0)) THEN
        RETURN 0;
    END IF;
    WITH old AS (
        SELECT journal.id
        FROM campaign.journal AS journal
        LEFT OUTER JOIN campaign.delivery AS delivery ON journal.delivery_id = delivery.id
        LEFT OUTER JOIN campaign.task AS task ON journal.task_id = task.id
        LEFT OUTER JOIN campaign.campaign AS campaign
            ON coalesce(journal.campaign_id, delivery.campaign_id, task.campaign_id) = campaign.id
        WHERE
            journal.at < kept_from
            AND (campaign.id IS NULL OR campaign.status IN ('finished', 'canceled'))
        ORDER BY journal.at
        LIMIT batch_size
    )

    DELETE FROM campaign.journal AS journal
    USING old
    WHERE journal.id = old.id;
    GET DIAGNOSTICS removed = ROW_COUNT;
    -- A batch that is not full was the last one of this day.
    IF removed < batch_size THEN
        UPDATE campaign.technical_run AS run
        SET journal_cleaned_until = kept_from
        WHERE run.dag_id = dag_id AND run.run_id = run_id;
    END IF;
    RETURN removed;
END
$$;
