-- List the files that are due to be handed to their providers, of each provider as many as a run may.
--
-- Grain: one row per transfer job, in the order in which they are carried out. Reads only.
WITH due AS (
    SELECT
        transfer.id,
        transfer.provider_id,
        transfer.delivery_id,
        row_number() OVER (PARTITION BY transfer.provider_id ORDER BY transfer.id) AS place
    FROM campaign.due_provider_jobs('transfer', %(as_of)s::timestamptz, %(campaign)s::text) AS transfer
)

SELECT
    due.id AS job_id,
    due.provider_id,
    provider.label AS provider,
    provider.storage_url,
    provider.storage_conn_id,
    file.file_name,
    coalesce(file.byte_count, 0) AS byte_count,
    due.place <= coalesce(provider.transfers_per_run, due.place) AS is_in_this_run
FROM due
INNER JOIN campaign.provider AS provider ON due.provider_id = provider.id
LEFT JOIN campaign.extraction_file AS file ON due.delivery_id = file.delivery_id AND file.status = 'current'
ORDER BY due.provider_id, due.id;
