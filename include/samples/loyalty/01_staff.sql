-- The people of the campaign's team. Those who log in to the UI do so by their internal_name.
-- Grain: one row per person, per group, and per person in a group.
-- Rerun: rows that are there stay as they are.

INSERT INTO campaign.staff (internal_name, label, email, time_zone, language, is_admin)
VALUES
('admin', 'Administrator', 'admin@musicshop.example', 'UTC', 'en', TRUE),
('olga', 'Olga Lindqvist', 'olga@musicshop.example', 'America/New_York', 'en', FALSE),
('ursula', 'Ursula Groß', 'ursula@musicshop.example', 'Europe/Berlin', 'de', FALSE),
('vera', 'Vera Núñez', 'vera@musicshop.example', 'America/New_York', 'es', FALSE),
('pawel', 'Paweł Król', 'pawel@musicshop.example', 'Europe/Warsaw', 'pl', FALSE)
ON CONFLICT (internal_name) DO NOTHING;

-- The group 'supervisors' is told when one of the five workflows is in trouble.
INSERT INTO campaign.staff_group (internal_name, label)
VALUES
('supervisors', 'Workflow supervisors'),
('finance', 'Budget controllers'),
('production', 'Print production')
ON CONFLICT (internal_name) DO NOTHING;

INSERT INTO campaign.staff_group_member (staff_group_id, staff_id)
SELECT
    (
        SELECT staff_group.id FROM campaign.staff_group
        WHERE staff_group.internal_name = entry.staff_group
    ) AS staff_group_id,
    (
        SELECT staff.id FROM campaign.staff
        WHERE staff.internal_name = entry.staff
    ) AS staff_id
FROM (
    VALUES
    ('supervisors', 'admin'),
    ('supervisors', 'olga'),
    ('finance', 'vera'),
    ('finance', 'admin'),
    ('production', 'pawel')
) AS entry (staff_group, staff)
ON CONFLICT (staff_group_id, staff_id) DO NOTHING;
