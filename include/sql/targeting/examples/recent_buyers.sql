-- Who has bought in the time before as_of.
-- Grain: one row per recipient. Changes nothing.

SELECT DISTINCT purchase.recipient_id
FROM campaign.purchase
WHERE
    purchase.purchased_on > campaign_work.day_of(%(as_of)s::timestamptz - %(within)s::interval)
    AND purchase.purchased_on <= campaign_work.day_of(%(as_of)s::timestamptz)
