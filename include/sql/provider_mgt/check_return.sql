-- Say whose answer the rows in the work table returned are, and what is wrong with them: null, or sentences.
--
-- Grain: one row. Reads only.
WITH first_row AS (
    SELECT
        returned.delivery_id,
        delivery.label,
        answer.service_id
    FROM returned
    LEFT JOIN campaign.delivery AS delivery ON returned.delivery_id = delivery.id
    LEFT JOIN campaign.provider_answer AS answer ON delivery.id = answer.delivery_id
    ORDER BY returned.row_number
    LIMIT 1
),

wrong AS (
    SELECT
        1 AS place,
        'there is no delivery with the number in its keys.' AS words
    FROM first_row
    WHERE first_row.label IS NULL
    UNION ALL
    SELECT
        2 AS place,
        format('its keys are of the delivery %%L, which this service was not given.', first_row.label) AS words
    FROM first_row
    WHERE first_row.label IS NOT NULL AND first_row.service_id IS DISTINCT FROM %(service_id)s::bigint
    UNION ALL
    SELECT
        3 AS place,
        format(
            'rows with the key of another delivery than %%L: %%s (row %%s the first): a file answers for one.',
            first_row.label, count(*), min(returned.row_number)
        ) AS words
    FROM returned
    INNER JOIN first_row ON returned.delivery_id <> first_row.delivery_id
    WHERE first_row.label IS NOT NULL
    GROUP BY first_row.label
    UNION ALL
    SELECT
        4 AS place,
        format(
            'rows with a key that %%L does not have: %%s (row %%s the first).',
            first_row.label, count(*), min(returned.row_number)
        ) AS words
    FROM returned
    INNER JOIN first_row ON returned.delivery_id = first_row.delivery_id
    WHERE
        first_row.service_id = %(service_id)s::bigint
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.delivery_target AS target
            WHERE
                target.delivery_id = returned.delivery_id
                AND target.recipient_id = returned.recipient_id
                AND target.role IN ('main', 'seed')
        )
    GROUP BY first_row.label
    UNION ALL
    SELECT
        5 AS place,
        format(
            'keys that stand more than once: %%s (row %%s the first).',
            count(*), min(doubled.row_number)
        ) AS words
    FROM (
        SELECT min(returned.row_number) AS row_number
        FROM returned
        GROUP BY returned.delivery_id, returned.recipient_id
        HAVING count(*) > 1
    ) AS doubled
    HAVING count(*) > 0
)

SELECT
    (
        SELECT first_row.delivery_id FROM first_row
        WHERE first_row.label IS NOT NULL
    ) AS delivery_id,
    (SELECT string_agg(wrong.words, ' ' ORDER BY wrong.place) FROM wrong) AS error;
