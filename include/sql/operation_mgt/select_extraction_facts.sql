-- Everything about a delivery that its file, the name of the file and a preview are made from. Amounts are
-- text: a reader of JSON would round them.
-- Grain: one row. Changes nothing.

SELECT
    delivery.id,
    delivery.status,
    delivery.campaign_id,
    delivery.label,
    attempt.file_name AS attempted_file_name,
    service.label AS service_label,
    service.file_name_template,
    coalesce(
        attempt.version,
        (
            SELECT max(file.version) FROM campaign.extraction_file AS file
            WHERE file.delivery_id = delivery.id
        ) + 1,
        1
    ) AS version,
    jsonb_build_object(
        'delivery', jsonb_build_object(
            'id', delivery.id,
            'internal_name', delivery.internal_name,
            'label', delivery.label,
            'channel', delivery.channel,
            'subject', delivery.subject,
            'sender', delivery.sender,
            'contact_date', delivery.contact_date,
            'message_count', delivery.message_count
        ),
        'campaign', jsonb_build_object('internal_name', campaign.internal_name, 'label', campaign.label),
        'service', jsonb_build_object('internal_name', service.internal_name, 'label', service.label),
        'provider', jsonb_build_object(
            'internal_name', provider.internal_name, 'label', provider.label, 'email', provider.email
        ),
        'outline', jsonb_build_object(
            'internal_name', outline.internal_name,
            'label', items.labels,
            'description', items.descriptions,
            'cost', items.cost::text
        )
    ) AS facts,
    to_jsonb(export_format.*) AS export_format
FROM campaign.delivery
INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
LEFT JOIN campaign.extraction_attempt AS attempt ON delivery.id = attempt.delivery_id
LEFT JOIN campaign.service ON delivery.service_id = service.id
LEFT JOIN campaign.provider ON service.provider_id = provider.id
LEFT JOIN campaign.export_format ON service.export_format_id = export_format.id
LEFT JOIN campaign.delivery_outline AS outline ON delivery.outline_id = outline.id
LEFT JOIN LATERAL (
    SELECT
        string_agg(item.label, ', ' ORDER BY item.id) AS labels,
        string_agg(item.description, '; ' ORDER BY item.id) AS descriptions,
        sum(item.cost) AS cost
    FROM campaign.delivery_outline_item AS item
    WHERE item.outline_id = outline.id
) AS items ON TRUE
WHERE delivery.id = %(delivery_id)s::bigint;
