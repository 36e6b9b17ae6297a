-- The delivery that a targeting run prepares. Its row is not locked: preparing it can take minutes, and nobody who
-- cancels it, and no other workflow, should wait so long. That nothing was changed meanwhile is asked at the end.
-- Grain: one row. Changes nothing.

SELECT
    delivery.id,
    delivery.label,
    delivery.campaign_id,
    delivery.channel,
    delivery.status,
    delivery.requested_quantity,
    delivery.analysed_at,
    delivery.targeted_count,
    delivery.message_count,
    delivery.workflow_id,
    workflow.internal_name AS workflow,
    workflow.status AS workflow_status,
    campaign.missing_cost_categories(delivery.id) AS missing_cost_categories
FROM campaign.delivery
LEFT JOIN campaign.workflow ON delivery.workflow_id = workflow.id
WHERE delivery.internal_name = %(delivery)s::text;
