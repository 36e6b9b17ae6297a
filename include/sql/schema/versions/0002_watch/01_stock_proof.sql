-- What every run proves the positions against.

-- Initial quantity, received and consumed as the rows of the ledger summed up when they last changed. A position
-- that says otherwise was written by hand.
ALTER TABLE campaign.stock_balance ADD COLUMN ledger bigint[];
CREATE INDEX stock_balance_untrue ON campaign.stock_balance (stock_line_id)
WHERE ledger IS DISTINCT FROM ARRAY[initial_quantity, received, consumed];

-- False: the ledger was written in a session whose triggers do not count as news (session_replication_role
-- = replica), so nothing answers for the change: the line is proven against its rows.
ALTER TABLE campaign.stock_line_queue ADD COLUMN is_noted boolean NOT NULL DEFAULT TRUE;

-- The last run that proved every line against the rows of its ledger: its day, and what watched over the ledger.
CREATE TABLE campaign.stock_proof (
    is_only boolean PRIMARY KEY DEFAULT TRUE
    CONSTRAINT "there is one stock_proof" CHECK (is_only),
    proven_on date NOT NULL,
    watch text NOT NULL
);
