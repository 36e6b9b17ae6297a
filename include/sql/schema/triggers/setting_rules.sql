-- A setting that cannot be read would stop a workflow for everybody: it is refused where it is entered.

CREATE OR REPLACE FUNCTION campaign.check_setting() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    entered CONSTANT text := NEW.value #>> '{}';
    wanted text;
BEGIN
    BEGIN
        CASE
            WHEN NEW.name IN (
                'stale_after', 'transfer_timeout', 'journal_kept_for', 'sending_slice', 'missed_after',
                'returns_settle', 'returns_watched_for'
            ) THEN
                wanted := 'a time above zero, like "24 hours"';
                IF entered::interval <= interval '0' OR entered::interval > interval '100 years' THEN
                    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value';
                END IF;
            WHEN NEW.name IN ('job_pauses', 'message_pauses', 'notice_pauses') THEN
                wanted := 'a list of times, like ["1 minute", "5 minutes"]';
                PERFORM pause::interval FROM jsonb_array_elements_text(NEW.value) AS pause;
            WHEN
                NEW.name IN (
                    'workflows_at_once', 'workflows_shown', 'creation_cap', 'job_tries', 'sending_workers',
                    'lines_per_worker', 'messages_per_request', 'message_tries', 'notice_tries'
                )
            THEN
                wanted := 'a whole number above zero';
                IF jsonb_typeof(NEW.value) <> 'number' OR entered::integer <= 0 THEN
                    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value';
                END IF;
            WHEN NEW.name = 'messages_per_minute' THEN
                wanted := 'a whole number: 0 for no limit';
                IF jsonb_typeof(NEW.value) <> 'number' OR entered::integer < 0 THEN
                    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value';
                END IF;
            WHEN NEW.name = 'failed_share' THEN
                wanted := 'a share from 0 to 1, like 0.2';
                IF jsonb_typeof(NEW.value) <> 'number' OR entered::numeric NOT BETWEEN 0 AND 1 THEN
                    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value';
                END IF;
            WHEN NEW.name = 'unsubscribe_url' THEN
                wanted := 'null, or an address like "https://example.com/unsubscribe/{key}"';
                IF NEW.value <> 'null' AND entered !~ '^(https://|mailto:)[^\s<>]*\{key\}[^\s<>]*$' THEN
                    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value';
                END IF;
            WHEN NEW.name = 'quantity_tolerance' THEN
                wanted := 'per cent, from 0 to 100';
                IF jsonb_typeof(NEW.value) <> 'number' OR NOT entered::numeric BETWEEN 0 AND 100 THEN
                    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value';
                END IF;
            WHEN NEW.name IN ('owner_may_confirm', 'promoted_copy_sends') THEN
                wanted := 'true or false';
                IF jsonb_typeof(NEW.value) <> 'boolean' THEN
                    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value';
                END IF;
            WHEN NEW.name = 'time_zone' THEN
                wanted := 'a name of the tz database, like "Europe/Paris"';
                IF jsonb_typeof(NEW.value) <> 'string' OR NOT campaign.is_time_zone(entered) THEN
                    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value';
                END IF;
            ELSE
                NULL;
        END CASE;
    EXCEPTION WHEN data_exception THEN
        RAISE EXCEPTION 'The setting % must be %, not %.', NEW.name, wanted, NEW.value
            USING ERRCODE = 'check_violation';
    END;
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER check_setting BEFORE INSERT OR UPDATE ON campaign.setting
FOR EACH ROW EXECUTE FUNCTION campaign.check_setting();
