-- What is wrong with the five workflows now: the view of the watch over them.
-- Grain: one row per trouble, longest first. Changes nothing.
SELECT
    trouble.workflow,
    trouble.message,
    trouble.advice
FROM campaign.workflow_trouble AS trouble
ORDER BY trouble.since, trouble.workflow;
