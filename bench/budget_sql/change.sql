-- A later analysis finds another number of messages.
UPDATE campaign.delivery
SET message_count = 1 + (message_count * 13 + 7 * %(shift)s) %% 20000, analysed_at = analysed_at + interval '1 minute'
WHERE id %% %(every)s = 3 %% %(every)s
