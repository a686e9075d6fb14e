import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { choose } from '../src/call/candidates.ts';
import { pace } from '../src/call/pace.ts';
import { inBusiness, type Tx } from '../src/db/database.ts';
import {
  addAccount,
  addList,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  record,
  startRun,
  type Tenant,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

const LANE_RACES = 1_000;

/** Two runs on a lane with one line; `attempt` tries to open a call for either. The most that were ever open at once. */
async function raceForOneLine(
  races: number,
  attempt: (side: 0 | 1) => Promise<unknown>,
  tenant: Tenant,
): Promise<number> {
  let most = 0;
  for (let race = 0; race < races; race++) {
    await Promise.all([attempt(0), attempt(1)]);
    const gone = await inBusiness(fixture.db, tenant.business_id, (tx) =>
      tx.query('DELETE FROM carillon.open_attempts WHERE business_id = $1 RETURNING seq', [tenant.business_id]),
    );
    most = Math.max(most, gone.length);
    if (most > 1) break;
  }
  return most;
}

async function twoRunsOnOneLine(leads: number) {
  const tenant = await createTenant(fixture, { leads, lines: 1, calls_per_second: 1_000 });
  const other = await addList(fixture, tenant.business_id, leads);
  const runs = [await startRun(fixture, tenant), await startRun(fixture, tenant, { list_id: other as never })] as const;
  const leases = [
    await lease(fixture, tenant, runs[0], 'worker-1'),
    await lease(fixture, tenant, runs[1], 'worker-2'),
  ] as const;
  return { tenant, leases };
}

describe('a lane’s lines', () => {
  it(`never holds two calls on one line, in ${LANE_RACES} races of two workers`, { timeout: 120_000 }, async () => {
    const { tenant, leases } = await twoRunsOnOneLine(LANE_RACES);
    let claimed = 0;
    const most = await raceForOneLine(
      LANE_RACES,
      async (side) => {
        const { attempts } = await claimOnce(fixture, leases[side], `worker-${side + 1}`);
        claimed += attempts.length;
      },
      tenant,
    );
    expect(most).toBe(1);
    // The races were real: nearly each gave a call, to one of the two.
    expect(claimed).toBeGreaterThan(LANE_RACES / 2);
  });

  it('would be seen to break with lock and count in one statement', { timeout: 120_000 }, async () => {
    const { tenant, leases } = await twoRunsOnOneLine(LANE_RACES);
    const cursors = [0, 0];
    const broken = async (side: 0 | 1) => {
      const seq = (cursors[side] = (cursors[side] ?? 0) + 1);
      await inBusiness(fixture.db, tenant.business_id, (tx) =>
        lockAndCountAtOnce(tx, leases[side].run_id, tenant, seq),
      );
    };
    expect(await raceForOneLine(LANE_RACES, broken, tenant)).toBe(2);
  });

  it('makes leads wait when full and never makes them fail: with 3 lines all 100 are called', async () => {
    const tenant = await createTenant(fixture, { leads: 100, lines: 3 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    let called = 0;
    for (;;) {
      const attempts = await claimAll(fixture, mine, 3);
      if (attempts.length === 0) break;
      expect(attempts.length).toBeLessThanOrEqual(3);
      if (called + attempts.length < 100) expect((await claimOnce(fixture, mine)).state).toBe('lines');
      for (const attempt of attempts) await record(fixture, attempt, ended(`C${attempt.seq}`, 'completed'));
      called += attempts.length;
    }
    expect(called).toBe(100);
    const [run] = await fixture.rows('SELECT status, completed FROM carillon.outbound_call_runs WHERE run_id = $1', [
      run_id,
    ]);
    expect(run).toEqual({ status: 'completed', completed: 100 });
  });

  it('keeps the run’s own limit below the lane’s', async () => {
    const tenant = await createTenant(fixture, { leads: 20, lines: 10 });
    const run_id = await startRun(fixture, tenant, { concurrency: 4 });
    const mine = await lease(fixture, tenant, run_id);
    expect(await claimAll(fixture, mine, 20)).toHaveLength(4);
    expect((await claimOnce(fixture, mine)).state).toBe('lines');
  });

  it('does not call a number that is on the line for another run; that lead waits', async () => {
    const tenant = await createTenant(fixture, { leads: 1, lines: 10 });
    const first = await lease(fixture, tenant, await startRun(fixture, tenant));
    expect((await claimAll(fixture, first, 1)).length).toBe(1);
    const second_id = await startRun(fixture, tenant);
    const second = await lease(fixture, tenant, second_id);
    expect(await claimAll(fixture, second, 1)).toHaveLength(0);
    const [job] = await fixture.rows('SELECT status FROM carillon.outbound_call_jobs WHERE run_id = $1', [second_id]);
    expect(job).toEqual({ status: 'waiting' });
  });

  const ACCOUNT_RACES = 30;
  it(`has a number once also through two accounts at once, in ${ACCOUNT_RACES} races`, {
    timeout: 60_000,
  }, async () => {
    const tenant = await createTenant(fixture, { leads: ACCOUNT_RACES, lines: 50, calls_per_second: 1_000 });
    const second = await addAccount(fixture, tenant);
    const leases = await Promise.all(
      [tenant.carrier_account_id, second].map(async (carrier_account_id, i) => {
        const run_id = await startRun(fixture, tenant, { carrier_account_id });
        return await lease(fixture, tenant, run_id, `worker-${i}`);
      }),
    );
    const one = { ...fixture, limits: { ...fixture.limits, claim_batch_attempts: 1 } };
    for (let race = 0; race < ACCOUNT_RACES; race++)
      await Promise.all(leases.map(async (mine, i) => await claimOnce(one, mine, `worker-${i}`)));
    const [open] = await fixture.rows<{ calls: number; numbers: number }>(
      `SELECT count(*)::int AS calls, count(DISTINCT to_number)::int AS numbers FROM carillon.open_attempts
       WHERE business_id = $1`,
      [tenant.business_id],
    );
    expect(open?.calls).toBe(open?.numbers);
    // Both had their turns with each lead.
    expect(open?.calls).toBeGreaterThan(ACCOUNT_RACES / 2);
  });
});

/** What a claim must not do: the count's snapshot is taken before the lock is waited for. */
async function lockAndCountAtOnce(tx: Tx, run_id: number, tenant: Tenant, seq: number): Promise<void> {
  await tx.query(
    `WITH lane AS (
       SELECT concurrency_limit FROM carillon.lanes WHERE business_id = $1 AND carrier_account_id = $2 FOR NO KEY UPDATE),
     open AS (SELECT count(*) AS lines FROM carillon.open_attempts WHERE business_id = $1 AND carrier_account_id = $2)
     INSERT INTO carillon.open_attempts (business_id, run_id, seq, attempt_no, carrier_account_id, lead_id, token, state,
       worker_id, lease_epoch, control_epoch, from_number, to_number, intent_us, deadline_us, heard_us, call_max_ms)
     SELECT $1, $3, $4, 1, $2, 1, 'tokentokentokentokento', 'dialing', 'w', 1, 0, '+97231110000', '+97250000000', 0, 0, 0, 0
     FROM lane, open WHERE open.lines < lane.concurrency_limit`,
    [tenant.business_id, tenant.carrier_account_id, run_id, seq],
  );
}

describe('a lane’s pace', () => {
  it('starts at most rate × T + 1 calls in any span T, whoever asks and whenever', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.5, max: 500, noNaN: true }),
        fc.array(
          fc.record({
            gap_us: fc.nat(400_000),
            wanted: fc.integer({ min: 1, max: 50 }),
            // Some of those who share the lane end soon.
            until_end_us: fc.oneof(fc.nat(200_000), fc.constant(3_600_000_000)),
          }),
          { minLength: 5, maxLength: 60 },
        ),
        (calls_per_second, asks) => {
          let now_us = 1_000_000_000;
          let tat_us = 0;
          const starts: number[] = [];
          for (const { gap_us, wanted, until_end_us } of asks) {
            now_us += gap_us;
            const ends_us = now_us + until_end_us;
            const got = pace({ tat_us, now_us, ahead_us: 200_000, ends_us, calls_per_second, wanted });
            tat_us = got.tat_us;
            starts.push(...got.starts_us);
            expect(got.starts_us.every((start) => start <= Math.min(now_us + 200_000, ends_us))).toBe(true);
          }
          // How many more starts than rate × T + 1 the worst span has.
          let excess = 0;
          for (let from = 0; from < starts.length; from++)
            for (let to = from; to < starts.length; to++) {
              const span_s = ((starts[to] ?? 0) - (starts[from] ?? 0)) / 1e6;
              excess = Math.max(excess, to - from + 1 - (calls_per_second * span_s + 1));
            }
          expect(excess).toBeLessThan(1e-6);
        },
      ),
    );
  });

  it('does not stand still for an hour because the clock was set back by one', () => {
    const hour_us = 3_600_000_000;
    const now_us = 10 * hour_us;
    // At one call in ten seconds the next start lies beyond what a claim may take.
    for (const calls_per_second of [0.1, 2, 10, 1_000]) {
      const at = { now_us, ahead_us: 200_000, ends_us: now_us + hour_us, tat_us: now_us + hour_us };
      const got = pace({ ...at, calls_per_second, wanted: 1 });
      expect(got).toEqual({ starts_us: [now_us], tat_us: now_us + 1_000_000 / calls_per_second });
    }
  });

  it('commits no start that lies further ahead than a claim may take', async () => {
    const tenant = await createTenant(fixture, { leads: 50, calls_per_second: 20 });
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    const first = await claimOnce(fixture, mine);
    expect(first.attempts.length).toBeGreaterThan(0);
    expect(first.attempts.length).toBeLessThanOrEqual(20 * 0.2 + 1);
    const starts = first.attempts.map((attempt) => attempt.start_monotonic_ms);
    expect(Math.max(...starts) - Math.min(...starts)).toBeLessThanOrEqual(200);
  });
});

describe('choosing candidates', () => {
  it('fills the free lines in order, and passes what takes none', () => {
    const callable = (job: string) => job === 'callable';
    const candidates = ['callable', 'cancelled', 'busy', 'callable', 'callable'];
    expect(choose(candidates, callable, 2)).toEqual(candidates.slice(0, 4));
    expect(choose(candidates, callable, 3)).toEqual(candidates);
    expect(choose(candidates, callable, 0)).toEqual([]);
  });
});
