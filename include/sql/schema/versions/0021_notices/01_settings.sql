-- How often a mail of the house is tried, and after which pauses: moments of runs, as all that is due.
INSERT INTO campaign.setting (name, value, description) VALUES
('notice_tries', '8', 'Tries of a mail to staff or a provider that is refused for the time being.'),
(
    'notice_pauses', '["5 minutes", "10 minutes", "20 minutes", "40 minutes", "80 minutes", "160 minutes"]',
    'Pauses after the first, second, ... try of a mail that was refused for the time being; the last one repeats.'
);
