-- The campaigns that repeat and are open: recurring ones, and periodic ones, which are the templates of what they
-- create. Grain: one row per campaign.
CREATE OR REPLACE VIEW campaign.repeating_campaign AS
SELECT
    campaign.id,
    campaign.internal_name,
    campaign.label,
    campaign.kind,
    campaign.starts_at,
    campaign.time_zone,
    campaign.recurrence,
    campaign.submit_for_approval,
    campaign.automatic_start,
    campaign.missed_starts,
    coalesce(campaign.creation_cap, campaign.whole_setting('creation_cap', 100)) AS creation_cap,
    -- A line is served so long before its start.
    CASE campaign.kind WHEN 'recurring' THEN campaign.create_in_advance ELSE interval '0' END AS created_before,
    -- A periodic campaign without a duration has the one of its dates: they do not end its schedule.
    CASE
        WHEN campaign.kind = 'periodic' AND campaign.duration IS NULL THEN timestamptz 'infinity'
        ELSE coalesce(campaign.ends_at, 'infinity')
    END AS series_ends_at,
    -- What the lines of the rule depend on.
    concat_ws(
        ' ', campaign.recurrence, campaign.time_zone, extract(EPOCH FROM campaign.starts_at),
        extract(EPOCH FROM campaign.ends_at), campaign.duration
    ) AS rule
FROM campaign.campaign AS campaign
WHERE
    campaign.kind IN ('recurring', 'periodic')
    AND campaign.status IN ('being_edited', 'started')
    -- The template of recurring campaigns is only copied.
    AND (campaign.kind = 'periodic' OR NOT campaign.is_template);
