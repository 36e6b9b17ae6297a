-- Reminders that mean something: before the deadline by less than the time that there is, and not without
-- number. What stood beyond the bounds had no effect, or one reminder a run, and goes.

UPDATE campaign.approval_policy
SET
    reminders = coalesce(
        (
            SELECT (array_agg(sensible.reminder ORDER BY sensible.reminder DESC))[:20]
            FROM (
                SELECT DISTINCT listed.reminder
                FROM unnest(approval_policy.reminders) AS listed (reminder)
                WHERE listed.reminder < approval_policy.deadline AND listed.reminder >= interval '1 minute'
            ) AS sensible
        ),
        '{}'
    )
WHERE
    cardinality(reminders) > 20
    OR deadline <= ANY(reminders)
    OR interval '1 minute' > ANY(reminders);

UPDATE campaign.approval_policy
SET deadline = interval '1 minute', reminders = '{}'
WHERE deadline < interval '1 minute';

ALTER TABLE campaign.approval_policy
ADD CONSTRAINT "the deadline of an approval must be a minute or more" CHECK (deadline >= interval '1 minute'),
ADD CONSTRAINT "an approval has at most 20 reminders" CHECK (cardinality(reminders) <= 20),
ADD CONSTRAINT "a reminder must be shorter than the deadline" CHECK (deadline > ALL(reminders)),
ADD CONSTRAINT "a reminder must be a minute or more before the deadline" CHECK (interval '1 minute' <= ALL(reminders));
