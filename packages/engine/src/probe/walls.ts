import type { BusinessId } from '@carillon/contract';
import { compareAccess, findWallFaults } from '../db/check-access.ts';
import { checkLogin, LoginError } from '../db/check-login.ts';
import { type Database, discover, queryGlobal, sqlState } from '../db/database.ts';
import { rolledBack } from './roll-back.ts';

export interface WallsProbe {
  /** Tables with a business_id. */
  tables: number;
  /** What was tried and got through, and what stands open in the catalog: a sentence each. Empty is what it must be. */
  breaches: string[];
}

const BUSINESS_TABLES = `SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE c.relnamespace = to_regnamespace('carillon') AND c.relkind IN ('r', 'p') AND a.attname = 'business_id'
    AND NOT a.attisdropped`;

/**
 * Tries the walls between businesses through the application's login: every table of `mine` for rows of anybody else,
 * and for rows of `other` (a canary too, so that a wall that is down costs nobody anything) to read, change, delete and
 * adopt, in a transaction that is rolled back; every table without a business; then the catalog and the logins.
 */
export async function probeWalls(db: Database, mine: BusinessId, other: BusinessId): Promise<WallsProbe> {
  const tables = await queryGlobal<{ tables: number }>(db, `SELECT count(*) AS tables FROM (${BUSINESS_TABLES}) t`);
  const [catalog, attacked, unset] = await Promise.all([readCatalog(db), attack(db, mine, other), withoutBusiness(db)]);
  return { tables: tables[0]?.tables ?? 0, breaches: [...catalog.causes, ...attacked, ...unset, ...catalog.grants] };
}

/** Dynamic on the server, with its own quoting: the tables to come are tried as well. */
async function attack(db: Database, mine: BusinessId, other: BusinessId): Promise<string[]> {
  return await rolledBack(db, mine, async (tx) => {
    await tx.query('SELECT set_config($1, $2, true)', ['readiness.other', String(other)]);
    await tx.query(`
      DO $$
      DECLARE
        mine bigint := current_setting('carillon.business_id')::bigint;
        other bigint := current_setting('readiness.other')::bigint;
        breaches text[] := '{}';
        tab text;
        attempt record;
        hits bigint;
      BEGIN
        FOR tab IN ${BUSINESS_TABLES} ORDER BY 1 LOOP
          FOR attempt IN SELECT * FROM (VALUES
            ('read a row of another business',
             'SELECT FROM carillon.%1$I WHERE business_id <> %2$L LIMIT 1'),
            ('changed a row of another business',
             'UPDATE carillon.%1$I SET business_id = business_id WHERE business_id = %3$L'),
            ('deleted a row of another business',
             'DELETE FROM carillon.%1$I WHERE business_id = %3$L'),
            ('gave a row to another business',
             'UPDATE carillon.%1$I SET business_id = %3$L WHERE business_id = %2$L')) AS v (what, sql) LOOP
            BEGIN
              EXECUTE format(attempt.sql, tab, mine, other);
              GET DIAGNOSTICS hits = ROW_COUNT;
              -- Without rows of its own it has nothing to give; of rows that are not its own it must touch none.
              IF hits > 0 THEN breaches := breaches || format('%s: %s', tab, attempt.what); END IF;
            EXCEPTION
              WHEN insufficient_privilege THEN NULL;
              -- Let through by the wall, and held up by a key behind it.
              WHEN integrity_constraint_violation THEN
                breaches := breaches || format('%s: %s, but for a constraint', tab, attempt.what);
            END;
          END LOOP;
        END LOOP;
        PERFORM set_config('readiness.found', array_to_json(breaches)::text, true);
      END $$`);
    const [row] = await tx.query<{ breaches: string[] }>("SELECT current_setting('readiness.found')::json AS breaches");
    return row?.breaches ?? ['the attack gave no answer'];
  });
}

const OPEN = 'P0001';

/** With no business set every table must answer with an error or with nothing. */
async function withoutBusiness(db: Database): Promise<string[]> {
  try {
    await queryGlobal(
      db,
      `DO $$
       DECLARE
         breaches text := '';
         tab text;
         hits bigint;
       BEGIN
         FOR tab IN ${BUSINESS_TABLES} ORDER BY 1 LOOP
           BEGIN
             EXECUTE format('SELECT FROM carillon.%I LIMIT 1', tab);
             GET DIAGNOSTICS hits = ROW_COUNT;
             IF hits > 0 THEN breaches := breaches || ' ' || tab; END IF;
           EXCEPTION WHEN undefined_object OR invalid_text_representation OR insufficient_privilege THEN NULL;
           END;
         END LOOP;
         IF breaches <> '' THEN RAISE EXCEPTION 'with no business set, rows are read from:%', breaches; END IF;
       END $$`,
    );
    return [];
  } catch (error) {
    if (sqlState(error) === OPEN && error instanceof Error) return [error.message];
    throw error;
  }
}

/**
 * What the catalog says: the logins' strength and memberships, what they may do beyond what they are given, and tables
 * whose row security or policies are not what they must be.
 */
async function readCatalog(db: Database): Promise<{ causes: string[]; grants: string[] }> {
  const [[app], [discovery]] = await Promise.all([
    queryGlobal<{ login: string }>(db, 'SELECT session_user::text AS login'),
    discover<{ login: string }>(db, 'SELECT session_user::text AS login'),
  ]);
  const logins = { app: app?.login ?? '', discovery: discovery?.login ?? '' };
  const [strong, { extra }, faults] = await Promise.all([
    checkLogin(db).then(
      () => [],
      (error: unknown) => {
        if (error instanceof LoginError) return [error];
        throw error;
      },
    ),
    compareAccess(db, logins),
    findWallFaults(db, logins),
  ]);
  return {
    // Of several it names the first; holes are listed each.
    causes: [
      ...strong.filter(({ code }) => code !== 'walls_broken').map(({ message }) => message),
      ...faults.map(({ table, fault }) => `${table}: ${fault}`),
    ],
    grants: extra.map(({ login, what, via }) => `${login} may ${what}${via === null ? '' : ` through ${via}`}`),
  };
}
