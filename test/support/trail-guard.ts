import { withClient } from './test-server.ts';

/**
 * Has the database itself refuse, at COMMIT, a change of a run's state that did not bring its event: in the same
 * transaction, beginning with the state before and ending with the state after. What a superuser does by hand is let be.
 */
export async function guardTrail(superuserUrl: string): Promise<void> {
  await withClient(superuserUrl, async (client) => void (await client.query(GUARD)));
}

const GUARD = `
  CREATE SCHEMA IF NOT EXISTS trail_guard;
  GRANT USAGE ON SCHEMA trail_guard TO PUBLIC;
  CREATE OR REPLACE FUNCTION trail_guard.demand_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $guard$
  DECLARE
    before_state jsonb := CASE WHEN TG_OP = 'UPDATE'
      THEN jsonb_build_object('status', OLD.status, 'control_epoch', OLD.control_epoch) END;
    after_state jsonb := jsonb_build_object('status', NEW.status, 'control_epoch', NEW.control_epoch);
  BEGIN
    IF session_user::text IN (SELECT rolname FROM pg_roles WHERE rolsuper) THEN RETURN NULL; END IF;
    IF before_state IS NOT DISTINCT FROM after_state THEN RETURN NULL; END IF;
    PERFORM FROM carillon.audit_events e
    WHERE e.business_id = NEW.business_id AND e.subject_type = 'run' AND e.subject_id = NEW.run_id::text
      AND e.xmin = pg_current_xact_id()::xid AND e.after @> after_state
      AND CASE WHEN before_state IS NULL THEN e.before IS NULL ELSE e.before @> before_state END;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'run % went from % to % without an event', NEW.run_id, before_state, after_state;
    END IF;
    RETURN NULL;
  END $guard$;
  DROP TRIGGER IF EXISTS demand_event ON carillon.outbound_call_runs;
  CREATE CONSTRAINT TRIGGER demand_event AFTER INSERT OR UPDATE OF status, control_epoch ON carillon.outbound_call_runs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trail_guard.demand_event();`;
