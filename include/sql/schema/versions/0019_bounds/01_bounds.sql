-- Workflows calculate with sets, so that one amount, quantity or date beyond what the database or Python can hold
-- would stop them for everybody: it is refused where it is entered. A thousand amounts at the bound can be added up.

-- Never, and ever since, as far as a person meant it.
UPDATE campaign.delivery
SET
    extraction_date = least(greatest(extraction_date, '0001-01-02'), '9999-12-30'),
    contact_date = least(greatest(contact_date, '0001-01-02'), '9999-12-30')
WHERE NOT (
    coalesce(extraction_date, '2000-01-01') BETWEEN '0001-01-02' AND '9999-12-30'
    AND coalesce(contact_date, '2000-01-01') BETWEEN '0001-01-02' AND '9999-12-30'
);
UPDATE campaign.campaign
SET
    starts_at = least(greatest(starts_at, '0001-01-02'), '9999-12-30'),
    ends_at = least(greatest(ends_at, '0001-01-02'), '9999-12-30')
WHERE NOT (
    coalesce(starts_at, '2000-01-01') BETWEEN '0001-01-02' AND '9999-12-30'
    AND coalesce(ends_at, '2000-01-01') BETWEEN '0001-01-02' AND '9999-12-30'
);
UPDATE campaign.task
SET
    starts_at = least(greatest(starts_at, '0001-01-02'), '9999-12-30'),
    ends_at = least(greatest(ends_at, '0001-01-02'), '9999-12-30')
WHERE NOT (
    coalesce(starts_at, '2000-01-01') BETWEEN '0001-01-02' AND '9999-12-30'
    AND coalesce(ends_at, '2000-01-01') BETWEEN '0001-01-02' AND '9999-12-30'
);

ALTER TABLE campaign.delivery
ADD CONSTRAINT "the dates of a delivery must be in the years 1 to 9999" CHECK (
    extraction_date BETWEEN '0001-01-02' AND '9999-12-30' AND contact_date BETWEEN '0001-01-02' AND '9999-12-30'
),
ADD CONSTRAINT "the costs of a delivery must be below 10 trillion" CHECK (
    provisional_cost < 10000000000000 AND real_cost < 10000000000000
),
ADD CONSTRAINT "the counts of a delivery must be below a trillion" CHECK (
    targeted_count < 1000000000000 AND message_count < 1000000000000 AND requested_quantity < 1000000000000
);
ALTER TABLE campaign.campaign
ADD CONSTRAINT "the dates of a campaign must be in the years 1 to 9999" CHECK (
    starts_at BETWEEN '0001-01-02' AND '9999-12-30' AND ends_at BETWEEN '0001-01-02' AND '9999-12-30'
),
ADD CONSTRAINT "the duration of a campaign must be at most 100 years" CHECK (duration <= interval '100 years'),
ADD CONSTRAINT "create_in_advance must be at most 10 years" CHECK (create_in_advance <= interval '10 years'),
ADD CONSTRAINT "the costs of a campaign must be below 10 trillion" CHECK (
    provisional_cost < 10000000000000 AND fixed_cost < 10000000000000 AND real_cost < 10000000000000
);
ALTER TABLE campaign.campaign_schedule
ADD CONSTRAINT "a schedule line must start in the years 1 to 9999" CHECK (
    starts_at BETWEEN '0001-01-02' AND '9999-12-30'
);
ALTER TABLE campaign.task
ADD CONSTRAINT "the dates of a task must be in the years 1 to 9999" CHECK (
    starts_at BETWEEN '0001-01-02' AND '9999-12-30' AND ends_at BETWEEN '0001-01-02' AND '9999-12-30'
),
ADD CONSTRAINT "the costs of a task must be below 10 trillion" CHECK (
    provisional_cost < 10000000000000 AND real_cost < 10000000000000
);
ALTER TABLE campaign.plan
ADD CONSTRAINT "the costs of a plan must be below 10 trillion" CHECK (
    provisional_cost < 10000000000000 AND real_cost < 10000000000000
);
ALTER TABLE campaign.program
ADD CONSTRAINT "the costs of a program must be below 10 trillion" CHECK (
    provisional_cost < 10000000000000 AND real_cost < 10000000000000
);
ALTER TABLE campaign.budget
ADD CONSTRAINT "the allocated amount must be below 10 trillion" CHECK (allocated < 10000000000000);
ALTER TABLE campaign.budget_category
ADD CONSTRAINT "the allocated amount of a category must be below 10 trillion" CHECK (
    allocated < 10000000000000
);
ALTER TABLE campaign.cost_breakdown
ADD CONSTRAINT "the amount of a cost_breakdown must be below 10 trillion" CHECK (amount < 10000000000000);
ALTER TABLE campaign.delivery_cost
ADD CONSTRAINT "the surcharge on a delivery must be below 10 trillion" CHECK (surcharge < 10000000000000);
ALTER TABLE campaign.task_cost
ADD CONSTRAINT "the surcharge on a task must be below 10 trillion" CHECK (surcharge < 10000000000000);
ALTER TABLE campaign.invoice_line
ADD CONSTRAINT "the amount of an invoice_line must be below 10 trillion" CHECK (
    abs(amount) < 10000000000000
);
