-- Two columns of judge_recipients.sql: whether a recipient can be reached in the channel, and what two
-- recipients are compared by: their address without case, spaces and punctuation.
-- noqa: disable=all
{% if channel == 'direct_mail' %}
        coalesce(trim(recipient.last_name), '') <> ''
        AND coalesce(trim(recipient.address1), '') <> ''
        AND coalesce(trim(recipient.postal_code), '') <> ''
        AND coalesce(trim(recipient.city), '') <> '' AS is_reachable,
        translate(
            lower(
                concat_ws(
                    '|', recipient.last_name, coalesce(recipient.first_name, ''), recipient.address1,
                    recipient.postal_code, recipient.city, coalesce(recipient.country, '')
                )
            ),
            E' \t.,;:\'"-/', ''
        ) AS address,
{% elif channel == 'email' %}
        coalesce(recipient.email ~ '^[^@\s<>,;]+@[^@\s<>,;]+$', false) AS is_reachable,
        lower(recipient.email) AS address,
{% elif channel == 'sms' %}
        coalesce(recipient.phone ~ '\d', false) AS is_reachable,
        translate(recipient.phone, ' .-/()', '') AS address,
{% else %}
        coalesce(trim(recipient.push_token), '') <> '' AS is_reachable,
        recipient.push_token AS address,
{% endif %}
