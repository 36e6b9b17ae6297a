-- Approvals: which are demanded, what they are bound to, and how one is opened and decided.
--
-- Every way of answering (page, link, API, psql) goes through campaign.decide_approval.

-- The kinds of approval that must be granted before a delivery leaves a status.
CREATE OR REPLACE FUNCTION campaign.approval_kinds_before_leaving(status text, channel text) RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN status = 'targeting_pending' THEN ARRAY['content']
    WHEN status IN ('target_ready', 'extraction_pending', 'extracting') THEN ARRAY['content', 'target', 'budget']
    WHEN status = 'file_to_approve' THEN ARRAY['content', 'target', 'budget', 'extraction']
    WHEN status IN ('proof_to_submit', 'proof_to_validate', 'routing')
        THEN ARRAY['content', 'target', 'budget', 'extraction', 'proof']
    WHEN status IN ('pending_confirmation', 'start_pending') THEN ARRAY['content', 'target', 'budget', 'start']
    ELSE ARRAY[]::text[]
END;

-- Whether a delivery in this status has not left yet, and so may need approvals before it does.
CREATE OR REPLACE FUNCTION campaign.awaits_approvals(status text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN status IN (
    'targeting_pending', 'target_ready', 'extraction_pending', 'extracting', 'file_to_approve', 'proof_to_submit',
    'proof_to_validate', 'routing', 'pending_confirmation', 'start_pending'
);

-- The moment of the first reminder after another moment; null: there is none.
CREATE OR REPLACE FUNCTION campaign.next_reminder(reminders interval[], deadline_at timestamptz, after timestamptz)
RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (
    SELECT min(deadline_at - reminder.before_deadline)
    FROM unnest(reminders) AS reminder (before_deadline)
    WHERE deadline_at - reminder.before_deadline > after
);

-- What a person was shown, as a digest. An approval holds only while this stays the same.
CREATE OR REPLACE FUNCTION campaign.approval_seal(delivery_id bigint, kind text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE $2
        WHEN 'content' THEN md5(
            jsonb_build_array(
                delivery.channel, delivery.subject, delivery.body_text, delivery.body_html, delivery.sender,
                (
                    SELECT jsonb_agg(
                        jsonb_build_array(outline.label, item.label, item.description, item.cost)
                        ORDER BY item.id
                    )
                    FROM campaign.delivery_outline AS outline
                    LEFT JOIN campaign.delivery_outline_item AS item ON outline.id = item.outline_id
                    WHERE outline.id = delivery.outline_id
                ),
                -- A label is part of what is sent where a template names it.
                CASE
                    WHEN templates.text ~ '[{][{%].*\mdelivery\M'
                        THEN jsonb_build_array(delivery.internal_name, delivery.label)
                END,
                CASE WHEN templates.text ~ '[{][{%].*\mcampaign\M' THEN campaign.label END
            )::text
        )
        WHEN 'target' THEN md5(
            jsonb_build_array(
                delivery.targeted_count, delivery.message_count, delivery.requested_quantity,
                delivery.analysed_at, delivery.workflow_template_id,
                (
                    SELECT jsonb_object_agg(exclusion.reason, exclusion.count)
                    FROM campaign.delivery_exclusion AS exclusion
                    WHERE exclusion.delivery_id = delivery.id
                ),
                (
                    SELECT jsonb_build_array(template.dag_id, template.conf)
                    FROM campaign.workflow_template AS template
                    WHERE template.id = delivery.workflow_template_id
                )
            )::text
        )
        WHEN 'budget' THEN md5(
            coalesce(
                (
                    SELECT
                        jsonb_build_array(
                            line.budget_id, line.provisional_cost, line.cost_total, line.real_cost,
                            (
                                SELECT jsonb_agg(
                                    jsonb_build_array(
                                        item.cost_structure_id, item.kind, item.quantity, item.amount,
                                        item.expense_category_id
                                    )
                                    ORDER BY item.cost_structure_id, item.kind
                                )
                                FROM campaign.expense_item AS item
                                WHERE item.expense_line_id = line.id
                            )
                        )::text
                    FROM campaign.expense_line AS line
                    WHERE line.delivery_id = delivery.id
                ),
                'no expense line'
            )
        )
        WHEN 'extraction' THEN (
            SELECT coalesce(max(file.sha256), 'no file')
            FROM campaign.extraction_file AS file
            WHERE file.delivery_id = delivery.id AND file.status = 'current'
        )
        WHEN 'proof' THEN md5(
            jsonb_build_array(
                campaign.approval_seal(delivery.id, 'extraction'),
                (
                    SELECT jsonb_build_array(
                        service.notification_template, service.notification_emails, service.notification_group_id
                    )
                    FROM campaign.service AS service
                    WHERE service.id = delivery.service_id
                )
            )::text
        )
        WHEN 'start' THEN md5(
            jsonb_build_array(
                delivery.contact_date, delivery.message_count, campaign.approval_seal(delivery.id, 'content')
            )::text
        )
    END
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    CROSS JOIN LATERAL (
        SELECT concat_ws(' ', delivery.subject, delivery.body_text, delivery.body_html) AS text
    ) AS templates
    WHERE delivery.id = $1
$$;

-- Whether something that the cost of a delivery follows was edited, and budgetMgt has not calculated it since:
-- the cost split, which a budget is approved by, is not what it is now.
CREATE OR REPLACE FUNCTION campaign.cost_is_outdated(delivery_id bigint) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT EXISTS (
        SELECT 1
        FROM campaign.cost_change AS change
        WHERE (change.element, change.element_id) IN (
            SELECT
                followed.element,
                followed.id
            FROM campaign.delivery AS delivery
            INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
            LEFT JOIN campaign.expense_line AS line ON delivery.id = line.delivery_id
            CROSS JOIN LATERAL (
                VALUES
                ('delivery', delivery.id),
                ('campaign', campaign.id),
                ('program', campaign.program_id),
                ('service', delivery.service_id),
                ('budget', line.budget_id)
            ) AS followed (element, id)
            WHERE delivery.id = $1
            UNION ALL
            SELECT
                'cost_type',
                selected.cost_type_id
            FROM campaign.delivery_selected_cost AS selected
            WHERE selected.delivery_id = $1
        )
    )
$$;

-- Whether every approval that a delivery needs before it may leave its status was granted by the moment,
-- for what it is now, and nobody holds it. Nothing goes out without it.
CREATE OR REPLACE FUNCTION campaign.delivery_is_cleared(delivery_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        delivery.held_at IS NULL
        AND NOT campaign.delivery_is_stale(delivery.id, $2)
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.approval_setting AS setting
            WHERE
                setting.delivery_id = delivery.id
                AND setting.is_demanded
                AND setting.kind = ANY (
                    campaign.approval_kinds_before_leaving(delivery.status, delivery.channel)
                )
                AND NOT EXISTS (
                    SELECT 1
                    FROM campaign.approval AS granted
                    WHERE
                        granted.delivery_id = delivery.id
                        AND granted.kind = setting.kind
                        AND granted.status = 'approved'
                        AND granted.decided_at <= $2
                        AND granted.seal = campaign.approval_seal(delivery.id, setting.kind)
                        AND (setting.kind <> 'budget' OR NOT campaign.cost_is_outdated(delivery.id))
                )
        )
    FROM campaign.delivery AS delivery
    WHERE delivery.id = $1
$$;

-- What a delivery is and comes to, as it stands. Amounts are text, so that no reader of JSON rounds them.
CREATE OR REPLACE FUNCTION campaign.delivery_facts(delivery_id bigint) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT jsonb_build_object(
        'campaign', campaign.label,
        'program', program.label,
        'delivery_id', delivery.id,
        'delivery', delivery.label,
        'delivery_name', delivery.internal_name,
        'channel', delivery.channel,
        'contact_date', delivery.contact_date,
        'extraction_date', delivery.extraction_date,
        'subject', delivery.subject,
        'body_text', delivery.body_text,
        'sender', delivery.sender,
        'targeted_count', delivery.targeted_count,
        'message_count', delivery.message_count,
        'exclusions', coalesce(
            (
                SELECT jsonb_agg(
                    jsonb_build_object('reason', exclusion.reason, 'count', exclusion.count)
                    ORDER BY exclusion.count DESC, exclusion.reason
                )
                FROM campaign.delivery_exclusion AS exclusion
                WHERE exclusion.delivery_id = delivery.id
            ),
            '[]'::jsonb
        ),
        'costs', coalesce(
            (
                SELECT jsonb_agg(
                    jsonb_build_object(
                        'label', coalesce(structure.label, category.label || ' - ' || type.label),
                        'kind', item.kind,
                        'amount', item.amount::text,
                        'explanation', item.explanation
                    )
                    ORDER BY item.id
                )
                FROM campaign.expense_line AS line
                INNER JOIN campaign.expense_item AS item ON line.id = item.expense_line_id
                INNER JOIN campaign.cost_structure AS structure ON item.cost_structure_id = structure.id
                INNER JOIN campaign.cost_type AS type ON structure.cost_type_id = type.id
                INNER JOIN campaign.cost_category AS category ON type.cost_category_id = category.id
                WHERE line.delivery_id = delivery.id
            ),
            '[]'::jsonb
        ),
        'cost_total', (
            SELECT line.cost_total::text FROM campaign.expense_line AS line WHERE line.delivery_id = delivery.id
        ),
        'budget', (
            SELECT jsonb_build_object(
                'label', budget.label,
                'currency', budget.currency,
                'allocated', position.allocated::text,
                'available', position.available::text,
                'projected', position.projected::text
            )
            FROM campaign.budget AS budget
            INNER JOIN campaign.budget_position AS position ON budget.id = position.budget_id
            WHERE budget.id = coalesce(delivery.budget_id, campaign.budget_id, program.budget_id)
        ),
        'file', (
            SELECT jsonb_build_object(
                'name', file.file_name, 'rows', file.row_count, 'bytes', file.byte_count, 'sha256', file.sha256
            )
            FROM campaign.extraction_file AS file
            WHERE file.delivery_id = delivery.id AND file.status = 'current'
        )
    )
    FROM campaign.delivery AS delivery
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.program AS program ON campaign.program_id = program.id
    WHERE delivery.id = $1
$$;

-- All that a reviewer must know to decide, as it stands.
CREATE OR REPLACE FUNCTION campaign.approval_facts(approval_id bigint) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT
        campaign.delivery_facts(approval.delivery_id)
        || jsonb_build_object(
            'approval_id', approval.id,
            'approval_kind', approval.kind,
            'round', approval.round,
            'deadline_at', approval.deadline_at,
            'submitted_at', approval.submitted_at,
            'warnings', to_jsonb(approval.warnings)
        )
    FROM campaign.approval AS approval
    WHERE approval.id = $1
$$;

-- Name who may answer approvals, and write to them. One that nobody can answer is asked again by the next run, until
-- somebody can. Returns how many somebody was asked about.
CREATE OR REPLACE FUNCTION campaign.ask_reviewers(approval_ids bigint[]) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    asked bigint;
BEGIN
    INSERT INTO campaign.approval_reviewer (approval_id, staff_id)
    SELECT DISTINCT
        approval.id,
        reviewer.staff_id
    FROM campaign.approval AS approval
    CROSS JOIN LATERAL (
        SELECT own.approval_policy_id
        FROM campaign.approval_setting AS own
        WHERE own.delivery_id = approval.delivery_id AND own.kind = approval.kind
        OFFSET 0
    ) AS setting
    CROSS JOIN LATERAL (
        SELECT coalesce(named.staff_id, member.staff_id) AS staff_id
        FROM campaign.approval_policy_reviewer AS named
        LEFT JOIN campaign.staff_group_member AS member ON named.staff_group_id = member.staff_group_id
        WHERE named.approval_policy_id = setting.approval_policy_id
    ) AS reviewer
    INNER JOIN campaign.staff AS staff ON reviewer.staff_id = staff.id AND staff.active
    WHERE approval.id = ANY (approval_ids);

    -- None given, or none of them here any more: the campaign's owner.
    INSERT INTO campaign.approval_reviewer (approval_id, staff_id)
    SELECT
        approval.id,
        campaign.owner_id
    FROM campaign.approval AS approval
    INNER JOIN campaign.delivery AS delivery ON approval.delivery_id = delivery.id
    INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
    INNER JOIN campaign.staff AS owner ON campaign.owner_id = owner.id
    WHERE
        approval.id = ANY (approval_ids)
        AND owner.active
        AND NOT EXISTS (
            SELECT 1 FROM campaign.approval_reviewer AS reviewer WHERE reviewer.approval_id = approval.id
        );

    INSERT INTO campaign.journal (level, source, campaign_id, delivery_id, message)
    SELECT
        CASE WHEN reviewers.names IS NULL THEN 'error' ELSE 'info' END,
        'deliveryMgt',
        delivery.campaign_id,
        delivery.id,
        format('The %s of %L is submitted for approval (round %s)', approval.kind, delivery.label, approval.round)
        || coalesce(
            ' to ' || reviewers.names || '.',
            ', but nobody can answer: give the campaign an owner, or the policy a reviewer.'
        )
    FROM campaign.approval AS approval
    INNER JOIN campaign.delivery AS delivery ON approval.delivery_id = delivery.id
    CROSS JOIN LATERAL (
        SELECT string_agg(staff.internal_name, ', ' ORDER BY staff.internal_name) AS names
        FROM campaign.approval_reviewer AS reviewer
        INNER JOIN campaign.staff AS staff ON reviewer.staff_id = staff.id
        WHERE reviewer.approval_id = approval.id
    ) AS reviewers
    WHERE
        approval.id = ANY (approval_ids)
        -- That nobody can is said once.
        AND (reviewers.names IS NOT NULL OR NOT approval.is_unasked);

    UPDATE campaign.approval
    SET is_unasked = NOT is_unasked
    WHERE
        id = ANY (approval_ids)
        AND is_unasked = EXISTS (
            SELECT 1 FROM campaign.approval_reviewer AS reviewer WHERE reviewer.approval_id = approval.id
        );

    PERFORM campaign.notify_reviewers(approval_ids, 'approval_request', '');
    SELECT count(DISTINCT reviewer.approval_id) INTO asked
    FROM campaign.approval_reviewer AS reviewer
    WHERE reviewer.approval_id = ANY (approval_ids);
    RETURN asked;
END
$$;

-- Open a new round of approval for each pair (delivery, kind), with its reviewers and the notices to them.
-- Pairs that wait for an answer already are passed over. Returns the approvals that were opened.
CREATE OR REPLACE FUNCTION campaign.open_approvals(delivery_ids bigint[], kinds text[], at timestamptz)
RETURNS SETOF bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    opened bigint[];
BEGIN
    -- A person may be canceling one of them: wait for that, and look at what it is then.
    PERFORM 1 FROM campaign.delivery AS delivery
    WHERE delivery.id = ANY($1)
    ORDER BY delivery.id
    FOR NO KEY UPDATE;

    WITH wanted AS (
        SELECT DISTINCT
            pair.delivery_id,
            pair.kind
        FROM unnest($1, $2) AS pair (delivery_id, kind)
    ),

    inserted AS (
        INSERT INTO campaign.approval
        (delivery_id, kind, round, seal, reminders, submitted_at, deadline_at, warnings)
        SELECT
            wanted.delivery_id,
            wanted.kind,
            1 + coalesce(
                (
                    SELECT max(earlier.round)
                    FROM campaign.approval AS earlier
                    WHERE earlier.delivery_id = wanted.delivery_id AND earlier.kind = wanted.kind
                ),
                0
            ),
            campaign.approval_seal(wanted.delivery_id, wanted.kind),
            setting.reminders,
            $3,
            $3 + setting.deadline,
            CASE
                WHEN wanted.kind = 'extraction' THEN campaign.stock_warnings(wanted.delivery_id)
                ELSE '{}'
            END
        FROM wanted
        INNER JOIN campaign.delivery AS delivery
            ON
                wanted.delivery_id = delivery.id
                AND wanted.kind = ANY(campaign.approval_kinds_before_leaving(delivery.status, delivery.channel))
        -- One by one: joined, the view is computed for all the deliveries that there are.
        CROSS JOIN LATERAL (
            SELECT
                own.deadline,
                own.reminders
            FROM campaign.approval_setting AS own
            WHERE own.delivery_id = wanted.delivery_id AND own.kind = wanted.kind
            OFFSET 0
        ) AS setting
        WHERE NOT EXISTS (
            SELECT 1
            FROM campaign.approval AS waiting
            WHERE
                waiting.delivery_id = wanted.delivery_id
                AND waiting.kind = wanted.kind
                AND waiting.status = 'pending'
        )
        ON CONFLICT DO NOTHING
        RETURNING id
    )

    SELECT array_agg(id) INTO opened FROM inserted;

    PERFORM campaign.ask_reviewers(opened);

    RETURN QUERY SELECT unnest(opened);
END
$$;

-- Write a notice to every reviewer of the approvals. What tells two notices of one kind apart (which
-- reminder it is) is in the occasion.
CREATE OR REPLACE FUNCTION campaign.notify_reviewers(approval_ids bigint[], kind text, occasion text)
RETURNS bigint
LANGUAGE sql AS $$
    WITH told AS (
        INSERT INTO campaign.notification
        (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
        SELECT
            $2,
            concat_ws(':', $2, approval.id, staff.id, nullif($3, '')),
            'deliveryMgt',
            staff.id,
            staff.email,
            campaign.approval_facts(approval.id),
            delivery.id,
            delivery.campaign_id
        FROM campaign.approval AS approval
        INNER JOIN campaign.approval_reviewer AS reviewer ON approval.id = reviewer.approval_id
        INNER JOIN campaign.staff AS staff ON reviewer.staff_id = staff.id AND staff.active
        INNER JOIN campaign.delivery AS delivery ON approval.delivery_id = delivery.id
        INNER JOIN campaign.campaign AS campaign
            ON delivery.campaign_id = campaign.id AND campaign.notifications_enabled
        WHERE approval.id = ANY ($1)
        ON CONFLICT (dedupe_key) DO NOTHING
        RETURNING 1
    )

    SELECT count(*) FROM told
$$;

-- Write a notice about an approval to the owner of its campaign, or to the supervisors when it has none.
CREATE OR REPLACE FUNCTION campaign.notify_owner_of_approval(approval_ids bigint[], kind text) RETURNS bigint
LANGUAGE sql AS $$
    WITH told AS (
        INSERT INTO campaign.notification
        (kind, dedupe_key, source, staff_id, recipient_email, facts, delivery_id, campaign_id)
        SELECT
            $2,
            concat_ws(':', $2, approval.id, owner.staff_id),
            'deliveryMgt',
            owner.staff_id,
            owner.email,
            campaign.approval_facts(approval.id) || jsonb_build_object(
                'comment', approval.comment,
                'decided_at', approval.decided_at,
                'decided_by', (SELECT label FROM campaign.staff WHERE id = approval.decided_by_id)
            ),
            delivery.id,
            delivery.campaign_id
        FROM campaign.approval AS approval
        INNER JOIN campaign.delivery AS delivery ON approval.delivery_id = delivery.id
        INNER JOIN campaign.campaign AS campaign
            ON delivery.campaign_id = campaign.id AND campaign.notifications_enabled
        CROSS JOIN LATERAL campaign.people_in_charge(campaign.id) AS owner
        WHERE approval.id = ANY ($1)
        ON CONFLICT (dedupe_key) DO NOTHING
        RETURNING 1
    )

    SELECT count(*) FROM told
$$;

-- Whether a person may decide an approval: a reviewer, an administrator, or the owner where that is on.
CREATE OR REPLACE FUNCTION campaign.may_decide(approval_id bigint, staff_id bigint) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT EXISTS (
        SELECT 1
        FROM campaign.staff AS staff
        INNER JOIN campaign.approval AS approval ON approval.id = $1
        INNER JOIN campaign.delivery AS delivery ON approval.delivery_id = delivery.id
        INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
        WHERE
            staff.id = $2
            AND staff.active
            AND (
                staff.is_admin
                OR EXISTS (
                    SELECT 1
                    FROM campaign.approval_reviewer AS reviewer
                    WHERE reviewer.approval_id = approval.id AND reviewer.staff_id = staff.id
                )
                OR (
                    campaign.owner_id = staff.id
                    AND (SELECT setting.value = 'true' FROM campaign.setting WHERE setting.name = 'owner_may_confirm')
                )
            )
    )
$$;

CREATE OR REPLACE FUNCTION campaign.submit_approval(delivery bigint, kind text) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    wanted_kind CONSTANT text := $2;
    submitted campaign.delivery;
    latest campaign.approval;
    opened bigint;
BEGIN
    submitted := campaign.lock_delivery($1);
    IF wanted_kind IS NULL OR wanted_kind NOT IN ('content', 'target', 'budget', 'extraction', 'proof', 'start') THEN
        RAISE EXCEPTION 'There is no approval of %: it is content, target, budget, extraction, proof or start.',
            quote_nullable(wanted_kind) USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (
        SELECT 1
        FROM campaign.campaign AS parent
        WHERE parent.id = submitted.campaign_id AND parent.status IN ('finished', 'canceled')
    ) THEN
        PERFORM campaign.refuse_delivery(submitted, 'its campaign is over, so nothing of it can be submitted.');
    END IF;
    IF wanted_kind <> ALL (campaign.approval_kinds_before_leaving(submitted.status, submitted.channel)) THEN
        RAISE EXCEPTION 'The % of delivery % cannot be submitted for approval: the delivery is %.',
            wanted_kind, quote_literal(submitted.label), replace(submitted.status, '_', ' ')
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT * INTO latest
    FROM campaign.approval AS approval
    WHERE approval.delivery_id = submitted.id AND approval.kind = wanted_kind
    ORDER BY approval.round DESC
    LIMIT 1;
    IF latest.status = 'pending' THEN
        RAISE EXCEPTION 'The % of delivery % waits for an answer already, since %.',
            wanted_kind, quote_literal(submitted.label), latest.submitted_at
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF latest.status = 'approved' AND latest.seal = campaign.approval_seal(submitted.id, wanted_kind) THEN
        RAISE EXCEPTION 'The % of delivery % was approved as it stands, at %.',
            wanted_kind, quote_literal(submitted.label), latest.decided_at
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT open_approvals INTO opened
    FROM campaign.open_approvals(ARRAY[submitted.id], ARRAY[wanted_kind], campaign.moment());
    RETURN opened;
END
$$;

CREATE OR REPLACE FUNCTION campaign.decide_approval(
    approval bigint, staff bigint, approve boolean, comment text DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    decided campaign.approval;
    decider campaign.staff;
    subject campaign.delivery;
BEGIN
    SELECT * INTO decided FROM campaign.approval WHERE id = $1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'There is no approval %.', $1 USING ERRCODE = 'no_data_found';
    END IF;
    -- Everybody locks the delivery first and its approvals then: so nobody waits in a circle.
    subject := campaign.lock_delivery(decided.delivery_id);
    SELECT * INTO decided FROM campaign.approval WHERE id = $1 FOR NO KEY UPDATE;
    SELECT * INTO decider FROM campaign.staff WHERE id = $2;
    IF NOT FOUND OR NOT decider.active THEN
        RAISE EXCEPTION 'There is no active member of staff %.', $2 USING ERRCODE = 'no_data_found';
    END IF;
    IF $3 IS NULL THEN
        RAISE EXCEPTION 'Say true to approve or false to reject.' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT campaign.may_decide(decided.id, decider.id) THEN
        RAISE EXCEPTION '% may not decide the % of delivery %: ask one of its reviewers.',
            decider.label, decided.kind, quote_literal(subject.label) USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF decided.status IN ('approved', 'rejected') THEN
        RAISE EXCEPTION '% already % the % of delivery %, at %.',
            (SELECT label FROM campaign.staff WHERE id = decided.decided_by_id),
            decided.status, decided.kind, quote_literal(subject.label), decided.decided_at
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF decided.status IN ('void', 'canceled') THEN
        RAISE EXCEPTION 'This request to approve the % of delivery % is %; there is nothing to answer.',
            decided.kind, quote_literal(subject.label), decided.status
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF decided.seal <> campaign.approval_seal(decided.delivery_id, decided.kind) THEN
        RAISE EXCEPTION 'The % of delivery % changed after it was shown: a new round will be asked for.',
            decided.kind, quote_literal(subject.label) USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    UPDATE campaign.approval
    SET
        status = CASE WHEN $3 THEN 'approved' ELSE 'rejected' END,
        decided_at = campaign.moment(),
        decided_by_id = decider.id,
        comment = $4,
        warnings = CASE WHEN kind = 'extraction' THEN campaign.stock_warnings(delivery_id) ELSE warnings END
    WHERE id = decided.id;

    INSERT INTO campaign.journal (source, campaign_id, delivery_id, message)
    VALUES (
        'deliveryMgt', subject.campaign_id, subject.id,
        format(
            '%s %s the %s of %L (round %s)%s.',
            decider.internal_name, CASE WHEN $3 THEN 'approved' ELSE 'rejected' END,
            decided.kind, subject.label, decided.round, coalesce(': ' || nullif($4, ''), '')
        )
    );
    IF NOT $3 THEN
        PERFORM campaign.notify_owner_of_approval(ARRAY[decided.id], 'approval_rejected');
    END IF;
    IF decided.kind = 'start' AND $3 THEN
        PERFORM campaign.start_confirmed(decided.delivery_id, decider.id);
    ELSIF decided.kind = 'proof' AND NOT $3 THEN
        UPDATE campaign.delivery SET status = 'proof_to_submit'
        WHERE id = decided.delivery_id AND status = 'proof_to_validate';
    END IF;
END
$$;

-- How long after its date a delivery may still leave by itself: the setting stale_after.
CREATE OR REPLACE FUNCTION campaign.stale_after() RETURNS interval
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        (SELECT (setting.value #>> '{}')::interval FROM campaign.setting AS setting WHERE setting.name = 'stale_after'),
        interval '24 hours'
    )
$$;

-- Whether a delivery should have left longer ago than is allowed to pass unnoticed: it is held, and nothing
-- of it goes out, until a person releases it. A release holds for the date that it saw.
CREATE OR REPLACE FUNCTION campaign.delivery_is_stale(delivery_id bigint, as_of timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        bool_or(
            due.at < $2 - campaign.stale_after()
            AND coalesce(delivery.released_at, '-infinity') < due.at + campaign.stale_after()
        ),
        FALSE
    )
    FROM campaign.delivery AS delivery
    CROSS JOIN LATERAL (
        SELECT delivery.extraction_date AS at
        WHERE delivery.status IN ('extraction_pending', 'extracting')
        UNION ALL
        SELECT delivery.contact_date
        WHERE delivery.status IN (
            'extraction_pending', 'extracting', 'file_to_approve', 'proof_to_submit', 'proof_to_validate',
            'start_pending'
        ) OR (
            -- Once its file is with the provider, it has left.
            delivery.status = 'routing'
            AND NOT EXISTS (
                SELECT 1
                FROM campaign.provider_job AS job
                WHERE job.delivery_id = delivery.id AND job.status IN ('running', 'done')
            )
        )
    ) AS due
    WHERE delivery.id = $1 AND due.at IS NOT NULL
$$;
