-- Who must agree before the catalog leaves the house: to its content, target, budget and file.
-- Grain: one row per kind of approval, and per reviewer of a kind.
-- Rerun: rows that are there stay as they are.

INSERT INTO campaign.approval_policy (campaign_id, kind, enabled, deadline, reminders)
SELECT
    (
        SELECT campaign.id FROM campaign.campaign
        WHERE campaign.internal_name = 'loyalty'
    ) AS campaign_id,
    entry.kind,
    TRUE AS enabled,
    interval '3 days' AS deadline,
    entry.reminders
FROM (
    VALUES
    ('content', ARRAY[interval '1 day']),
    ('target', ARRAY[interval '1 day']),
    ('budget', ARRAY[interval '1 day', interval '2 hours']),
    ('extraction', ARRAY[interval '1 day', interval '2 hours'])
) AS entry (kind, reminders)
ON CONFLICT DO NOTHING;

-- Each row names a person or a group. The owner of the campaign is none of them.
INSERT INTO campaign.approval_policy_reviewer (approval_policy_id, staff_id, staff_group_id)
SELECT
    (
        SELECT approval_policy.id
        FROM campaign.approval_policy
        INNER JOIN campaign.campaign ON approval_policy.campaign_id = campaign.id
        WHERE campaign.internal_name = 'loyalty' AND approval_policy.kind = entry.kind
    ) AS approval_policy_id,
    (
        SELECT staff.id FROM campaign.staff
        WHERE staff.internal_name = entry.staff
    ) AS staff_id,
    (
        SELECT staff_group.id FROM campaign.staff_group
        WHERE staff_group.internal_name = entry.staff_group
    ) AS staff_group_id
FROM (
    VALUES
    ('content', 'ursula', NULL),
    ('target', 'ursula', NULL),
    ('target', 'vera', NULL),
    ('budget', NULL, 'finance'),
    ('extraction', 'ursula', NULL),
    ('extraction', 'vera', NULL)
) AS entry (kind, staff, staff_group)
ON CONFLICT DO NOTHING;
