-- What a mail has no room for: the texts that are sent, the items of the outline, the question that the
-- target answers, and where the file is.
-- Grain: one row. Changes nothing.
SELECT
    delivery.body_text,
    delivery.requested_quantity,
    file.url AS file_url,
    file.version AS file_version,
    file.created_at AS file_created_at,
    delivery.body_html IS NOT NULL AS has_html,
    delivery.body_html ~* '<img|url[(]' AS has_pictures,
    (
        SELECT
            jsonb_agg(
                jsonb_build_object('label', item.label, 'description', item.description, 'cost', item.cost::text)
                ORDER BY item.id
            )
        FROM campaign.delivery_outline_item AS item
        WHERE item.outline_id = delivery.outline_id
    ) AS outline_items,
    (
        SELECT jsonb_build_object('label', template.label, 'dag_id', template.dag_id, 'conf', template.conf)
        FROM campaign.workflow_template AS template
        WHERE template.id = delivery.workflow_template_id
    ) AS targeting
FROM campaign.delivery
LEFT JOIN campaign.extraction_file AS file ON delivery.id = file.delivery_id AND file.status = 'current'
WHERE delivery.id = %(delivery_id)s::bigint;
