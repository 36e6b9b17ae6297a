-- What is wrong with the house now: the five workflows, and whether this database may send.
-- Grain: one row per thing that is not well, in the order of the view. Changes nothing.
SELECT
    health.label,
    health.state,
    health.since,
    health.detail,
    health.log_url
FROM campaign.house_health AS health
WHERE NOT health.is_well;
