-- Total the rows of {{ level.table }} that changed, or have something changed below them.
--
-- The cost of a row is the real cost entered for it, else the sum of what is below it, else, where nothing is
-- below, its provisional cost. Passes the rows above on. Rerun: only what differs is written.
CREATE TEMPORARY TABLE {{ level.name }}_costed ON COMMIT DROP AS
WITH touched AS (
    SELECT DISTINCT changed_cost.id
    FROM changed_cost
    WHERE changed_cost.level = '{{ level.name }}'
),

elements AS (
    SELECT
        NULL::bigint AS id,
        NULL::numeric AS amount
    WHERE FALSE
    {% for source in level.below %}
    UNION ALL
    SELECT
        below.{{ source.column }} AS id,
        below.calculated_cost AS amount
    FROM touched
    INNER JOIN {{ source.table }} AS below ON touched.id = below.{{ source.column }}
    WHERE {{ source.condition }} -- noqa: RF02
    {% endfor %}
),

summed AS (
    SELECT
        elements.id,
        sum(coalesce(elements.amount, 0.00)) AS amount
    FROM elements
    GROUP BY elements.id
)

SELECT
    edited.id,
    coalesce(edited.real_cost, summed.amount, edited.provisional_cost, 0.00) AS calculated_cost,
    coalesce(summed.amount, 0.00) AS below
FROM touched
INNER JOIN {{ level.table }} AS edited ON touched.id = edited.id
LEFT JOIN summed ON touched.id = summed.id;

{% if level.above %}
INSERT INTO changed_cost (level, id)
SELECT DISTINCT
    '{{ level.above.name }}' AS level,
    edited.{{ level.above.column }} AS id
FROM {{ level.name }}_costed AS costed
INNER JOIN {{ level.table }} AS edited ON costed.id = edited.id
WHERE edited.{{ level.above.column }} IS NOT NULL;
{% endif %}

MERGE INTO campaign.cost_total AS total
USING {{ level.name }}_costed AS costed
    ON total.level = '{{ level.name }}' AND total.element_id = costed.id
WHEN MATCHED AND (total.own_amount, total.below_amount)
IS DISTINCT FROM (costed.calculated_cost - costed.below, costed.below) THEN
    UPDATE
        SET
            own_amount = costed.calculated_cost - costed.below,
            below_amount = costed.below,
            computed_at = %(as_of)s::timestamptz,
            run_id = %(run_id)s::text
WHEN NOT MATCHED THEN
    INSERT (level, element_id, own_amount, below_amount, computed_at, run_id)
    VALUES (
        '{{ level.name }}', costed.id, costed.calculated_cost - costed.below, costed.below,
        %(as_of)s::timestamptz, %(run_id)s::text
    );

WITH written AS (
    UPDATE {{ level.table }} AS edited
    SET calculated_cost = costed.calculated_cost
    FROM {{ level.name }}_costed AS costed
    WHERE edited.id = costed.id AND edited.calculated_cost IS DISTINCT FROM costed.calculated_cost
    RETURNING edited.id
)

SELECT count(*) AS {{ level.name }}_totals_changed
FROM written;
