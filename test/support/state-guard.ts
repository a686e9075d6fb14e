import { ATTEMPT_STATES, JOB_STATES, RUN_STATES, type StateRow } from '@carillon/contract';
import { withClient } from './test-server.ts';

const TABLES: readonly { table: string; column: string; states: Record<string, StateRow> }[] = [
  { table: 'outbound_call_runs', column: 'status', states: RUN_STATES },
  { table: 'outbound_call_jobs', column: 'status', states: JOB_STATES },
  { table: 'open_attempts', column: 'state', states: ATTEMPT_STATES },
];

/** The changes that somebody makes, by the tables of states: one file leaves the one state and enters the other. */
export function changesOf(states: Record<string, StateRow>): string[] {
  return Object.entries(states).flatMap(([from, { left_by }]) =>
    Object.entries(states).flatMap(([to, { entered_by }]) =>
      from !== to && Object.keys(left_by).some((file) => file in entered_by) ? [`${from} to ${to}`] : [],
    ),
  );
}

/**
 * Has the database itself refuse a change of a state that packages/contract/src/states.ts does not know of, so that every
 * test tells whether the tables there are true. What a superuser does by hand is let be.
 */
export async function guardStates(superuserUrl: string): Promise<void> {
  await withClient(superuserUrl, async (client) => {
    await client.query(GUARD);
    for (const { table, column, states } of TABLES)
      await client.query(`
        CREATE OR REPLACE TRIGGER know_change AFTER UPDATE OF ${column} ON carillon.${table}
          FOR EACH ROW WHEN (OLD.${column} <> NEW.${column})
          EXECUTE FUNCTION state_guard.know_change('${column}', '${changesOf(states).join(', ')}')`);
  });
}

const GUARD = `
  CREATE SCHEMA IF NOT EXISTS state_guard;
  GRANT USAGE ON SCHEMA state_guard TO PUBLIC;
  CREATE OR REPLACE FUNCTION state_guard.know_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $guard$
  DECLARE
    change text := (to_jsonb(OLD) ->> TG_ARGV[0]) || ' to ' || (to_jsonb(NEW) ->> TG_ARGV[0]);
  BEGIN
    IF session_user::text IN (SELECT rolname FROM pg_roles WHERE rolsuper) THEN RETURN NULL; END IF;
    IF change <> ALL (string_to_array(TG_ARGV[1], ', ')) THEN
      RAISE EXCEPTION 'a row of % went from %, which packages/contract/src/states.ts does not know of', TG_TABLE_NAME, change;
    END IF;
    RETURN NULL;
  END $guard$;`;
