import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import {
  createInstallation,
  type Installation,
  LEASE_TTL_MS,
  type Tenant,
  type Worker,
} from './support/installation.ts';
import { attemptsOf, databaseNow, expectAudited, expectOneCallEach, expectRightCounters } from './support/judge.ts';
import { watchCounters } from './support/watcher.ts';

let here: Installation;
let stopWatching: ReturnType<typeof watchCounters>;
beforeAll(async () => void (here = await createInstallation()));
beforeEach(() => void (stopWatching = watchCounters(here.superuserUrl)));
afterEach(async () => {
  await here.killWorkers();
  await expectRightCounters(stopWatching);
  await expectAudited(here);
});
afterAll(async () => await here.close());

interface RunRow {
  locked_by_worker: string | null;
  lease_epoch: number;
  claim_cursor: number;
}

async function runRow(run_id: number): Promise<RunRow> {
  const [row] = await here.rows<RunRow>(
    'SELECT locked_by_worker, lease_epoch, claim_cursor FROM carillon.outbound_call_runs WHERE run_id = $1',
    [run_id],
  );
  if (!row) throw new Error(`run ${run_id} is gone`);
  return row;
}

/** Two workers and a run that one of them holds: who, and who would be its heir. */
async function startHeld(tenant: Tenant): Promise<{ run_id: number; holder: Worker; heir: Worker; epoch: number }> {
  const pair = [await here.worker(), await here.worker()];
  const { run_id } = await here.start(tenant);
  const { locked_by_worker, lease_epoch } = await until(
    async () => {
      const row = await runRow(run_id);
      return row.locked_by_worker === null ? null : row;
    },
    { deadline_ms: 10_000, what: 'a worker to take the run' },
  );
  const holder = pair.find(({ worker_id }) => worker_id === locked_by_worker);
  const heir = pair.find(({ worker_id }) => worker_id !== locked_by_worker);
  if (!holder || !heir) throw new Error(`the run is held by ${locked_by_worker}, which is none of ours`);
  return { run_id, holder, heir, epoch: lease_epoch };
}

/**
 * Waits for the heir's first attempt and returns how long after `since_us` it was committed, in milliseconds. Meanwhile
 * the claim cursor must not go back, as it would for an heir that reads finished jobs again.
 */
async function reclaimedAfter(run_id: number, epoch: number, since_us: number): Promise<number> {
  const { claim_cursor } = await runRow(run_id);
  const cursors: number[] = [];
  const first = await until(
    async () => {
      cursors.push((await runRow(run_id)).claim_cursor);
      return (await attemptsOf(here, run_id)).find(({ lease_epoch }) => lease_epoch > epoch);
    },
    { deadline_ms: LEASE_TTL_MS + 15_000, every_ms: 5, what: 'an attempt under the next lease' },
  );
  expect(Math.min(...cursors)).toBe(claim_cursor);
  const after_ms = (first.intent_us - since_us) / 1_000;
  console.log(`claimed again ${Math.round(after_ms)} ms after the holder was gone, with a TTL of ${LEASE_TTL_MS} ms`);
  return after_ms;
}

/** The run goes on to an end at which every lead was called once, and nobody has to look at anything. */
async function expectWholeEnd(tenant: Tenant, run_id: number): Promise<void> {
  const run = await here.ended(tenant, run_id);
  expect(run).toMatchObject({ status: 'completed', needs_review: 0, cursor_position: tenant.leads });
  expect(run.completed + run.failed).toBe(tenant.leads);
  await expectOneCallEach(here, tenant);
  expect(await here.rows('SELECT 1 FROM carillon.open_attempts WHERE run_id = $1', [run_id])).toEqual([]);
}

/** Attempts of which the database does not know what the carrier has made of them. */
async function undecided(run_id: number, epoch: number) {
  return await here.rows<{ seq: number; attempt_no: number }>(
    `SELECT seq, attempt_no FROM carillon.open_attempts
     WHERE run_id = $1 AND lease_epoch = $2 AND state IN ('dialing', 'unknown')`,
    [run_id, epoch],
  );
}

const FINISHED = `
  SELECT seq, xmin::text, updated_at::text FROM carillon.outbound_call_jobs
  WHERE run_id = $1 AND status IN ('completed', 'failed', 'cancelled', 'skipped', 'needs_review') AND seq <= $2
  ORDER BY seq`;

describe('kill -9 of the worker that holds a run', () => {
  it('is followed by another claim within TTL + 2 s, which goes on from the cursor and touches no finished job', async () => {
    const tenant = await here.tenant({ leads: 400, lines: 40, calls_per_second: 60 });
    const { run_id, holder, heir, epoch } = await startHeld(tenant);
    await here.calls(tenant, 120);
    await holder.kill();
    const killed_us = await databaseNow(here);
    const { claim_cursor } = await runRow(run_id);
    const finished = await here.rows(FINISHED, [run_id, claim_cursor]);
    expect(finished.length).toBeGreaterThan(50);

    expect(await reclaimedAfter(run_id, epoch, killed_us)).toBeLessThanOrEqual(LEASE_TTL_MS + 2_000);
    await expectWholeEnd(tenant, run_id);
    const seqs = finished.map(({ seq }) => seq as number);
    const later = await here.rows(FINISHED, [run_id, claim_cursor]);
    expect(later.filter(({ seq }) => seqs.includes(seq as number))).toEqual(finished);
    const attempts = await attemptsOf(here, run_id);
    const fresh = attempts.filter(({ lease_epoch, attempt_no }) => lease_epoch > epoch && attempt_no === 1);
    expect(Math.min(...fresh.map(({ seq }) => seq))).toBe(claim_cursor);
    expect(new Set(attempts.map(({ worker_id }) => worker_id))).toEqual(new Set([holder.worker_id, heir.worker_id]));
    expect((await here.run(tenant, run_id)).reclaim_count).toBe(1);
  });

  it('in the middle of dialling, with slow and lost answers and no callback ever: the carrier’s list tells', async () => {
    const tenant = await here.tenant({
      leads: 200,
      lines: 60,
      calls_per_second: 40,
      behaviour: {
        ring_ms: [100, 400],
        talk_ms: [100, 400],
        // Requests take effect late, also those of a worker that is dead by then.
        effect_delay_ms: [0, 800],
        response_delay_ms: [300, 1_000],
        lose_response: 0.2,
        listing_lag_ms: 200,
        callback: { drop: 1 },
      },
    });
    const { run_id, holder, epoch } = await startHeld(tenant);
    await here.calls(tenant, 40);
    await until(async () => (await undecided(run_id, epoch)).length >= 20, {
      deadline_ms: 10_000,
      what: '20 attempts that wait for the carrier’s answer',
    });
    await holder.kill();
    const killed_us = await databaseNow(here);
    const cut = await undecided(run_id, epoch);
    expect(cut.length).toBeGreaterThan(0);

    expect(await reclaimedAfter(run_id, epoch, killed_us)).toBeLessThanOrEqual(LEASE_TTL_MS + 2_000);
    await expectWholeEnd(tenant, run_id);
    const attempts = await attemptsOf(here, run_id);
    const ends = cut.map(
      (one) => attempts.find(({ seq, attempt_no }) => seq === one.seq && attempt_no === one.attempt_no)?.outcome,
    );
    const found = ends.filter((outcome) => outcome === 'completed').length;
    const absent = ends.filter((outcome) => outcome === 'absent').length;
    console.log(
      `${cut.length} attempts were cut off while dialling: ${found} found at the carrier, ${absent} proven absent`,
    );
    expect(found + absent).toBe(cut.length);
    expect(found).toBeGreaterThan(0);
  });
});

describe('a worker that is stopped for three TTLs and wakes', () => {
  it('writes nothing to the run that it has lost', async () => {
    const tenant = await here.tenant({ leads: 700, lines: 40, calls_per_second: 50 });
    const { run_id, holder, heir, epoch } = await startHeld(tenant);
    await here.calls(tenant, 60);
    holder.signal('SIGSTOP');
    const stopped_us = await databaseNow(here);
    expect(await reclaimedAfter(run_id, epoch, stopped_us)).toBeLessThanOrEqual(LEASE_TTL_MS + 2_000);
    await until(async () => (await databaseNow(here)) - stopped_us > 3 * LEASE_TTL_MS * 1_000, {
      deadline_ms: 4 * LEASE_TTL_MS,
      what: 'three TTLs to pass',
    });
    const lost = await runRow(run_id);
    expect(lost).toMatchObject({ locked_by_worker: heir.worker_id, lease_epoch: epoch + 1 });

    holder.signal('SIGCONT');
    const woken_us = await databaseNow(here);
    // Its loops go round again: each time that it looks for runs it says so.
    for (let round = 1; round <= 3; round++)
      await until(
        async () => {
          const [row] = await here.rows<{ seen_us: number }>(
            `SELECT (extract(epoch FROM seen_at) * 1000000)::bigint AS seen_us FROM carillon.workers WHERE worker_id = $1`,
            [holder.worker_id],
          );
          return (row?.seen_us ?? 0) > woken_us + (round * LEASE_TTL_MS * 1_000) / 5;
        },
        { deadline_ms: 10_000, what: `the woken worker to look for runs, time ${round}` },
      );
    const held = await runRow(run_id);
    expect(held).toMatchObject({ locked_by_worker: heir.worker_id, lease_epoch: epoch + 1 });
    // There was still something to be taken from the heir.
    expect(held.claim_cursor).toBeLessThan(tenant.leads);

    await expectWholeEnd(tenant, run_id);
    expect((await runRow(run_id)).lease_epoch).toBe(epoch + 1);
    const attempts = await attemptsOf(here, run_id);
    const first = attempts.find(({ lease_epoch }) => lease_epoch === epoch + 1);
    expect(first?.worker_id).toBe(heir.worker_id);
    const late = attempts.filter(({ worker_id }) => worker_id === holder.worker_id);
    expect(late.filter(({ intent_us }) => intent_us >= (first?.intent_us ?? 0))).toEqual([]);
    expect(late.filter(({ lease_epoch }) => lease_epoch !== epoch)).toEqual([]);
  });
});
