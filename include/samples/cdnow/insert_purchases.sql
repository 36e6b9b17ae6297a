-- The purchases of the file.
-- Grain: one row per line of the file, equal lines included: two equal purchases on one day are two.
-- Rerun: of equal purchases, only as many are inserted as the table has fewer than the file.

ANALYZE sample_purchase;

WITH offered AS (
    SELECT
        sample_purchase.line_number,
        recipient.id AS recipient_id,
        sample_purchase.purchased_on,
        sample_purchase.quantity,
        sample_purchase.amount,
        row_number() OVER (
            PARTITION BY
                recipient.id,
                sample_purchase.purchased_on,
                sample_purchase.quantity,
                sample_purchase.amount
            ORDER BY sample_purchase.line_number
        ) AS nth
    FROM sample_purchase
    INNER JOIN campaign.recipient
        ON sample_purchase.recipient = recipient.internal_name
),

present AS (
    SELECT
        purchase.recipient_id,
        purchase.purchased_on,
        purchase.quantity,
        purchase.amount,
        count(*) AS copies
    FROM campaign.purchase
    GROUP BY
        purchase.recipient_id,
        purchase.purchased_on,
        purchase.quantity,
        purchase.amount
)

INSERT INTO campaign.purchase (recipient_id, purchased_on, quantity, amount)
SELECT
    offered.recipient_id,
    offered.purchased_on,
    offered.quantity,
    offered.amount
FROM offered
LEFT JOIN present
    ON
        offered.recipient_id = present.recipient_id
        AND offered.purchased_on = present.purchased_on
        AND offered.quantity = present.quantity
        AND offered.amount = present.amount
WHERE offered.nth > coalesce(present.copies, 0)
ORDER BY offered.line_number;

ANALYZE campaign.purchase;
