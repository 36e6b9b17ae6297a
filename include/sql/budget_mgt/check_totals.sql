-- Prove that every total is the sum of what is below it, to the cent: in a full run all of them, else those
-- of the campaigns that were calculated since the last check, and all above the campaigns.
--
-- Grain: one journal error per difference (there are none, unless somebody wrote a total by hand or a rule
-- is wrong); anyone can look at campaign.total_difference. A run for the past changes no total, so it checks none.
CREATE TEMPORARY TABLE difference ON COMMIT DROP AS
SELECT
    found.total_of,
    found.name,
    found.campaign_id,
    found.total,
    found.sum_below
FROM campaign.total_difference AS found
WHERE %(full)s::boolean AND NOT %(is_past)s::boolean;

WITH due AS (
    DELETE FROM campaign.cost_check
    WHERE NOT %(is_past)s::boolean
    RETURNING campaign_id
),

checked AS (
    SELECT coalesce(array_agg(DISTINCT due.campaign_id), '{}') AS campaign_ids
    FROM due
)

INSERT INTO difference (total_of, name, campaign_id, total, sum_below)
SELECT
    found.total_of,
    found.name,
    found.campaign_id,
    found.total,
    found.sum_below
FROM checked
CROSS JOIN LATERAL campaign.total_differences(checked.campaign_ids) AS found
WHERE NOT %(full)s::boolean AND NOT %(is_past)s::boolean;

INSERT INTO campaign.journal (level, source, run_id, campaign_id, message)
SELECT
    'error',
    %(dag_id)s::text,
    %(run_id)s::text,
    difference.campaign_id,
    format(
        'The %%s (%%s) is %%s, but what is below it adds up to %%s: run budgetMgt with full, '
        'and if that does not mend it, report it.',
        difference.total_of, difference.name, difference.total, difference.sum_below
    )
FROM difference;

SELECT count(*) AS totals_that_differ
FROM difference;
