-- The folders in which answers may lie: of services that were given something lately.
--
-- Grain: one row per service. Reads only. A run limited to a campaign looks where that campaign's answers go.
SELECT
    service.id AS service_id,
    service.label AS service,
    provider.label AS provider,
    service.returns_url,
    service.returns_pattern,
    service.returns_format,
    coalesce(service.returns_conn_id, provider.storage_conn_id) AS conn_id
FROM campaign.service AS service
INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
WHERE
    service.returns_url IS NOT NULL
    AND service.id IN (
        SELECT answer.service_id
        FROM campaign.provider_answer AS answer
        INNER JOIN campaign.delivery AS delivery ON answer.delivery_id = delivery.id
        INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
        WHERE
            (
                %(full)s::boolean
                OR answer.handed_at > %(as_of)s::timestamptz - (
                    SELECT (setting.value #>> '{}')::interval FROM campaign.setting AS setting
                    WHERE setting.name = 'returns_watched_for'
                )
            )
            AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    )
ORDER BY service.id;
