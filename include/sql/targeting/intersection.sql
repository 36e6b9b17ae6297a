-- Who is in all of the sets.
-- Grain: one row per recipient: each set has a recipient once. Rerun: the set is laid anew.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE TABLE {{ target }} AS
SELECT first_set.recipient_id
FROM {{ sources[0] }} AS first_set
{% for source in sources[1:] %}
INNER JOIN {{ source }} AS set_{{ loop.index }} ON first_set.recipient_id = set_{{ loop.index }}.recipient_id
{% endfor %}
