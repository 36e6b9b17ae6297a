-- Record where the budgets stood on the day of the run, at the latest moment that any run of that day
-- worked as of. Days end at midnight in the time zone of the instance (setting time_zone).
--
-- Grain: one row per day, budget, expense category and level that holds an amount. Not for a run limited to a
-- campaign: a budget is charged by others too. Rerun: the same rows; only what differs is written.
CREATE TEMPORARY TABLE recorded_day ON COMMIT DROP AS
SELECT (%(as_of)s::timestamptz AT TIME ZONE campaign.instance_time_zone())::date AS as_of
WHERE %(campaign)s::text IS NULL;

DELETE FROM recorded_day
USING campaign.budget_history_day AS day
WHERE recorded_day.as_of = day.as_of AND day.computed_as_of > %(as_of)s::timestamptz;

INSERT INTO campaign.budget_history_day (as_of, computed_as_of, run_id)
SELECT
    recorded_day.as_of,
    %(as_of)s::timestamptz,
    %(run_id)s::text
FROM recorded_day
ON CONFLICT (
    as_of) DO UPDATE SET computed_as_of = excluded.computed_as_of, run_id = excluded.run_id
WHERE budget_history_day.computed_as_of < excluded.computed_as_of;

CREATE TEMPORARY TABLE position ON COMMIT DROP AS
SELECT
    recorded_day.as_of,
    entry.budget_id,
    entry.expense_category_id,
    entry.level,
    entry.amount
FROM recorded_day
CROSS JOIN jsonb_to_recordset(%(position)s::jsonb) AS entry (
    budget_id bigint, expense_category_id bigint, level text, amount numeric
);

DELETE FROM campaign.budget_history AS history
USING recorded_day
WHERE
    history.as_of = recorded_day.as_of
    AND NOT EXISTS (
        SELECT 1
        FROM position
        WHERE
            position.budget_id = history.budget_id
            AND coalesce(position.expense_category_id, 0) = coalesce(history.expense_category_id, 0)
            AND position.level = history.level
    );

MERGE INTO campaign.budget_history AS history
USING position
    ON
        history.as_of = position.as_of
        AND history.budget_id = position.budget_id
        AND coalesce(history.expense_category_id, 0) = coalesce(position.expense_category_id, 0)
        AND history.level = position.level
WHEN MATCHED AND history.amount <> position.amount THEN UPDATE SET amount = position.amount
WHEN NOT MATCHED THEN
    INSERT (as_of, budget_id, expense_category_id, level, amount)
    VALUES (position.as_of, position.budget_id, position.expense_category_id, position.level, position.amount);

SELECT count(*) AS amounts_of_the_day
FROM position;
