-- Who wrote a line: the run, where the session works for one (campaign.run_id), and the role with what it calls itself.
ALTER TABLE campaign.journal
ADD COLUMN written_by text,
ALTER COLUMN run_id SET DEFAULT nullif(current_setting('campaign.run_id', TRUE), '');
ALTER TABLE campaign.journal
ALTER COLUMN written_by SET DEFAULT
session_user || coalesce(' (' || nullif(current_setting('application_name'), '') || ')', '');
