-- Who is in any of the sets.
-- Grain: one row per recipient. Rerun: the set is laid anew.

CREATE TABLE {{ target }} AS
SELECT recipient_id FROM {{ sources[0] }}
{% for source in sources[1:] %}
UNION
SELECT recipient_id FROM {{ source }}
{% endfor %}
