import type { RunId, Seq } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { moveCarrierAccount, resumeLane } from '../src/business/carrier-accounts.ts';
import { reconcileNow } from '../src/call/reconcile.ts';
import { resolveJob } from '../src/call/resolve.ts';
import { expireDialing } from '../src/call/tend.ts';
import { reportForgottenCall, takeUnwanted, unwantedIsOver } from '../src/call/unwanted.ts';
import { inBusiness } from '../src/db/database.ts';
import { importLeads } from '../src/lead/import.ts';
import { listNamed } from '../src/lead/lists.ts';
import { eraseLead } from '../src/lead/erase.ts';
import { pauseForRestore, suspectRestore } from '../src/restore/notice.ts';
import { reviewForgotten } from '../src/restore/review.ts';
import { leaseRun } from '../src/run/lease.ts';
import { behind } from './support/behind.ts';
import {
  actor,
  addList,
  claimAll,
  claimOnce,
  createFixture,
  createTenant,
  type Fixture,
  lease,
  live,
  readRow,
  record,
  review,
  recount,
  startRun,
} from './support/fixture.ts';

/** Each lock: what it is held for is changed by somebody who commits while it is waited for, and is seen. */

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture({ dial_deadline_ms: 1 });
});
afterAll(async () => await fixture.close());

async function claimed(leads = 1, lines = 1) {
  const tenant = await createTenant(fixture, { leads, lines });
  const run_id = await startRun(fixture, tenant);
  const mine = await lease(fixture, tenant, run_id);
  const attempts = await claimAll(fixture, mine, lines);
  const [attempt] = attempts;
  if (!attempt) throw new Error('nothing was claimed');
  return { tenant, run_id, mine, attempt, attempts };
}

async function expectTrue(run_id: RunId): Promise<void> {
  const { kept, counted } = await recount(fixture, run_id);
  expect(kept).toEqual(counted);
}

const RUN = 'UPDATE carillon.outbound_call_runs SET';
const PAUSED = `${RUN} status = 'paused', locked_by_worker = NULL, lock_ts = NULL, control_epoch = control_epoch + 1
  WHERE run_id = $1`;
const STOPPED = `${RUN} status = 'cancelling', cancel_requested_at = now(), cancelled = cancelled + queued + waiting,
  queued = 0, waiting = 0, locked_by_worker = NULL, lock_ts = NULL WHERE run_id = $1`;
const LOCK_RUN = 'SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 FOR UPDATE';
const LOCK_LANE = 'SELECT 1 FROM carillon.lanes WHERE business_id = $1 FOR UPDATE';
/** Somebody claims job 1 of the run $1. */
const CLAIM = [
  `UPDATE carillon.outbound_call_jobs SET status = 'in_progress', attempts = 1 WHERE run_id = $1 AND seq = 1`,
  `INSERT INTO carillon.open_attempts (business_id, run_id, seq, attempt_no, carrier_account_id, lead_id, token, state,
     worker_id, lease_epoch, control_epoch, from_number, to_number, intent_us, deadline_us, call_max_ms, heard_us)
   SELECT j.business_id, j.run_id, 1, 1, r.carrier_account_id, j.lead_id, repeat('t', 22), 'dialing', 'w', 1, 0, '+1',
     l.phone, 0, 4000000000000000, 1, 0
   FROM carillon.outbound_call_jobs j JOIN carillon.outbound_call_runs r USING (business_id, run_id)
   JOIN carillon.leads l USING (business_id, lead_id) WHERE j.run_id = $1 AND j.seq = 1`,
  `${RUN} queued = queued - 1, in_progress = in_progress + 1, claim_cursor = 2 WHERE run_id = $1`,
] as const;

describe('claiming', () => {
  it('a claim takes nothing of a run that is paused meanwhile', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const mine = await lease(fixture, tenant, run_id);
    const { result } = await behind(fixture, [[PAUSED, [run_id]]], () => claimOnce(fixture, mine));
    expect(result).toMatchObject({ state: 'lost', attempts: [] });
    await expectTrue(run_id);
  });

  it('a claim takes nothing of a lane that is halted meanwhile', async () => {
    const tenant = await createTenant(fixture);
    const mine = await lease(fixture, tenant, await startRun(fixture, tenant));
    const halt = "UPDATE carillon.lanes SET halted_reason = 'a person' WHERE business_id = $1";
    const { result } = await behind(fixture, [[halt, [tenant.business_id]]], () => claimOnce(fixture, mine));
    expect(result).toMatchObject({ state: 'halted', attempts: [] });
  });

  it('a claim counts the line that another claim takes meanwhile', async () => {
    const tenant = await createTenant(fixture, { leads: 1, lines: 1 });
    const list_id = (await addList(fixture, tenant.business_id, 1)) as never;
    const [one, two] = [await startRun(fixture, tenant), await startRun(fixture, tenant, { list_id })];
    const mine = await lease(fixture, tenant, two);
    const change = [[LOCK_LANE, [tenant.business_id]] as const, ...CLAIM.map((sql) => [sql, [one]] as const)];
    const { result, waited } = await behind(fixture, change, () => claimOnce(fixture, mine));
    expect(waited).toBe(true);
    expect(result).toMatchObject({ state: 'lines', attempts: [] });
  });

  it('a run that somebody has locked is passed at once', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    const { result, waited } = await behind(fixture, [[LOCK_RUN, [run_id]]], () =>
      inBusiness(fixture.db, tenant.business_id, (tx) => leaseRun(tx, run_id, 'worker-1', fixture.limits)),
    );
    expect({ result, waited }).toEqual({ result: null, waited: false });
  });
});

describe('settling', () => {
  it('the end of an attempt obeys a stop that comes meanwhile', async () => {
    const { run_id, attempt } = await claimed();
    await behind(fixture, [[STOPPED, [run_id]]], () =>
      record(fixture, attempt, { kind: 'not_dialed', cause: 'late', unreachable: false }),
    );
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'cancelled', cancelled: 1, waiting: 0 });
    await expectTrue(run_id);
  });

  it('evidence does not write over what is recorded meanwhile', async () => {
    const { run_id, attempt } = await claimed();
    const answered = `UPDATE carillon.open_attempts SET state = 'in_call', call_id = 'C1', placed_us = 1, answered_us = 1
      WHERE run_id = $1`;
    await behind(fixture, [[answered, [run_id]]], () => record(fixture, attempt, { kind: 'accepted', call_id: 'C1' }));
    expect(await fixture.rows('SELECT state, call_id FROM carillon.open_attempts WHERE run_id = $1', [run_id])).toEqual(
      [{ state: 'in_call', call_id: 'C1' }],
    );
  });

  it('a refusal sees the refusal that comes meanwhile', async () => {
    const { tenant, attempt } = await claimed();
    const refused = `UPDATE carillon.lanes SET refusals_in_a_row = 3, halted_reason = '20003',
      halted_until_us = (extract(epoch FROM now()) * 1000000)::bigint + 60000000 WHERE business_id = $1`;
    const { waited } = await behind(fixture, [[refused, [tenant.business_id]]], () =>
      record(fixture, attempt, { kind: 'rejected', code: '20003', class: 'lane' }),
    );
    expect(waited).toBe(true);
    const [lane] = await fixture.rows<{ refusals: number; halted_s: number }>(
      `SELECT refusals_in_a_row AS refusals, halted_until_us / 1e6 - extract(epoch FROM now()) AS halted_s
       FROM carillon.lanes WHERE business_id = $1`,
      [tenant.business_id],
    );
    expect(lane?.refusals).toBe(4);
    // The fourth halt in a row: 1 s, doubled three times, less what has passed since.
    expect(Number(lane?.halted_s)).toBeGreaterThan(1);
    const told = "SELECT FROM carillon.audit_events WHERE business_id = $1 AND action = 'lane.halted'";
    expect(await fixture.rows(told, [tenant.business_id])).toEqual([]);
  });

  it('an accepted call leaves a lane halted that a person halts meanwhile', async () => {
    const { tenant, attempt } = await claimed();
    await fixture.rows(
      "UPDATE carillon.lanes SET refusals_in_a_row = 1, halted_reason = '20003', halted_until_us = 1 WHERE business_id = $1",
      [tenant.business_id],
    );
    const halt = "UPDATE carillon.lanes SET halted_reason = 'a person', halted_until_us = NULL WHERE business_id = $1";
    await behind(fixture, [[halt, [tenant.business_id]]], () =>
      record(fixture, attempt, { kind: 'accepted', call_id: 'C1' }),
    );
    const [lane] = await fixture.rows(
      'SELECT halted_reason, refusals_in_a_row FROM carillon.lanes WHERE business_id = $1',
      [tenant.business_id],
    );
    expect(lane).toEqual({ halted_reason: 'a person', refusals_in_a_row: 1 });
  });
});

describe('deciding', () => {
  it('a decision about a job sees what is settled meanwhile', async () => {
    const { tenant, run_id, attempt } = await claimed(2, 1);
    await record(fixture, attempt, await review(fixture, attempt));
    const settled = [
      [LOCK_RUN, [run_id]],
      ["UPDATE carillon.outbound_call_jobs SET status = 'completed' WHERE run_id = $1 AND seq = 1", [run_id]],
      [`${RUN} needs_review = needs_review - 1, completed = completed + 1 WHERE run_id = $1`, [run_id]],
    ] as const;
    const resolving = behind(fixture, settled, () =>
      resolveJob(fixture.db, tenant.business_id, { run_id, seq: 1 as Seq }, 'call_again', {
        actor,
        limits: fixture.limits,
      }),
    );
    await expect(resolving).rejects.toMatchObject({ code: 'job_state_conflict', details: { status: 'completed' } });
    await expectTrue(run_id);
  });

  it('a lead is not erased whose call is begun meanwhile', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const run_id = await startRun(fixture, tenant);
    const [job] = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.outbound_call_jobs WHERE run_id = $1',
      [run_id],
    );
    const change = [LOCK_RUN, ...CLAIM].map((sql) => [sql, [run_id]] as const);
    const erasing = behind(fixture, change, () =>
      eraseLead(fixture.db, tenant.business_id, Number(job?.lead_id) as never, { actor, limits: fixture.limits }),
    );
    await expect(erasing).rejects.toMatchObject({ code: 'lead_in_call' });
    await expectTrue(run_id);
  });

  it('a lead is not erased again that is erased meanwhile', async () => {
    const tenant = await createTenant(fixture, { leads: 1 });
    const [lead] = await fixture.rows<{ lead_id: string }>(
      'SELECT lead_id FROM carillon.leads WHERE business_id = $1',
      [tenant.business_id],
    );
    const erased = `UPDATE carillon.leads SET phone = NULL, name = NULL, erased_at = '2001-02-03T04:05:06Z'
      WHERE business_id = $1`;
    const { result, waited } = await behind(fixture, [[erased, [tenant.business_id]]], () =>
      eraseLead(fixture.db, tenant.business_id, Number(lead?.lead_id) as never, { actor, limits: fixture.limits }),
    );
    expect(waited).toBe(true);
    expect(result).toMatchObject({ erased_at: '2001-02-03T04:05:06.000Z' });
    const told = "SELECT FROM carillon.audit_events WHERE business_id = $1 AND action = 'lead.erased'";
    expect(await fixture.rows(told, [tenant.business_id])).toEqual([]);
  });

  it('a run is not paused for a restore that is acknowledged meanwhile', async () => {
    const tenant = await createTenant(fixture);
    const run_id = await startRun(fixture, tenant);
    await suspectRestore(fixture.db, 'declared', actor);
    const change = [
      [LOCK_RUN, [run_id]],
      ['UPDATE carillon.installation_state SET suspected_at = NULL, reason = NULL', []],
    ] as const;
    const { waited } = await behind(fixture, change, () =>
      pauseForRestore(fixture.db, 'declared', actor, (error) => {
        throw error;
      }),
    );
    expect(waited).toBe(true);
    expect(await readRow(fixture, run_id)).toMatchObject({ status: 'pending' });
  });

  it('nobody of a run that is stopped meanwhile is put under review', async () => {
    const { tenant, run_id } = await claimed(2, 1);
    const [lead] = await fixture.rows<{ phone: string }>(
      `SELECT l.phone FROM carillon.outbound_call_jobs j JOIN carillon.leads l USING (business_id, lead_id)
       WHERE j.run_id = $1 AND j.seq = 2`,
      [run_id],
    );
    const account = { business_id: tenant.business_id, carrier_account_id: tenant.carrier_account_id };
    const { result } = await behind(fixture, [[STOPPED, [run_id]]], () =>
      reviewForgotten(fixture.db, account, [{ call_id: 'CA1', to: lead?.phone ?? '' }], {
        limits: fixture.limits,
        actor,
      }),
    );
    expect(result).toMatchObject({ forgotten: 1, reviewed: 0 });
    await expectTrue(run_id);
  });
});

describe('tending', () => {
  it('the reaper of dialling passes an attempt that is answered meanwhile, and holds up nobody behind it', async () => {
    const { run_id, attempt } = await claimed();
    const other = await claimed();
    const placed =
      "UPDATE carillon.open_attempts SET state = 'placed', call_id = 'C1', placed_us = 1 WHERE run_id = $1";
    await fixture.rows('UPDATE carillon.open_attempts SET deadline_us = 1');
    const due = [attempt, other.attempt].map((key) => ({ ...key, errand: 'expire' as const }));
    const { result, waited } = await behind(fixture, [[placed, [run_id]]], () => expireDialing(fixture.db, due));
    expect({ result, waited }).toEqual({ result: 1, waited: false });
    const states = 'SELECT state FROM carillon.open_attempts WHERE run_id = ANY ($1) ORDER BY run_id';
    expect(await fixture.rows(states, [[run_id, other.run_id]])).toEqual([{ state: 'placed' }, { state: 'unknown' }]);
  });

  it('a reconciliation passes what is being settled', async () => {
    const { tenant, run_id, attempts } = await claimed(2, 2);
    for (const attempt of attempts) await record(fixture, attempt, { kind: 'unknown', cause: 'reset' });
    const settling = 'SELECT 1 FROM carillon.open_attempts WHERE run_id = $1 AND seq = 1 FOR UPDATE';
    const { result, waited } = await behind(fixture, [[settling, [run_id]]], () =>
      reconcileNow(fixture.db, tenant.business_id, { run_id, actor }),
    );
    expect(waited).toBe(false);
    expect(result).toMatchObject({ unknown: 1 });
  });

  /** Held between the search for calls and the look at each. */
  const NOBODY_WRITES = 'LOCK TABLE carillon.unwanted_calls IN SHARE ROW EXCLUSIVE MODE';

  async function unwantedCall() {
    const { tenant, attempt } = await claimed();
    await record(fixture, attempt, { kind: 'accepted', call_id: 'C1' });
    await record(fixture, attempt, live('C2', 'ringing'));
    const mine = async () =>
      (await takeUnwanted(fixture.db, fixture.limits)).filter((call) => call.business_id === tenant.business_id);
    return { tenant, mine };
  }

  it('a call that nobody wants is taken by one of two workers', async () => {
    const { tenant, mine } = await unwantedCall();
    const taken = `UPDATE carillon.unwanted_calls SET asked_us = (extract(epoch FROM now()) * 1000000)::bigint
      WHERE business_id = $1`;
    const { result, waited } = await behind(
      fixture,
      [
        [NOBODY_WRITES, []],
        [taken, [tenant.business_id]],
      ],
      mine,
    );
    expect({ result, waited }).toEqual({ result: [], waited: true });
  });

  it('a call that nobody wants and somebody is at is passed, and holds up none behind it', async () => {
    const [one, other] = [await unwantedCall(), await unwantedCall()];
    const lock = 'SELECT 1 FROM carillon.unwanted_calls WHERE business_id = $1 FOR UPDATE';
    const { result, waited } = await behind(fixture, [[lock, [one.tenant.business_id]]], () =>
      takeUnwanted(fixture.db, fixture.limits),
    );
    expect(waited).toBe(false);
    expect(result.map(({ business_id }) => business_id)).toEqual([other.tenant.business_id]);
  });

  it('a call that is over meanwhile is nobody’s to hang up', async () => {
    const { tenant, mine } = await unwantedCall();
    const over = 'UPDATE carillon.unwanted_calls SET over_at = now() WHERE business_id = $1';
    const { result, waited } = await behind(
      fixture,
      [
        [NOBODY_WRITES, []],
        [over, [tenant.business_id]],
      ],
      mine,
    );
    expect({ result, waited }).toEqual({ result: [], waited: true });
    await unwantedIsOver(fixture.db, { ...tenant, call_id: 'C2' });
  });

  it('a forgotten call that tells of itself twice at once is one', async () => {
    const { tenant } = await claimed();
    const tell = () => reportForgottenCall(fixture.db, tenant.business_id, tenant.carrier_account_id, 'CX', actor);
    await behind(fixture, [[LOCK_LANE, [tenant.business_id]]], () => Promise.all([tell(), tell()]), 2);
    const told = "SELECT FROM carillon.audit_events WHERE business_id = $1 AND action = 'access.forgotten_call'";
    expect(await fixture.rows(told, [tenant.business_id])).toHaveLength(1);
  });
});

describe('lists and accounts', () => {
  it('an import sees the import that begins meanwhile', async () => {
    const tenant = await createTenant(fixture, { leads: 0 });
    const begun = `WITH begun AS (
        INSERT INTO carillon.list_imports (business_id, list_id, state) VALUES ($1, $2, 'running') RETURNING import_id)
      UPDATE carillon.lists SET import_id = (SELECT import_id FROM begun) WHERE business_id = $1 AND list_id = $2`;
    const importing = behind(fixture, [[begun, [tenant.business_id, tenant.list_id]]], () =>
      importLeads(fixture.db, tenant.business_id, tenant.list_id, file(), { actor, country: 'IL' }),
    );
    await expect(importing).rejects.toMatchObject({ code: 'import_in_progress' });
  });

  async function* file(): AsyncGenerator<Buffer> {
    yield Buffer.from('phone\n0501002000\n');
  }

  it('a list of a name is found that is made meanwhile', async () => {
    const { business_id } = await createTenant(fixture, { leads: 0 });
    const change = [
      ['SELECT 1 FROM carillon.businesses WHERE business_id = $1 FOR UPDATE', [business_id]],
      ["INSERT INTO carillon.lists (business_id, name) VALUES ($1, 'autumn')", [business_id]],
    ] as const;
    await behind(fixture, change, () => listNamed(fixture.db, business_id, { name: 'autumn' }, actor));
    const named = "SELECT 1 FROM carillon.lists WHERE business_id = $1 AND name = 'autumn'";
    expect(await fixture.rows(named, [business_id])).toHaveLength(1);
  });

  it('an account tells from where it moves', async () => {
    const { business_id, carrier_account_id } = await createTenant(fixture, { leads: 0 });
    const moved = "UPDATE carillon.carrier_accounts SET base_url = 'http://elsewhere' WHERE business_id = $1";
    await behind(fixture, [[moved, [business_id]]], () =>
      moveCarrierAccount(fixture.db, business_id, carrier_account_id, 'http://here', actor),
    );
    const [event] = await fixture.rows(
      "SELECT before FROM carillon.audit_events WHERE business_id = $1 AND action = 'carrier_account.moved'",
      [business_id],
    );
    expect(event).toEqual({ before: { base_url: 'http://elsewhere' } });
  });

  it('a person who resumes a lane is told why it was halted meanwhile', async () => {
    const { business_id, carrier_account_id } = await createTenant(fixture, { leads: 0 });
    const halted = "UPDATE carillon.lanes SET halted_reason = 'just now' WHERE business_id = $1";
    await behind(fixture, [[halted, [business_id]]], () =>
      resumeLane(fixture.db, business_id, carrier_account_id, actor),
    );
    const [event] = await fixture.rows(
      "SELECT before FROM carillon.audit_events WHERE business_id = $1 AND action = 'lane.resumed'",
      [business_id],
    );
    expect(event).toMatchObject({ before: { halted_reason: 'just now' } });
  });
});
