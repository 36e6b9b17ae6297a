-- The recipients that meet all criteria of the run's parameters: conditions on columns and attributes,
-- on purchases, membership of lists. No seed addresses.
-- Grain: one row per recipient. Rerun: the set is laid anew.
-- The conditions are put together from fixed pieces (campaign.targeting.criteria); values are bound.
-- Not linted: the linter reads all branches of the Jinja one after the other.
-- noqa: disable=all

CREATE TABLE {{ target }} AS
SELECT recipient.id AS recipient_id
FROM campaign.recipient
{% if purchase_conditions %}
{{ purchase_join }} JOIN (
    SELECT
        purchase.recipient_id,
        count(*) AS purchase_count,
        sum(purchase.amount) AS amount,
        max(purchase.purchased_on) AS last_on
    FROM campaign.purchase
    WHERE purchase.purchased_on <= campaign_work.day_of(%(as_of)s::timestamptz)
    GROUP BY purchase.recipient_id
) AS history ON recipient.id = history.recipient_id
{% endif %}
WHERE
    NOT recipient.is_seed
    {% for condition in conditions %}
    AND {{ condition }}
    {% endfor %}
    {% for condition in purchase_conditions %}
    AND {{ condition }}
    {% endfor %}
    {% if lists %}
    AND EXISTS (
        SELECT 1
        FROM campaign.recipient_list_member AS member
        INNER JOIN campaign.recipient_list ON member.recipient_list_id = recipient_list.id
        WHERE
            member.recipient_id = recipient.id
            AND recipient_list.internal_name = ANY(%(lists)s::text[])
    )
    {% endif %}
    {% if exclude_lists %}
    AND NOT EXISTS (
        SELECT 1
        FROM campaign.recipient_list_member AS member
        INNER JOIN campaign.recipient_list ON member.recipient_list_id = recipient_list.id
        WHERE
            member.recipient_id = recipient.id
            AND recipient_list.internal_name = ANY(%(exclude_lists)s::text[])
    )
{% endif %}
