-- Take an answer that is whole and right: its lines from the work table returned, counts, and the journal.
--
-- Grain: one provider_return, one line per recipient that it names. A file of the same name is a corrected
-- version: it takes the place of the one before, lines and all. Rerun: a version is taken once; the one of
-- seen_id is not 'seen' any more.

-- A version that was replaced, and came back.
DELETE FROM campaign.provider_return AS before
USING campaign.provider_return AS seen
WHERE
    seen.id = %(seen_id)s::bigint
    AND before.service_id = seen.service_id AND before.file_name = seen.file_name
    AND before.sha256 = %(sha256)s::text AND before.status = 'superseded';

UPDATE campaign.provider_return AS before
SET status = 'superseded'
FROM campaign.provider_return AS seen
WHERE
    seen.id = %(seen_id)s::bigint
    AND before.service_id = seen.service_id AND before.file_name = seen.file_name AND before.status = 'taken';

UPDATE campaign.provider_return AS seen
SET
    status = 'taken',
    sha256 = %(sha256)s::text,
    delivery_id = %(delivery_id)s::bigint,
    row_count = (SELECT count(*) FROM returned),
    received_at = %(as_of)s::timestamptz,
    run_id = %(run_id)s::text
WHERE seen.id = %(seen_id)s::bigint AND seen.status = 'seen';

INSERT INTO campaign.provider_return_line (provider_return_id, recipient_id, status, reason, printed, posted)
SELECT
    %(seen_id)s::bigint AS provider_return_id,
    returned.recipient_id,
    returned.status,
    returned.reason,
    returned.printed,
    returned.posted
FROM returned
ORDER BY returned.recipient_id;

SELECT campaign.count_answers(array_agg(DISTINCT version.delivery_id), %(as_of)s::timestamptz) AS report
FROM campaign.provider_return AS taken
INNER JOIN campaign.provider_return AS version
    ON
        taken.service_id = version.service_id AND taken.file_name = version.file_name
        AND version.status IN ('taken', 'superseded')
WHERE taken.id = %(seen_id)s::bigint;

INSERT INTO campaign.journal (source, run_id, campaign_id, delivery_id, message)
SELECT
    %(dag_id)s::text AS source,
    %(run_id)s::text AS run_id,
    delivery.campaign_id,
    delivery.id AS delivery_id,
    concat_ws(
        ', ',
        format(
            'The answer %%s%%s of %%s about %%L was taken: %%s rows, SHA-256 %%s. So far %%s of %%s rows are answered',
            taken.file_name,
            CASE
                WHEN EXISTS (
                    SELECT 1 FROM campaign.provider_return AS before
                    WHERE
                        before.service_id = taken.service_id AND before.file_name = taken.file_name
                        AND before.status = 'superseded'
                ) THEN ' (a corrected version, which replaces the one before)'
            END,
            provider.label, delivery.label, taken.row_count, taken.sha256, answer.answered, file.row_count
        ),
        answer.accepted || ' accepted',
        answer.rejected || ' rejected',
        answer.printed || ' printed',
        answer.posted || ' posted'
    ) || '.' AS message
FROM campaign.provider_return AS taken
INNER JOIN campaign.service AS service ON taken.service_id = service.id
INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
INNER JOIN campaign.delivery AS delivery ON taken.delivery_id = delivery.id
INNER JOIN campaign.provider_answer AS answer ON delivery.id = answer.delivery_id
LEFT JOIN campaign.extraction_file AS file ON answer.extraction_file_id = file.id
WHERE taken.id = %(seen_id)s::bigint;
