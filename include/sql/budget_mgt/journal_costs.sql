-- Enter in the journal which costs changed, from what to what and why.
--
-- Grain: one line per delivery or task whose calculated cost changed; where these are more than a thousand, as after
-- a load of prices, one line per campaign. Rerun: nothing changed.
WITH changed AS (
    SELECT
        costed.kind,
        costed.id,
        costed.campaign_id,
        coalesce(costed.old_calculated_cost, 0.00) AS before,
        CASE WHEN costed.is_template THEN 0.00 ELSE coalesce(costed.real, costed.cost_total) END AS after,
        CASE
            WHEN costed.is_template THEN 'a template costs nothing'
            WHEN costed.real IS NOT NULL THEN 'the real cost that was entered'
            WHEN costed.is_canceled THEN 'it was canceled'
            WHEN costed.is_split THEN 'the sum of its split'
            ELSE 'its provisional cost'
        END AS reason
    FROM costed
),

told AS MATERIALIZED (
    SELECT changed.*
    FROM changed
    WHERE changed.before <> changed.after
),

counted AS (
    SELECT count(*) > 1000 AS are_many
    FROM told
)

INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, task_id, message)
SELECT
    %(dag_id)s::text,
    %(run_id)s::text,
    told.campaign_id,
    CASE WHEN told.kind = 'delivery' THEN told.id END,
    CASE WHEN told.kind = 'task' THEN told.id END,
    format(
        'The cost of %%s %%L went from %%s to %%s: %%s.',
        told.kind, coalesce(delivery.label, task.label), told.before, told.after,
        CASE WHEN derived.is_entered THEN 'the real cost by what its provider answered' ELSE told.reason END
    )
FROM told
LEFT JOIN campaign.delivery AS delivery ON told.kind = 'delivery' AND told.id = delivery.id
LEFT JOIN derived ON told.kind = 'delivery' AND told.id = derived.delivery_id
LEFT JOIN campaign.task AS task ON told.kind = 'task' AND told.id = task.id
WHERE NOT (SELECT counted.are_many FROM counted)
UNION ALL
SELECT
    %(dag_id)s::text,
    %(run_id)s::text,
    told.campaign_id,
    NULL,
    NULL,
    format(
        'The costs of %%s of its deliveries and tasks went from %%s to %%s together.',
        count(*), sum(told.before), sum(told.after)
    )
FROM told
WHERE (SELECT counted.are_many FROM counted)
GROUP BY told.campaign_id;
