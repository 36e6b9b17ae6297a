-- A delivery whose file is written from now on, under this name.
-- Grain: one row. Rerun: a delivery that is being extracted is not claimed again.

WITH claimed AS (
    UPDATE campaign.delivery AS delivery
    SET status = 'extracting'
    WHERE
        delivery.id = %(delivery_id)s::bigint
        AND delivery.status = 'extraction_pending'
        AND campaign.delivery_is_cleared(delivery.id, %(as_of)s::timestamptz)
    RETURNING delivery.id
)

INSERT INTO campaign.extraction_attempt (delivery_id, version, file_name, started_at, run_id)
SELECT
    claimed.id,
    %(version)s::integer,
    %(file_name)s::text,
    %(as_of)s::timestamptz,
    %(run_id)s::text
FROM claimed
ON CONFLICT (delivery_id) DO UPDATE
    SET
        version = excluded.version,
        file_name = excluded.file_name,
        started_at = excluded.started_at,
        run_id = excluded.run_id
RETURNING delivery_id;
