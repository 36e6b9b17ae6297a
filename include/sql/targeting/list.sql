-- The members of any of the named recipient lists. No seed addresses.
-- Grain: one row per recipient. Rerun: the set is laid anew.

CREATE UNLOGGED TABLE {{ target }} AS
SELECT DISTINCT member.recipient_id
FROM campaign.recipient_list_member AS member
INNER JOIN campaign.recipient_list ON member.recipient_list_id = recipient_list.id
INNER JOIN campaign.recipient ON member.recipient_id = recipient.id AND NOT recipient.is_seed
WHERE recipient_list.internal_name = ANY(%(lists)s::text[])
