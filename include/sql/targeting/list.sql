-- The members of any of the named recipient lists. No seed addresses: looking for the few of them costs
-- nothing beside looking up every member.
-- Grain: one row per recipient; of one list, nobody is a member twice. Rerun: the set is laid anew.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE TABLE {{ target }} AS
SELECT {% if is_several %}DISTINCT {% endif %}member.recipient_id
FROM campaign.recipient_list_member AS member
INNER JOIN campaign.recipient_list ON member.recipient_list_id = recipient_list.id
WHERE
    recipient_list.internal_name = ANY(%(lists)s::text[])
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.recipient
        WHERE recipient.id = member.recipient_id AND recipient.is_seed
    )
