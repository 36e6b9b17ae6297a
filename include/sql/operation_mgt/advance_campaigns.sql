-- Campaigns start at their start and finish at their end when nothing of them is open; a canceled
-- campaign or delivery takes its workflows with it.
-- Grain: one row per campaign or workflow whose time has come. Open is: a delivery between submission and
-- its end, failed ones included (a person decides), a task not finished, a workflow not ended, a schedule
-- line not served. A delivery that was never submitted is not.
-- Rerun: a campaign moves out of the status it is in; a second run finds none.

WITH started AS (
    UPDATE campaign.campaign AS campaign
    SET status = 'started'
    WHERE
        campaign.status = 'being_edited'
        AND NOT campaign.is_template
        AND campaign.starts_at <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING campaign.id, campaign.label
),

written AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        started.id,
        format('Campaign %%L started.', started.label) AS message
    FROM started
)

SELECT count(*) AS campaigns_started FROM started;

WITH stopped AS (
    UPDATE campaign.workflow AS workflow
    SET status = 'canceled', finished_at = %(as_of)s::timestamptz
    FROM campaign.workflow AS canceled
    LEFT JOIN campaign.campaign ON canceled.campaign_id = campaign.id
    LEFT JOIN campaign.delivery ON canceled.delivery_id = delivery.id
    WHERE
        workflow.id = canceled.id
        AND canceled.status IN ('pending', 'queued', 'running')
        AND (campaign.status = 'canceled' OR delivery.status = 'canceled')
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
    RETURNING
        workflow.id,
        workflow.label,
        workflow.campaign_id,
        workflow.delivery_id,
        delivery.label AS delivery_label
),

written AS (
    INSERT INTO campaign.journal (level, source, run_id, campaign_id, delivery_id, message)
    SELECT
        'warning' AS level,
        %(dag_id)s::text,
        %(run_id)s::text,
        stopped.campaign_id,
        stopped.delivery_id,
        format('Workflow %%L was canceled with its campaign or delivery.', stopped.label) AS message
    FROM stopped
)

SELECT count(*) AS workflows_canceled FROM stopped;

WITH finished AS (
    UPDATE campaign.campaign AS campaign
    SET status = 'finished'
    WHERE
        campaign.status = 'started'
        AND NOT campaign.is_template
        AND campaign.ends_at <= %(as_of)s::timestamptz
        AND (%(campaign)s::text IS NULL OR campaign.internal_name = %(campaign)s::text)
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.delivery
            WHERE
                delivery.campaign_id = campaign.id
                AND NOT delivery.is_template
                AND delivery.status NOT IN ('being_edited', 'finished', 'canceled')
        )
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.task
            WHERE
                task.campaign_id = campaign.id
                AND task.status IN ('scheduled', 'in_progress', 'pending_approval')
        )
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.workflow
            WHERE
                workflow.campaign_id = campaign.id
                AND workflow.status IN ('pending', 'queued', 'running')
        )
        AND NOT EXISTS (
            SELECT 1
            FROM campaign.campaign_schedule AS line
            WHERE
                line.campaign_id = campaign.id
                AND line.starts_at <= campaign.ends_at
                AND num_nonnulls(line.workflow_id, line.created_campaign_id, line.skipped_at) = 0
        )
    RETURNING campaign.id, campaign.label
),

written AS (
    INSERT INTO campaign.journal (source, run_id, campaign_id, message)
    SELECT
        %(dag_id)s::text,
        %(run_id)s::text,
        finished.id,
        format('Campaign %%L finished.', finished.label) AS message
    FROM finished
)

SELECT count(*) AS campaigns_finished FROM finished;
