-- Seed addresses: people of the house and of the printers who get a copy of each mailing, so that they
-- see what arrives, and when.
-- Grain: one row per seed.
-- Rerun: rows that are there stay as they are.

INSERT INTO campaign.recipient (
    internal_name,
    email,
    first_name,
    last_name,
    address1,
    address2,
    postal_code,
    city,
    country,
    language,
    is_seed,
    attributes
)
VALUES
(
    'seed-olga', 'olga@musicshop.example', 'Olga', 'Lindqvist', '12 Harbor Street', NULL, '97201',
    'Portland, OR', 'US', 'en', TRUE, '{"seed_of": "house"}'
),
(
    'seed-ursula', 'ursula@musicshop.example', 'Ursula', 'Groß', 'Lindenstraße 7', '2. Etage', '10119',
    'Berlin', 'DE', 'de', TRUE, '{"seed_of": "house"}'
),
(
    'seed-pawel', 'pawel@musicshop.example', 'Paweł', 'Król', 'ulica Długa 3', 'm. 14', '00-238',
    'Warszawa', 'PL', 'pl', TRUE, '{"seed_of": "house"}'
),
(
    'seed-printers-quality',
    'quality@printers.example',
    'Marion',
    'O''Brien',
    '400 River Road',
    'Quality Desk',
    '97209', 'Portland, OR', 'US', 'en', TRUE, '{"seed_of": "printers"}'
),
(
    'seed-printers-post',
    'post@printers.example',
    'Tomás',
    'Muñoz',
    '400 River Road',
    'Posting Desk',
    '97209',
    'Portland, OR', 'US', 'en', TRUE, '{"seed_of": "printers"}'
)
ON CONFLICT (internal_name) DO NOTHING;
