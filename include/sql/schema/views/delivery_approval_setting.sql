-- What holds for each delivery and kind of approval: its own policy, else its campaign's, else that of the
-- template its campaign follows. Grain: one row per delivery and kind that its channel knows.
CREATE OR REPLACE VIEW campaign.approval_setting AS
WITH kind_of_channel (kind, channels) AS (
    VALUES
    ('content', ARRAY['direct_mail', 'email', 'sms', 'push']),
    ('target', ARRAY['direct_mail', 'email', 'sms', 'push']),
    ('budget', ARRAY['direct_mail', 'email', 'sms', 'push']),
    ('extraction', ARRAY['direct_mail']),
    ('proof', ARRAY['direct_mail']),
    ('start', ARRAY['email', 'sms', 'push'])
)

SELECT
    delivery.id AS delivery_id,
    kind_of_channel.kind,
    policy.id AS approval_policy_id,
    coalesce(policy.enabled, FALSE)
    OR delivery.approvals_demanded
    -- A budget is approved for a target that was: the one demands the other.
    OR (kind_of_channel.kind = 'target' AND coalesce(budget_policy.enabled, FALSE)) AS is_demanded,
    coalesce(policy.deadline, interval '3 days') AS deadline,
    coalesce(policy.reminders, '{}') AS reminders
FROM campaign.delivery AS delivery
INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
INNER JOIN kind_of_channel ON delivery.channel = ANY(kind_of_channel.channels)
LEFT JOIN LATERAL (
    SELECT
        candidate.id,
        candidate.enabled,
        candidate.deadline,
        candidate.reminders
    -- One branch for each index: an OR of the two reads every policy for every delivery.
    FROM (
        SELECT own.*
        FROM campaign.approval_policy AS own
        WHERE own.delivery_id = delivery.id AND own.kind = kind_of_channel.kind
        UNION ALL
        SELECT inherited.*
        FROM campaign.approval_policy AS inherited
        WHERE
            inherited.campaign_id = ANY(
                ARRAY[campaign.id, CASE WHEN campaign.follows_template THEN campaign.template_id END]
            )
            AND inherited.kind = kind_of_channel.kind
    ) AS candidate
    ORDER BY
        candidate.delivery_id IS NOT NULL DESC,
        candidate.campaign_id = campaign.id DESC
    LIMIT 1
) AS policy ON TRUE
LEFT JOIN LATERAL (
    SELECT candidate.enabled
    FROM (
        SELECT own.*
        FROM campaign.approval_policy AS own
        WHERE own.delivery_id = delivery.id AND own.kind = 'budget'
        UNION ALL
        SELECT inherited.*
        FROM campaign.approval_policy AS inherited
        WHERE inherited.campaign_id = ANY(
            ARRAY[campaign.id, CASE WHEN campaign.follows_template THEN campaign.template_id END]
        ) AND inherited.kind = 'budget'
    ) AS candidate
    ORDER BY
        candidate.delivery_id IS NOT NULL DESC,
        candidate.campaign_id = campaign.id DESC
    LIMIT 1
) AS budget_policy ON kind_of_channel.kind = 'target';
