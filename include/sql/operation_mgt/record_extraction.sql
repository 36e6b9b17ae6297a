-- A file that lies whole in its place: the one before it is superseded, the delivery's file is to be
-- approved. Nothing is recorded when the delivery was canceled meanwhile.
-- Grain: one file, one delivery. Rerun: the delivery is not being extracted any more, nothing is changed.

UPDATE campaign.extraction_file AS file
SET status = 'superseded'
FROM campaign.delivery
WHERE
    file.delivery_id = %(delivery_id)s::bigint
    AND file.status = 'current'
    AND delivery.id = file.delivery_id
    AND delivery.status = 'extracting';

WITH extracted AS (
    UPDATE campaign.delivery AS delivery
    SET status = 'file_to_approve', extracted_at = %(as_of)s::timestamptz
    WHERE delivery.id = %(delivery_id)s::bigint AND delivery.status = 'extracting'
    RETURNING delivery.id, delivery.campaign_id, delivery.label
),

ended AS (
    DELETE FROM campaign.extraction_attempt AS attempt
    USING extracted
    WHERE attempt.delivery_id = extracted.id
),

recorded AS (
    INSERT INTO campaign.extraction_file (
        delivery_id, version, file_name, url, row_count, byte_count, sha256, created_at
    )
    SELECT
        extracted.id,
        %(version)s::integer,
        %(file_name)s::text,
        %(url)s::text,
        %(row_count)s::bigint,
        %(byte_count)s::bigint,
        %(sha256)s::text,
        %(as_of)s::timestamptz
    FROM extracted
),

written AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        extracted.campaign_id,
        extracted.id,
        format(
            'The file %%s of %%L was extracted (version %%s): %%s rows, %%s bytes, SHA-256 %%s.',
            %(file_name)s::text, extracted.label, %(version)s::integer, %(row_count)s::bigint,
            %(byte_count)s::bigint, %(sha256)s::text
        ) AS message
    FROM extracted
),

warned AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        extracted.campaign_id,
        extracted.id,
        warning.message
    FROM extracted
    CROSS JOIN unnest(%(warnings)s::text[]) AS warning (message)
)

SELECT count(*) AS recorded FROM extracted;
