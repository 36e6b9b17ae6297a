INSERT INTO campaign.budget (id, internal_name, label, allocated)
SELECT n, 'b' || n, 'B' || n, 1000000000 FROM generate_series(1, %(budgets)s) AS n;
INSERT INTO campaign.expense_category (id, internal_name, label) VALUES (1, 'production', 'Production'), (2, 'routing', 'Routing');
INSERT INTO campaign.plan (id, internal_name, label) SELECT n, 'p' || n, 'P' || n FROM generate_series(1, %(plans)s) AS n;
INSERT INTO campaign.program (id, plan_id, internal_name, label, budget_id)
SELECT n, 1 + n %% %(plans)s, 'g' || n, 'G' || n, 1 + n %% %(budgets)s FROM generate_series(1, %(programs)s) AS n;
INSERT INTO campaign.campaign (id, program_id, internal_name, label, budget_status, commitment_level, budget_id)
SELECT
    n, 1 + n %% %(programs)s, 'c' || n, 'C' || n, 'defined', (ARRAY['planned', 'reserved', 'committed'])[1 + n %% 3],
    CASE WHEN n %% 10 = 0 THEN 1 + n %% %(budgets)s END
FROM generate_series(1, %(campaigns)s) AS n;
INSERT INTO campaign.provider (id, internal_name, label) VALUES (1, 'p', 'P');
INSERT INTO campaign.service (id, provider_id, internal_name, label)
SELECT n, 1, 's' || n, 'S' || n FROM generate_series(1, 400) AS n;
INSERT INTO campaign.cost_category (id, service_id, label, channel)
SELECT n, n, 'Printing', 'direct_mail' FROM generate_series(1, 400) AS n;
INSERT INTO campaign.cost_type (id, cost_category_id, label)
SELECT n, 1 + (n - 1) / 5, 'Type ' || 1 + (n - 1) %% 5 FROM generate_series(1, 2000) AS n;
INSERT INTO campaign.cost_structure (id, cost_type_id, basis, method, amount, batch_size, beyond_amount)
SELECT
    n, n,
    CASE WHEN n %% 5 = 1 THEN 'fixed' ELSE 'per_message' END,
    (ARRAY['graduated', NULL, 'linear', 'linear_by_threshold', 'constant_by_threshold'])[1 + n %% 5],
    CASE n %% 5 WHEN 1 THEN 20 + n %% 100 WHEN 2 THEN 3 + n * 0.00173 END,
    CASE WHEN n %% 5 = 2 AND n %% 2 = 0 THEN 100 ELSE 1 END,
    CASE WHEN n %% 5 IN (0, 3, 4) THEN 0.05 + n * 0.00001 END
FROM generate_series(1, 2000) AS n;
INSERT INTO campaign.cost_threshold (cost_structure_id, up_to, amount)
SELECT structure.id, (ARRAY[100, 500, 1000, 5000, 10000])[band], (0.6 - band * 0.1) * CASE WHEN structure.id %% 5 = 4 THEN 777 ELSE 1.0123 END
FROM campaign.cost_structure AS structure, generate_series(1, 5) AS band
WHERE structure.id %% 5 IN (0, 3, 4);
INSERT INTO campaign.delivery (
    id, internal_name, label, campaign_id, channel, status, service_id, message_count, analysed_at, finished_at
)
SELECT
    n, 'd' || n, 'Delivery ' || n, 1 + (n - 1) / 50, 'direct_mail',
    CASE WHEN n %% 5 = 0 THEN 'finished' ELSE 'target_ready' END, 1 + n * 31 %% 400, n::bigint * 7919 %% 20000,
    timestamptz '2026-01-02 00:00:00Z' + n * interval '10 seconds',
    CASE WHEN n %% 5 = 0 THEN timestamptz '2026-06-01 00:00:00Z' + n * interval '10 seconds' END
FROM generate_series(1, %(deliveries)s) AS n;
INSERT INTO campaign.delivery_cost (delivery_id, cost_type_id, expense_category_id)
SELECT n, 5 * (n * 31 %% 400) + kind, CASE WHEN kind <= 2 THEN 1 ELSE 2 END
FROM generate_series(1, %(deliveries)s) AS n, generate_series(1, 5) AS kind;
SELECT setval(pg_get_serial_sequence('campaign.delivery', 'id'), max(id)) FROM campaign.delivery
