-- So many of a set, or a share of it: at random, reproducibly (by a salted hash of the recipient), or the
-- first in an order.
-- Grain: one row per recipient. Rerun: the set is laid anew; the same salt gives the same sample.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE TABLE {{ target }} AS
SELECT source.recipient_id
FROM {{ sources[0] }} AS source
{% if order_by %}
INNER JOIN campaign.recipient ON source.recipient_id = recipient.id
ORDER BY {{ order_by }} {% if descending %}DESC {% endif %}NULLS LAST, recipient.id
{% else %}
ORDER BY hashint8extended(source.recipient_id, hashtextextended(%(salt)s::text, 0)), source.recipient_id
{% endif %}
LIMIT (
    SELECT coalesce(%(count)s::bigint, round(%(share)s::numeric * count(*))::bigint)
    FROM {{ sources[0] }}
)
