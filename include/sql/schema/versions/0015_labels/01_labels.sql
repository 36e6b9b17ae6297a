-- The labels that templates may name, as they were when the delivery was started: a new label in the middle of the
-- sending reaches nobody.
ALTER TABLE campaign.delivery_sending
ADD COLUMN delivery_name text,
ADD COLUMN delivery_label text,
ADD COLUMN campaign_label text;

UPDATE campaign.delivery_sending AS sending
SET
    delivery_name = delivery.internal_name,
    delivery_label = delivery.label,
    campaign_label = campaign.label
FROM campaign.delivery AS delivery
INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
WHERE sending.delivery_id = delivery.id;

ALTER TABLE campaign.delivery_sending
ALTER COLUMN delivery_name SET NOT NULL,
ALTER COLUMN delivery_label SET NOT NULL,
ALTER COLUMN campaign_label SET NOT NULL;
