-- Who works for the campaign: the printers, who take the extraction file and post the catalogs, and
-- a studio, which takes no file.
-- Grain: one row per provider.
-- Rerun: rows that are there stay as they are.

-- The storage_url says where in the storage the files go, the Airflow connection says which storage it is.
INSERT INTO campaign.provider (internal_name, label, email, storage_url, storage_conn_id)
VALUES
('printers', 'The Printers Inc.', 'orders@printers.example', 'sftp:///inbox', 'router_sftp'),
('studio', 'Harbor Studio', 'hello@harborstudio.example', NULL, NULL)
ON CONFLICT (internal_name) DO NOTHING;
