-- The journal by run: what did this run decide?
CREATE INDEX journal_run ON campaign.journal (source, run_id, at) WHERE run_id IS NOT NULL;
