-- What routers answer: who is told, and what it costs.

-- Who is told about a delivery of a campaign: its owner; the supervisors when it has none, or none who is
-- still here. Nobody when the campaign has its notifications off.
CREATE OR REPLACE FUNCTION campaign.campaign_contacts(campaign_id bigint)
RETURNS TABLE (staff_id bigint, email text)
LANGUAGE sql STABLE AS $$
    WITH subject AS (
        SELECT
            campaign.notifications_enabled,
            staff.id AS owner_id,
            staff.email
        FROM (SELECT $1 AS id) AS asked
        LEFT JOIN campaign.campaign AS campaign ON asked.id = campaign.id
        LEFT JOIN campaign.staff AS staff ON campaign.owner_id = staff.id AND staff.active
    )

    SELECT
        subject.owner_id,
        subject.email
    FROM subject
    WHERE subject.owner_id IS NOT NULL AND subject.notifications_enabled
    UNION ALL
    SELECT
        staff.id,
        staff.email
    FROM subject
    INNER JOIN campaign.staff_group AS staff_group ON staff_group.internal_name = 'supervisors'
    INNER JOIN campaign.staff_group_member AS member ON staff_group.id = member.staff_group_id
    INNER JOIN campaign.staff AS staff ON member.staff_id = staff.id AND staff.active
    WHERE subject.owner_id IS NULL AND subject.notifications_enabled IS NOT FALSE
$$;

-- The exact cost of a number of messages by a cost structure as it stands: the table of domain.md. Null
-- where the structure gives no amount: beyond its last threshold, or not per message nor fixed.
-- budgetMgt prices all its deliveries at once (budget_mgt/price_elements.sql); a test holds the two together.
CREATE OR REPLACE FUNCTION campaign.structure_cost(cost_structure_id bigint, quantity bigint) RETURNS numeric
LANGUAGE sql STABLE AS $$
    WITH band AS (
        SELECT
            threshold.up_to,
            threshold.amount,
            coalesce(lag(threshold.up_to) OVER (ORDER BY threshold.up_to), 0) AS above
        FROM campaign.cost_threshold AS threshold
        WHERE threshold.cost_structure_id = $1
        UNION ALL
        SELECT
            9223372036854775807,
            structure.beyond_amount,
            coalesce(
                (
                    SELECT max(last_one.up_to) FROM campaign.cost_threshold AS last_one
                    WHERE last_one.cost_structure_id = $1
                ), 0
            )
        FROM campaign.cost_structure AS structure
        WHERE structure.id = $1
    )

    SELECT
        CASE
            WHEN structure.basis = 'fixed' THEN structure.amount
            WHEN structure.basis = 'per_day' THEN NULL
            WHEN $2 = 0 THEN 0
            WHEN structure.method = 'linear' AND structure.whole_batches
                THEN structure.amount * div($2 + structure.batch_size - 1, structure.batch_size)
            WHEN structure.method = 'linear' THEN round(structure.amount * $2, 20) / structure.batch_size
            WHEN structure.method = 'linear_by_threshold'
                THEN (SELECT band.amount * $2 FROM band WHERE $2 > band.above AND $2 <= band.up_to)
            WHEN structure.method = 'constant_by_threshold'
                THEN (SELECT band.amount FROM band WHERE $2 > band.above AND $2 <= band.up_to)
            WHEN structure.method = 'graduated'
                THEN (
                    SELECT
                        CASE
                            WHEN count(*) = count(band.amount)
                                THEN sum((least(band.up_to, $2) - band.above) * band.amount)
                        END
                    FROM band
                    WHERE $2 > band.above
                )
        END
    FROM campaign.cost_structure AS structure
    WHERE structure.id = $1
$$;

-- Set an answer aside: on record with its error, in the journal, and told to the person who can mend it.
CREATE OR REPLACE FUNCTION campaign.refuse_return(
    seen_id bigint, sha256 text, error text, delivery_id bigint, as_of timestamptz, run_id text
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    refused campaign.provider_return;
    of_campaign bigint;
    facts jsonb;
BEGIN
    UPDATE campaign.provider_return
    SET status = 'refused', sha256 = $2, error = $3, delivery_id = $4, received_at = $5, run_id = $6
    WHERE id = $1 AND status = 'seen'
    RETURNING * INTO refused;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- When nobody can tell whose answer it is: the campaign of what the service was given last.
    SELECT campaign_id INTO of_campaign
    FROM campaign.delivery
    WHERE
        id = coalesce(
            $4,
            (
                SELECT answer.delivery_id FROM campaign.provider_answer AS answer
                WHERE answer.service_id = refused.service_id
                ORDER BY answer.handed_at DESC, answer.delivery_id DESC
                LIMIT 1
            )
        );
    SELECT
        jsonb_build_object(
            'problem', 'refused', 'file_name', refused.file_name, 'return_id', refused.id, 'error', $3,
            'provider', provider.label, 'service', service.label, 'folder', service.returns_url,
            'delivery', (SELECT label FROM campaign.delivery WHERE id = $4)
        )
    INTO facts
    FROM campaign.service AS service
    INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
    WHERE service.id = refused.service_id;
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    VALUES (
        'error', 'providerMgt', $6, of_campaign, $4,
        format(
            'The answer %s of %s was set aside, nothing of it counts: %s Have it sent again, mended; or, when the '
            'cause was ours, read again: campaign.retry_return(%s).',
            refused.file_name, facts ->> 'provider', $3, refused.id
        )
    );
    INSERT INTO campaign.notification
    (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
    SELECT
        'provider_return', concat_ws(':', 'provider_return', refused.id, contact.staff_id), 'providerMgt',
        contact.staff_id, contact.email, facts, $4, of_campaign
    FROM campaign.campaign_contacts(of_campaign) AS contact
    ON CONFLICT (dedupe_key) DO NOTHING;
END
$$;

-- Have an answer that was refused read again, when what was wrong was on our side.
CREATE OR REPLACE FUNCTION campaign.retry_return(provider_return bigint) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    DELETE FROM campaign.provider_return WHERE id = $1 AND status = 'refused';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no refused answer %.', $1 USING ERRCODE = 'no_data_found';
    END IF;
    PERFORM pg_notify('campaign_event', 'providerMgt');
END
$$;

-- Count anew what the answers for deliveries come to.
CREATE OR REPLACE FUNCTION campaign.count_answers(delivery_ids bigint[], as_of timestamptz) RETURNS void
LANGUAGE sql AS $$
    WITH counted AS (
        SELECT
            answer.delivery_id,
            min(answer.answered_at) AS answered_at,
            count(*) AS answered,
            count(*) FILTER (WHERE answer.status = 'accepted') AS accepted,
            count(*) FILTER (WHERE answer.status = 'rejected') AS rejected,
            count(answer.status) AS judged,
            sum(answer.printed)::bigint AS printed,
            sum(answer.posted)::bigint AS posted,
            coalesce(sum(answer.billable) FILTER (WHERE answer.role = 'main'), 0)::bigint AS billable
        FROM campaign.delivery_return AS answer
        WHERE answer.delivery_id = ANY ($1)
        GROUP BY answer.delivery_id
    )

    UPDATE campaign.provider_answer AS answer
    SET
        answered_at = counted.answered_at,
        answered = coalesce(counted.answered, 0),
        accepted = CASE WHEN counted.judged > 0 THEN counted.accepted END,
        rejected = CASE WHEN counted.judged > 0 THEN counted.rejected END,
        printed = counted.printed,
        posted = counted.posted,
        billable = counted.billable,
        -- An answer that comes to the same is no other: a real cost holds since the first.
        changed_at = CASE
            WHEN (coalesce(counted.answered, 0), counted.billable) IS DISTINCT FROM (answer.answered, answer.billable)
                THEN $2
            ELSE answer.changed_at
        END,
        costed_at = NULL
    FROM unnest($1) AS asked (delivery_id)
    LEFT JOIN counted ON asked.delivery_id = counted.delivery_id
    WHERE answer.delivery_id = asked.delivery_id
$$;
