-- Who has spent at least so much until as_of.
-- Grain: one row per recipient. Changes nothing.

SELECT purchase.recipient_id
FROM campaign.purchase
WHERE purchase.purchased_on <= campaign_work.day_of(%(as_of)s::timestamptz)
GROUP BY purchase.recipient_id
HAVING sum(purchase.amount) >= %(least_amount)s::numeric
