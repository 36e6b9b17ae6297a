-- Note which answers lie in a folder, and find those to be read: new or changed, and settled since.
--
-- Grain: one provider_return 'seen' per file of a service that is not read yet as it is. Rerun: what has not
-- changed keeps the moment since when it is so. A file that went away unread is forgotten.
DELETE FROM campaign.provider_return AS gone
WHERE
    gone.service_id = %(service_id)s::bigint
    AND gone.status = 'seen'
    AND gone.file_name <> ALL(%(names)s::text[]);

INSERT INTO campaign.provider_return AS noted
(service_id, file_name, byte_count, modified_at, seen_at)
SELECT
    %(service_id)s::bigint AS service_id,
    listed.file_name,
    listed.byte_count,
    listed.modified_at,
    %(as_of)s::timestamptz AS seen_at
FROM
    unnest(%(names)s::text[], %(sizes)s::bigint[], %(moments)s::timestamptz[])
        AS listed (file_name, byte_count, modified_at)
LEFT JOIN LATERAL (  -- noqa: ST05
    SELECT
        earlier.byte_count,
        earlier.modified_at
    FROM campaign.provider_return AS earlier
    WHERE
        earlier.service_id = %(service_id)s::bigint AND earlier.file_name = listed.file_name
        AND earlier.status <> 'seen'
    ORDER BY earlier.seen_at DESC, earlier.id DESC
    LIMIT 1
) AS known ON TRUE
WHERE (listed.byte_count, listed.modified_at) IS DISTINCT FROM (known.byte_count, known.modified_at)
ON CONFLICT (service_id, file_name) WHERE status = 'seen' DO UPDATE
    -- A new id: what a later file says counts, and this is as late as its last change.
    SET
        id = excluded.id,
        byte_count = excluded.byte_count,
        modified_at = excluded.modified_at,
        seen_at = excluded.seen_at
    WHERE
    (noted.byte_count, noted.modified_at) IS DISTINCT FROM (excluded.byte_count, excluded.modified_at);

SELECT
    seen.id,
    seen.file_name,
    seen.byte_count,
    seen.modified_at,
    %(is_atomic)s::boolean OR seen.seen_at <= %(as_of)s::timestamptz - (
        SELECT (setting.value #>> '{}')::interval FROM campaign.setting AS setting
        WHERE setting.name = 'returns_settle'
    ) AS is_settled
FROM campaign.provider_return AS seen
WHERE seen.service_id = %(service_id)s::bigint AND seen.status = 'seen'
ORDER BY seen.id;
