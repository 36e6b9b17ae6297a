-- One that fails while it is overdue, say, is told of both: an incident is of one kind of trouble.
DROP INDEX campaign."a workflow has one open incident";
CREATE UNIQUE INDEX "a workflow has one open incident of a kind" ON campaign.workflow_incident (dag_id, kind)
WHERE closed_at IS NULL;
