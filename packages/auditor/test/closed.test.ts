import { CarillonError } from '@carillon/contract';
import { escapeIdentifier } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { audit, INVARIANTS } from '../src/index.ts';
import { AUDIT_STATEMENTS } from '../src/audit.ts';
import { CARRIER_STATEMENTS } from '../src/carrier-check.ts';
import { LANE_STATEMENTS } from '../src/invariants/lanes.ts';
import { ONE_CALL_STATEMENTS } from '../src/invariants/one-call.ts';
import { PLACED_STATEMENTS } from '../src/invariants/placed-calls.ts';
import { RUN_END_STATEMENTS } from '../src/invariants/run-ends.ts';
import { LEDGER_STATEMENTS } from '../src/ledger-check.ts';
import { PAGE_STATEMENTS } from '../src/rows.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { createWorld, finishedRun, openRun, type World } from './support/world.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
  await finishedRun(world);
  await openRun(world);
});
afterAll(async () => await world.close());

/** What the audit reads; taken from its own statements, so that a new table is missed here by nobody. */
const STATEMENTS = {
  ...AUDIT_STATEMENTS,
  ...CARRIER_STATEMENTS,
  ...LANE_STATEMENTS,
  ...ONE_CALL_STATEMENTS,
  ...PLACED_STATEMENTS,
  ...RUN_END_STATEMENTS,
  ...LEDGER_STATEMENTS,
  ...PAGE_STATEMENTS,
};
const TABLES = [
  ...new Set(Object.values(STATEMENTS).flatMap((sql) => [...sql.matchAll(/carillon\.(\w+)/g)].map(([, t = '']) => t))),
];
/** Asked only where there is a doubt, a ledger or a carrier. */
const SELDOM = ['unwanted_calls', 'adopted_jobs', 'installation_state'];

describe('what the auditor can’t see', () => {
  it.each(TABLES.filter((table) => !SELDOM.includes(table)))('is never in order: %s without a grant', async (table) => {
    const grant = async (verb: string) => {
      const [to, word] = [escapeIdentifier(world.logins.app), verb === 'REVOKE' ? 'FROM' : 'TO'];
      await world.rows(`${verb} SELECT ON carillon.${table} ${word} ${to}`);
    };
    await grant('REVOKE');
    try {
      await expect(world.audit()).rejects.toThrow(/permission denied/);
    } finally {
      await grant('GRANT');
    }
    expect((await world.audit()).ok).toBe(true);
  });

  it.each(['outbound_call_runs', 'outbound_call_jobs', 'attempts', 'open_attempts', 'job_schedule', 'audit_events'])(
    'is never in order: %s behind a policy that shows nothing',
    async (table) => {
      await world.rows(
        `CREATE POLICY nothing ON carillon.${table} AS RESTRICTIVE TO ${escapeIdentifier(world.logins.app)} USING (false)`,
      );
      try {
        const ok = await world.audit().then(
          ({ ok }) => ok,
          (error: Error) => error.message,
        );
        expect(ok).toEqual(
          table === 'outbound_call_runs' ? expect.stringMatching(/what it does not see can't be judged/) : false,
        );
      } finally {
        await world.rows(`DROP POLICY nothing ON carillon.${table}`);
      }
      expect((await world.audit()).ok).toBe(true);
    },
  );

  it('is a run or a business that does not exist', async () => {
    await expect(world.audit({ run_id: 999_999 })).rejects.toThrow(CarillonError);
    await expect(world.audit({ business_id: 999_999 })).rejects.toThrow(CarillonError);
    const { business_id, run_id } = await openRun(world);
    await expect(world.audit({ business_id: business_id - 1, run_id })).rejects.toThrow(CarillonError);
    expect(await world.audit({ run_id })).toMatchObject({ ok: true, checked: { businesses: 1, runs: 1, jobs: 10 } });
  });

  it('is a login that does not exist', async () => {
    const url = new URL(world.appUrl);
    url.password = 'wrong';
    const options = { app_url: url.toString(), discovery_url: world.discoveryUrl, limits: world.limits };
    await expect(audit(options)).rejects.toThrow(/password authentication failed/);
  });
});

describe('a business of the readiness check', () => {
  it('is left out, unless it is asked for', async () => {
    const run = await finishedRun(world);
    await world.rows('UPDATE carillon.businesses SET canary = true WHERE business_id = $1', [run.business_id]);
    await world.rows(
      'UPDATE carillon.outbound_call_runs SET ended_at = ended_at, control_epoch = 9 WHERE run_id = $1',
      [run.run_id],
    );
    expect((await world.audit()).ok).toBe(true);
    expect(await world.audit({ business_id: run.business_id })).toMatchObject({ violated: { 8: 1 } });
  });
});

describe('the statements', () => {
  it.each(Object.entries(STATEMENTS))('%s goes by keys, whatever the statistics say', async (_, sql) => {
    const plan = await withClient(world.appUrl, async (client) => {
      await client.query('BEGIN READ ONLY');
      await client.query("SET LOCAL carillon.business_id = '1'");
      await client.query(`PREPARE statement AS ${sql.replace(/^\s*DECLARE .* FOR\n/, '')}`);
      const parameters = Math.max(0, ...[...sql.matchAll(/\$(\d+)/g)].map(([, n]) => Number(n)));
      const nulls = Array.from({ length: parameters }, () => 'NULL').join(', ');
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(
        `EXPLAIN EXECUTE statement${parameters > 0 ? `(${nulls})` : ''}`,
      );
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    });
    // A row for each process that works: there is nothing to look up in it.
    expect(plan.replace('Seq Scan on workers', '')).not.toMatch(/Seq Scan/);
  });
});

it('has a sentence for each invariant of the protocol', () => {
  expect(Object.keys(INVARIANTS)).toEqual(['1', '2', '3', '4', '5', '6', '7', '8']);
});
