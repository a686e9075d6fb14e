import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AttemptKey } from '../src/call/attempt.ts';
import { getRun } from '../src/run/read.ts';
import {
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  ended,
  type Fixture,
  lease,
  live,
  record,
  startRun,
  type Tenant,
} from './support/fixture.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

/** A lane that was refused once and whose halt is over, and the one attempt that probes it. */
async function probe() {
  const tenant = await createTenant(fixture, { leads: 3, lines: 2 });
  const run_id = await startRun(fixture, tenant);
  const mine = await lease(fixture, tenant, run_id);
  const [refused, alsoOpen] = await claimAll(fixture, mine, 2);
  if (!refused || !alsoOpen) throw new Error('two are wanted');
  await record(fixture, alsoOpen, { kind: 'not_dialed', cause: 'stopped', unreachable: false });
  await record(fixture, refused, { kind: 'rejected', code: '20429', class: 'again' });
  await fixture.rows('UPDATE carillon.lanes SET halted_until_us = 1 WHERE business_id = $1', [tenant.business_id]);
  const { attempts } = await claimOnce(fixture, mine);
  expect(attempts).toHaveLength(1);
  return { tenant, run_id, mine, attempt: attempts[0] as AttemptKey };
}

async function laneOf(tenant: Tenant) {
  const [lane] = await fixture.rows(
    'SELECT refusals_in_a_row, halted_reason, halted_until_us FROM carillon.lanes WHERE business_id = $1',
    [tenant.business_id],
  );
  return lane;
}

const CLOSED = { refusals_in_a_row: 0, halted_reason: null, halted_until_us: null };

describe('a lane that was refused', () => {
  it('is trusted again after a call is accepted, and claims as many as it has lines', async () => {
    const { tenant, mine, attempt } = await probe();
    expect((await claimOnce(fixture, mine)).attempts).toEqual([]);
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    expect(await laneOf(tenant)).toEqual(CLOSED);
    expect((await claimOnce(fixture, mine)).attempts).toHaveLength(1);
  });

  it('is probed with whoever was tried least, not with whom it refused', async () => {
    const { attempt } = await probe();
    // The two that were claimed before it wait, due at once; the third was never tried.
    expect(attempt).toMatchObject({ seq: 3, attempt_no: 1 });
  });

  it('is trusted though a callback of the call comes before the answer that accepted it', async () => {
    const { tenant, attempt } = await probe();
    await record(fixture, attempt, live('C1', 'ringing'));
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    expect(await laneOf(tenant)).toEqual(CLOSED);
  });

  it('is trusted though the first that is heard of the call is its end', async () => {
    const { tenant, attempt } = await probe();
    await record(fixture, attempt, ended('C1', 'busy'));
    expect(await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' })).toBe('nothing');
    expect(await laneOf(tenant)).toEqual(CLOSED);
  });

  it('is no longer what its run waits for once the halt is over, though no call was accepted yet', async () => {
    const { tenant, run_id } = await probe();
    expect(await laneOf(tenant)).toMatchObject({ halted_reason: '20429' });
    expect((await getRun(fixture.db, tenant.business_id, run_id)).waiting_reason).toBeNull();
    await fixture.rows(
      'UPDATE carillon.lanes SET halted_until_us = (extract(epoch FROM now()) * 1000000)::bigint + 60000000 WHERE business_id = $1',
      [tenant.business_id],
    );
    expect((await getRun(fixture.db, tenant.business_id, run_id)).waiting_reason).toContain('20429');
  });

  it('has in the trail each time that it is halted and that it is trusted again, and not each refusal between', async () => {
    const { tenant, mine, attempt } = await probe();
    await record(fixture, attempt, { kind: 'rejected', code: '20003', class: 'lane' });
    await fixture.rows('UPDATE carillon.lanes SET halted_until_us = 1 WHERE business_id = $1', [tenant.business_id]);
    const [second] = (await claimOnce(fixture, mine)).attempts;
    if (!second) throw new Error('nothing was claimed');
    await record(fixture, second, { kind: 'accepted', call_id: 'C1' });
    await record(fixture, second, live('C1', 'ringing'));
    const [third, fourth] = await claimAll(fixture, mine, 2);
    expect(fourth).toBeUndefined();
    if (!third) throw new Error('nothing was claimed');
    await record(fixture, third, { kind: 'accepted', call_id: 'C2' });

    const events = await fixture.rows(
      `SELECT action, actor, subject_id, before, after FROM carillon.audit_events
       WHERE business_id = $1 AND subject_type = 'carrier_account' ORDER BY event_id`,
      [tenant.business_id],
    );
    const lane = { actor: 'test', subject_id: String(tenant.carrier_account_id) };
    const halted_until = expect.stringMatching(/^\d{4}-\d\d-\d\dT/);
    expect(events).toEqual([
      {
        ...lane,
        action: 'lane.halted',
        before: { halted_reason: null },
        after: { halted_reason: '20429', halted_until },
      },
      {
        ...lane,
        action: 'lane.halted',
        before: { halted_reason: null },
        after: { halted_reason: '20003', halted_until },
      },
      {
        ...lane,
        action: 'lane.resumed',
        before: { halted_reason: '20003', refusals_in_a_row: 2 },
        after: { halted_reason: null, refusals_in_a_row: 0 },
      },
    ]);
  });

  it('that is refused again while it is halted is halted for longer, which is no new event', async () => {
    const tenant = await createTenant(fixture, { leads: 3, lines: 3 });
    const run_id = await startRun(fixture, tenant);
    for (const attempt of await claimAll(fixture, await lease(fixture, tenant, run_id), 3))
      await record(fixture, attempt, { kind: 'rejected', code: '20429', class: 'again' });
    expect(await laneOf(tenant)).toMatchObject({ refusals_in_a_row: 3, halted_reason: '20429' });
    const events = await fixture.rows(
      `SELECT FROM carillon.audit_events WHERE business_id = $1 AND action = 'lane.halted'`,
      [tenant.business_id],
    );
    expect(events).toHaveLength(1);
  });

  it('pauses twice as long with each refusal, and a minute at most', async () => {
    const tenant = await createTenant(fixture, { leads: 4, lines: 4 });
    const run_id = await startRun(fixture, tenant);
    const untils_us: number[] = [];
    for (const attempt of await claimAll(fixture, await lease(fixture, tenant, run_id), 4)) {
      if (untils_us.length === 3)
        await fixture.rows('UPDATE carillon.lanes SET refusals_in_a_row = 20 WHERE business_id = $1', [
          tenant.business_id,
        ]);
      await record(fixture, attempt, { kind: 'rejected', code: '20003', class: 'lane' });
      const [row] = await fixture.rows<{ from_now_us: string; until_us: string }>(
        `SELECT halted_until_us AS until_us, halted_until_us - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
           AS from_now_us FROM carillon.lanes WHERE business_id = $1`,
        [tenant.business_id],
      );
      expect(Number(row?.from_now_us)).toBeLessThanOrEqual([1, 2, 4, 60][untils_us.length]! * 1_000_000);
      untils_us.push(Number(row?.until_us));
    }
    const [first = 0, second = 0, third = 0, last = 0] = untils_us;
    expect(second - first).toBeGreaterThanOrEqual(1_000_000);
    expect(third - second).toBeGreaterThanOrEqual(2_000_000);
    expect(last - third).toBeGreaterThanOrEqual(56_000_000);
  });
});
