-- Schedule lines that a rule makes, beside those that people enter.

ALTER TABLE campaign.campaign
-- What the lines of the rule get; an entered line says it itself.
ADD COLUMN submit_for_approval boolean NOT NULL DEFAULT FALSE,
ADD COLUMN automatic_start boolean NOT NULL DEFAULT TRUE,
-- Off on what a periodic campaign created: it has all settings of its own, and shares none afterwards.
ADD COLUMN follows_template boolean NOT NULL DEFAULT TRUE;

ALTER TABLE campaign.campaign_schedule
ADD COLUMN from_rule boolean NOT NULL DEFAULT FALSE,
DROP CONSTRAINT "a schedule line is served once, or skipped",
-- A workflow that was created in advance and missed its start is named, and canceled.
ADD CONSTRAINT "a schedule line is served once, or skipped"
CHECK (num_nonnulls(workflow_id, created_campaign_id) <= 1 AND num_nonnulls(created_campaign_id, skipped_at) <= 1);

CREATE UNIQUE INDEX "a workflow serves one schedule line" ON campaign.campaign_schedule (workflow_id)
WHERE workflow_id IS NOT NULL;
CREATE UNIQUE INDEX "a campaign is created by one schedule line" ON campaign.campaign_schedule (created_campaign_id)
WHERE created_campaign_id IS NOT NULL;

-- How far a rule has been made into lines: a run looks only at rules whose next line comes into view, and at
-- those that were changed since.
CREATE TABLE campaign.recurrence_plan (
    campaign_id bigint PRIMARY KEY
    CONSTRAINT "a recurrence_plan belongs to a campaign" REFERENCES campaign.campaign ON DELETE CASCADE,
    rule text NOT NULL,
    planned_until timestamptz NOT NULL,
    next_at timestamptz
);

CREATE INDEX recurrence_plan_next ON campaign.recurrence_plan (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX campaign_repeating ON campaign.campaign (id)
WHERE kind IN ('recurring', 'periodic') AND status IN ('being_edited', 'started');

INSERT INTO campaign.setting (name, value, description) VALUES
(
    'missed_after', '"1 hour"',
    'A start of a recurring or periodic campaign that a run comes to later than this was missed.'
);

-- The copies of deliveries that wait for the start of their workflow.
CREATE INDEX delivery_of_workflow ON campaign.delivery (workflow_id)
WHERE status = 'being_edited' AND workflow_id IS NOT NULL;

-- When the DAG run of a canceled workflow was known to be over.
ALTER TABLE campaign.workflow ADD COLUMN stopped_at timestamptz;
CREATE INDEX workflow_to_stop ON campaign.workflow (id)
WHERE status = 'canceled' AND run_id IS NOT NULL AND stopped_at IS NULL;
