-- Who reads the pages: the member of staff whose internal_name is the name of the Airflow user.
-- Grain: one row, or none for a user who is nobody here. Changes nothing.
SELECT
    staff.id,
    staff.internal_name,
    staff.label,
    staff.time_zone,
    staff.is_admin,
    staff.active AS is_active,
    staff.is_admin OR EXISTS (
        SELECT 1
        FROM campaign.staff_group_member AS member
        INNER JOIN campaign.staff_group ON member.staff_group_id = staff_group.id
        WHERE member.staff_id = staff.id AND staff_group.internal_name = 'supervisors'
    ) AS is_supervisor,
    campaign.moment() AS moment
FROM campaign.staff
WHERE staff.internal_name = %(user_name)s::text;
