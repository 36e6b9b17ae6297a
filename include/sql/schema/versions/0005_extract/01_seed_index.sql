-- Seeds are a handful among millions: counting them must not read the target.
CREATE INDEX delivery_target_seed ON campaign.delivery_target (delivery_id) WHERE role = 'seed';
