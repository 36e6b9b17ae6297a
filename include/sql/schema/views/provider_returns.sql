-- Views on what routers answer.

-- What was answered for each recipient: of each column what the latest file says that says anything of it.
-- Grain: one row per delivery and recipient that an answer names.
CREATE OR REPLACE VIEW campaign.delivery_return AS
SELECT
    merged.delivery_id,
    merged.recipient_id,
    merged.role,
    merged.status,
    merged.reason,
    merged.printed,
    merged.posted,
    merged.answered_at,
    -- What is to be paid for: what was posted; of what nobody says that, what was printed, else accepted.
    coalesce(merged.posted, merged.printed, (merged.status = 'accepted')::integer) AS billable
FROM (
    SELECT
        file.delivery_id,
        line.recipient_id,
        target.role,
        (array_agg(line.status ORDER BY file.id DESC) FILTER (WHERE line.status IS NOT NULL))[1] AS status,
        (array_agg(line.reason ORDER BY file.id DESC) FILTER (WHERE line.status IS NOT NULL))[1] AS reason,
        (array_agg(line.printed ORDER BY file.id DESC) FILTER (WHERE line.printed IS NOT NULL))[1] AS printed,
        (array_agg(line.posted ORDER BY file.id DESC) FILTER (WHERE line.posted IS NOT NULL))[1] AS posted,
        min(file.received_at) AS answered_at
    FROM campaign.provider_return AS file
    INNER JOIN campaign.provider_return_line AS line ON file.id = line.provider_return_id
    LEFT JOIN campaign.delivery_target AS target
        ON file.delivery_id = target.delivery_id AND line.recipient_id = target.recipient_id
    WHERE file.status = 'taken'
    GROUP BY file.delivery_id, line.recipient_id, target.role
) AS merged;

-- What was extracted, accepted, printed, posted and invoiced, side by side, and whether that agrees.
-- Grain: one row per delivery that a provider was given. Each quantity is compared with the one before it
-- that is known: what was accepted with what was extracted, ..., what was invoiced with what was posted.
-- While rows are still unanswered, and the time for that is not over, nothing is compared but an invoice.
CREATE OR REPLACE VIEW campaign.delivery_quantity AS
WITH given AS (
    SELECT
        answer.*,
        invoiced.quantity AS invoiced,
        invoiced.amount AS invoiced_amount,
        expense.cost_total,
        coalesce(file.row_count, 0) AS extracted,
        answer.answered_at IS NOT NULL
        AND (answer.answered >= coalesce(file.row_count, 0) OR answer.due_at <= campaign.moment()) AS is_all
    FROM campaign.provider_answer AS answer
    LEFT JOIN campaign.extraction_file AS file ON answer.extraction_file_id = file.id
    LEFT JOIN campaign.expense_line AS expense ON answer.delivery_id = expense.delivery_id
    LEFT JOIN (  -- noqa: ST05
        SELECT
            line.id,
            line.quantity,
            line.amount
        FROM campaign.invoice_line AS line
        INNER JOIN campaign.invoice AS invoice ON line.invoice_id = invoice.id AND invoice.status <> 'draft'
    ) AS invoiced ON expense.invoice_line_id = invoiced.id
),

compared AS (
    SELECT
        given.*,
        round(
            100.0 * greatest(
                CASE
                    WHEN given.is_all
                        THEN
                            greatest(
                                abs(given.accepted - given.extracted),
                                abs(given.printed - coalesce(given.accepted, given.extracted)),
                                abs(given.posted - coalesce(given.printed, given.accepted, given.extracted))
                            )
                END,
                abs(given.invoiced - coalesce(given.posted, given.printed, given.accepted, given.extracted))
            ) / greatest(given.extracted, 1), 2
        ) AS difference
    FROM given
)

SELECT
    delivery.id AS delivery_id,
    campaign.id AS campaign_id,
    campaign.internal_name AS campaign,
    delivery.internal_name AS delivery,
    provider.label AS provider,
    service.label AS service,
    delivery.message_count,
    compared.extracted,
    compared.accepted,
    compared.rejected,
    compared.printed,
    compared.posted,
    compared.invoiced,
    compared.cost_total,
    delivery.real_cost,
    compared.invoiced_amount,
    compared.handed_at,
    compared.due_at,
    compared.answered_at,
    compared.answered,
    -- Per cent of what was extracted: the largest.
    compared.difference,
    limits.tolerance,
    CASE
        WHEN compared.difference > limits.tolerance THEN 'different'
        WHEN compared.answered_at IS NULL AND service.returns_url IS NULL THEN 'not expected'
        WHEN compared.answered_at IS NULL AND compared.due_at <= campaign.moment() THEN 'late'
        WHEN compared.answered_at IS NULL THEN 'waiting'
        WHEN compared.answered < compared.extracted THEN 'partial'
        ELSE 'agrees'
    END AS state
FROM compared
INNER JOIN campaign.delivery AS delivery ON compared.delivery_id = delivery.id
INNER JOIN campaign.campaign AS campaign ON delivery.campaign_id = campaign.id
INNER JOIN campaign.service AS service ON compared.service_id = service.id
INNER JOIN campaign.provider AS provider ON service.provider_id = provider.id
CROSS JOIN LATERAL (  -- noqa: ST05
    SELECT
        coalesce(
            service.quantity_tolerance,
            (
                SELECT (setting.value #>> '{}')::numeric FROM campaign.setting AS setting
                WHERE setting.name = 'quantity_tolerance'
            ),
            1
        ) AS tolerance
) AS limits;

-- Answers that a real cost follows from, and that budgetMgt has not costed yet: of every row, about a delivery that is
-- finished. due_at: since when that is so. FOR UPDATE locks the delivery, then the answer, as who takes an answer does.
CREATE OR REPLACE VIEW campaign.answer_to_cost AS
SELECT
    answer.delivery_id,
    answer.billable,
    greatest(answer.changed_at, delivery.finished_at) AS due_at
FROM campaign.delivery AS delivery
INNER JOIN campaign.provider_answer AS answer ON delivery.id = answer.delivery_id
WHERE
    answer.answered_at IS NOT NULL
    AND answer.costed_at IS NULL
    AND delivery.status = 'finished'
    AND answer.answered >= (
        SELECT file.row_count FROM campaign.extraction_file AS file
        WHERE file.id = answer.extraction_file_id
    );
