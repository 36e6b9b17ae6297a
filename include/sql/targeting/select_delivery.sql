-- The delivery that a targeting run prepares, locked so that nobody cancels or changes it meanwhile.
-- Grain: one row. Changes nothing.

SELECT
    delivery.id,
    delivery.label,
    delivery.campaign_id,
    delivery.channel,
    delivery.status,
    delivery.requested_quantity,
    workflow.internal_name AS workflow,
    workflow.status AS workflow_status,
    campaign.missing_cost_categories(delivery.id) AS missing_cost_categories
FROM campaign.delivery
LEFT JOIN campaign.workflow ON delivery.workflow_id = workflow.id
WHERE delivery.internal_name = %(delivery)s::text
FOR UPDATE OF delivery;
