-- Which database this is: a copy of it, restored or cloned, finds here that it is another one.
CREATE TABLE campaign.instance (
    is_only boolean PRIMARY KEY DEFAULT TRUE
    CONSTRAINT "a database is one instance" CHECK (is_only),
    -- Of the server (initdb makes it), of the database on it, and of the server's history (a promotion makes it).
    system_identifier bigint NOT NULL,
    database_oid bigint NOT NULL,
    timeline integer NOT NULL,
    -- CAMPAIGN_INSTANCE of the deployment, where it is set.
    name text NOT NULL DEFAULT '',
    adopted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    adopted_by_id bigint CONSTRAINT "adopted_by_id must name a member of staff" REFERENCES campaign.staff,
    -- The copy that was last told that it sends nothing, so that it is told once.
    refused text
);

INSERT INTO campaign.setting (name, value, description) VALUES
(
    'promoted_copy_sends', 'false',
    'May the database send after a standby was promoted, or a backup restored to a moment, without a person''s word?'
)
ON CONFLICT (name) DO NOTHING;
