CREATE TABLE by_hand.tariff AS
WITH bounded AS (
    SELECT
        *,
        coalesce(lag(up_to) OVER (PARTITION BY cost_structure_id ORDER BY up_to), 0) AS above
    FROM campaign.cost_threshold
),

summed AS (
    SELECT
        *,
        sum((up_to - above) * amount) OVER (PARTITION BY cost_structure_id ORDER BY up_to) AS base
    FROM bounded
),

bands AS (
    SELECT
        cost_structure_id,
        array_agg(up_to ORDER BY up_to) AS up_to,
        array_agg(amount ORDER BY up_to) AS amounts,
        array_agg(base ORDER BY up_to) AS bases
    FROM summed
    GROUP BY cost_structure_id
)

SELECT
    structure.cost_type_id,
    coalesce(structure.method, structure.basis) AS method,
    structure.amount,
    structure.batch_size,
    coalesce(bands.up_to, '{}') AS up_to,
    array_append(bands.amounts, structure.beyond_amount) AS amounts,
    array_prepend(0.0, bands.bases) AS bases,
    array_prepend(0::bigint, bands.up_to) AS above
FROM campaign.cost_structure AS structure
LEFT JOIN bands ON structure.id = bands.cost_structure_id;
ANALYZE by_hand.tariff;
