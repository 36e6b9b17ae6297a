INSERT INTO by_hand.item
SELECT
    delivery.id,
    selection.cost_type_id,
    delivery.campaign_id,
    CASE delivery.status WHEN 'finished' THEN 'spent' ELSE campaign.commitment_level END,
    selection.expense_category_id,
    round(
        selection.surcharge + CASE
            WHEN tariff.method = 'fixed' THEN tariff.amount
            WHEN delivery.message_count = 0 THEN 0
            WHEN tariff.method = 'linear' THEN tariff.amount * delivery.message_count / tariff.batch_size
            WHEN tariff.method = 'linear_by_threshold'
                THEN tariff.amounts[width_bucket(delivery.message_count - 1, tariff.up_to) + 1] * delivery.message_count
            WHEN tariff.method = 'constant_by_threshold'
                THEN tariff.amounts[width_bucket(delivery.message_count - 1, tariff.up_to) + 1]
            ELSE
                tariff.bases[width_bucket(delivery.message_count - 1, tariff.up_to) + 1]
                + tariff.amounts[width_bucket(delivery.message_count - 1, tariff.up_to) + 1]
                * (delivery.message_count - tariff.above[width_bucket(delivery.message_count - 1, tariff.up_to) + 1])
        END,
        2
    )
FROM campaign.delivery
INNER JOIN campaign.campaign ON delivery.campaign_id = campaign.id
INNER JOIN campaign.delivery_cost AS selection ON delivery.id = selection.delivery_id
INNER JOIN by_hand.tariff ON selection.cost_type_id = tariff.cost_type_id
WHERE
    delivery.id BETWEEN %(first)s AND %(last)s AND selection.delivery_id BETWEEN %(first)s AND %(last)s;

INSERT INTO by_hand.charge
SELECT delivery_id, min(campaign_id), min(level), expense_category_id, sum(amount)
FROM by_hand.item
WHERE delivery_id BETWEEN %(first)s AND %(last)s
GROUP BY delivery_id, expense_category_id;

INSERT INTO by_hand.expense
SELECT delivery_id, sum(amount)
FROM by_hand.charge
WHERE delivery_id BETWEEN %(first)s AND %(last)s
GROUP BY delivery_id;
