-- Who is in the first set and in none of the others.
-- Grain: one row per recipient. Rerun: the set is laid anew.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE TABLE {{ target }} AS
SELECT first_set.recipient_id
FROM {{ sources[0] }} AS first_set
WHERE
    TRUE
{% for source in sources[1:] %}
    AND NOT EXISTS (
        SELECT 1 FROM {{ source }} AS excluded WHERE excluded.recipient_id = first_set.recipient_id
    )
{% endfor %}
