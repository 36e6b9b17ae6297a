CREATE TABLE by_hand.base AS
SELECT
    charge.campaign_id, coalesce(campaign.budget_id, program.budget_id) AS budget_id, charge.level,
    charge.expense_category_id, sum(charge.amount) AS amount
FROM by_hand.charge
INNER JOIN campaign.campaign ON charge.campaign_id = campaign.id
INNER JOIN campaign.program ON campaign.program_id = program.id
GROUP BY 1, 2, 3, 4;
CREATE TABLE by_hand.campaign AS
SELECT campaign_id, sum(amount) AS amount FROM by_hand.base GROUP BY 1;
CREATE TABLE by_hand.program AS
SELECT program_id, sum(amount) AS amount
FROM by_hand.campaign INNER JOIN campaign.campaign AS ours ON campaign_id = ours.id GROUP BY 1;
CREATE TABLE by_hand.plan AS
SELECT plan_id, sum(amount) AS amount
FROM by_hand.program INNER JOIN campaign.program AS ours ON program_id = ours.id GROUP BY 1;
CREATE TABLE by_hand.budget AS
SELECT budget_id, level, expense_category_id, sum(amount) AS amount FROM by_hand.base GROUP BY 1, 2, 3;
