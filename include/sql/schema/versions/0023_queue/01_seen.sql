-- A row is looked at by the next run, whenever that is as of, and again as of its moment: false until the first.
ALTER TABLE campaign.approval_queue ADD COLUMN is_seen boolean NOT NULL DEFAULT FALSE;
