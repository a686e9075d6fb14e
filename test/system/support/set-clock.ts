import { escapeIdentifier, escapeLiteral } from 'pg';
import type { TestDatabase } from '../../support/database.ts';
import { withClient } from '../../support/test-server.ts';

/** How long after `set` the clock jumps: by then everybody sees what it will be, so that no transaction sees half. */
const JUMPS_AFTER = '100 ms';

/** The clock of a database, to be set. */
export interface SetClock {
  /** From a tenth of a second from now on the database's clock is this far ahead of the true time; below 0: behind. */
  set(ahead_ms: number): Promise<void>;
}

/**
 * Gives a migrated database a clock that can be set. Its logins find functions of the same names before those of
 * pg_catalog: PostgreSQL looks there first only where a search path does not name it. Defaults of columns, which were
 * bound to the true clock when the tables were made, are bound anew. As with a true clock, `now()` stands still within a
 * transaction, also while the clock is set.
 */
export async function giveSetClock(database: TestDatabase): Promise<SetClock> {
  const { app, discovery } = database.logins;
  const name = escapeIdentifier(database.name);
  await withClient(database.superuserUrl, async (client) => {
    await client.query(FUNCTIONS);
    await client.query(BIND_DEFAULTS);
    for (const login of [app, discovery].map(escapeIdentifier))
      await client.query(
        `GRANT USAGE ON SCHEMA set_clock TO ${login}; GRANT SELECT ON set_clock.jumps TO ${login};
         ALTER ROLE ${login} IN DATABASE ${name} SET search_path = set_clock, pg_catalog, carillon`,
      );
  });
  return {
    async set(ahead_ms) {
      await withClient(database.superuserUrl, (client) =>
        client.query(
          `INSERT INTO set_clock.jumps (at, ahead)
           VALUES (clock_timestamp() + interval ${escapeLiteral(JUMPS_AFTER)}, $1 * interval '1 ms')`,
          [ahead_ms],
        ),
      );
    },
  };
}

const FUNCTIONS = `
  CREATE SCHEMA set_clock;
  CREATE TABLE set_clock.jumps (at timestamptz PRIMARY KEY, ahead interval NOT NULL);
  INSERT INTO set_clock.jumps VALUES ('-infinity', '0');
  CREATE FUNCTION set_clock.told(at timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT $1 + j.ahead FROM set_clock.jumps j WHERE j.at <= $1 ORDER BY j.at DESC LIMIT 1';
  CREATE FUNCTION set_clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT set_clock.told(pg_catalog.now())';
  CREATE FUNCTION set_clock.transaction_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT set_clock.told(pg_catalog.now())';
  CREATE FUNCTION set_clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT set_clock.told(pg_catalog.statement_timestamp())';
  CREATE FUNCTION set_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT set_clock.told(t.at) FROM (SELECT pg_catalog.clock_timestamp() AS at OFFSET 0) t'`;

const BIND_DEFAULTS = `
  DO $$
  DECLARE d record;
  BEGIN
    FOR d IN SELECT c.oid::regclass AS relation, a.attname, pg_get_expr(x.adbin, x.adrelid) AS expression
               FROM pg_attrdef x JOIN pg_class c ON c.oid = x.adrelid
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.adnum
              WHERE c.relnamespace = 'carillon'::regnamespace AND pg_get_expr(x.adbin, x.adrelid) ~ '\\mnow\\(\\)'
    LOOP
      EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', d.relation, d.attname,
                     replace(d.expression, 'now()', 'set_clock.now()'));
    END LOOP;
  END $$`;

/** Defaults and policies that still tell the true time, each in words. */
export async function trueTimes(superuserUrl: string): Promise<string[]> {
  return await withClient(superuserUrl, async (client) => {
    // So that only what is not of pg_catalog is written with its schema.
    await client.query('SET search_path = pg_catalog');
    const { rows } = await client.query<{ place: string }>(
      `WITH expressions AS (
         SELECT adrelid::regclass::text AS place, pg_get_expr(adbin, adrelid) AS text FROM pg_attrdef x
           JOIN pg_class c ON c.oid = x.adrelid WHERE c.relnamespace = 'carillon'::regnamespace
         UNION ALL
         SELECT polrelid::regclass::text, concat(pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
           FROM pg_policy
         UNION ALL
         SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
          WHERE connamespace = 'carillon'::regnamespace)
       SELECT place || ': ' || text AS place FROM expressions
        WHERE text ~* '(^|[^.])\\m(now|clock_timestamp|statement_timestamp|transaction_timestamp)\\(\\)'
           OR text ~* '\\m(current_(timestamp|time|date)|localtime(stamp)?)\\M'`,
    );
    return rows.map(({ place }) => place);
  });
}
