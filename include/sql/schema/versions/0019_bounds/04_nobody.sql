-- What nobody could be asked or told about is asked and told when somebody is there.

-- An approval that was opened without anybody to answer it.
ALTER TABLE campaign.approval ADD COLUMN is_unasked boolean NOT NULL DEFAULT FALSE;
UPDATE campaign.approval
SET is_unasked = TRUE
WHERE
    status = 'pending'
    AND NOT EXISTS (
        SELECT FROM campaign.approval_reviewer AS reviewer
        WHERE reviewer.approval_id = approval.id
    );
CREATE INDEX approval_unasked ON campaign.approval (id) WHERE is_unasked AND status = 'pending';

-- The state of a stock line of which the journal says that nobody was told.
ALTER TABLE campaign.stock_balance
ADD COLUMN unheard_state text
CONSTRAINT "an unheard state is low or insufficient" CHECK (unheard_state IN ('low', 'insufficient'));

-- What has not been sent to a person, for when the address is corrected.
CREATE INDEX notification_unsent_of_staff ON campaign.notification (staff_id) WHERE sent_at IS NULL;

DROP INDEX campaign.stock_balance_untold;
CREATE INDEX stock_balance_untold ON campaign.stock_balance (stock_line_id)
WHERE state <> told_state OR unheard_state IS NOT NULL;
