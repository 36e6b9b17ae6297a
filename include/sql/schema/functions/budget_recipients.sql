-- The time zone of the instance: its days end at midnight there. (Setting time_zone.)
CREATE OR REPLACE FUNCTION campaign.instance_time_zone() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN coalesce(
    (
        SELECT setting.value #>> '{}' FROM campaign.setting AS setting
        WHERE setting.name = 'time_zone'
    ), 'UTC'
);

-- Who is told about a budget: its owner; the supervisors when it has none, or none who is still here.
CREATE OR REPLACE FUNCTION campaign.budget_recipients(budget_id bigint)
RETURNS TABLE (staff_id bigint, email text)
LANGUAGE sql STABLE AS $$
    WITH owner AS (
        SELECT
            staff.id,
            staff.email
        FROM campaign.budget AS budget
        INNER JOIN campaign.staff AS staff ON budget.owner_id = staff.id AND staff.active
        WHERE budget.id = $1
    )

    SELECT
        owner.id,
        owner.email
    FROM owner
    UNION ALL
    SELECT
        staff.id,
        staff.email
    FROM campaign.staff_group AS staff_group
    INNER JOIN campaign.staff_group_member AS member ON staff_group.id = member.staff_group_id
    INNER JOIN campaign.staff AS staff ON member.staff_id = staff.id AND staff.active
    WHERE staff_group.internal_name = 'supervisors' AND NOT EXISTS (SELECT 1 FROM owner)
$$;
