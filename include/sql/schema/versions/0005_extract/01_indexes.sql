-- Seeds are a handful among millions: counting them must not read the target.
CREATE INDEX delivery_target_seed ON campaign.delivery_target (delivery_id) WHERE role = 'seed';

-- Storage of providers may not tell capitals from small letters: names that differ in nothing else are the same.
CREATE INDEX extraction_file_folded_name ON campaign.extraction_file (lower(file_name));
CREATE INDEX extraction_attempt_folded_name ON campaign.extraction_attempt (lower(file_name));
