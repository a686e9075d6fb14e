import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { RestoreReport } from '@carillon/contract';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import { type Backup, copyRunning, copyStopped, putBack } from './support/backup.ts';
import { createInstallation, type Installation, type Tenant } from './support/installation.ts';
import { carillon, killAll, type Running, startCarillon } from './support/processes.ts';
import { type OwnServer, startOwnServer } from './support/server.ts';
import { startStandby } from './support/standby.ts';

const LEADS = 400;
/** Of a slow machine: what is waited for comes sooner. */
const DEADLINE_MS = 60_000;

let here: Installation;
let server: OwnServer;
let scratch: string;
afterEach(async () => {
  await here.close();
  await rm(scratch, { recursive: true, force: true });
});

async function install(): Promise<{ tenant: Tenant; backup: Backup }> {
  server = await startOwnServer();
  here = await createInstallation(server);
  scratch = await mkdtemp(path.join(tmpdir(), 'carillon-backup-'));
  const tenant = await here.tenant({ leads: LEADS, lines: 40, calls_per_second: 40 });
  return { tenant, backup: { directory: server.cluster, at: path.join(scratch, 'backup') } };
}

const calledAfter = async (tenant: Tenant, more: number): Promise<number> => {
  const { calls } = await here.totals(tenant);
  await here.calls(tenant, calls + more, DEADLINE_MS);
  return calls;
};

const status = async (...args: string[]): Promise<RestoreReport> =>
  JSON.parse(await carillon(['restore', 'status', '--json', ...args], here.env)) as RestoreReport;

/** The run is paused for the restore; the carrier is asked; a person acknowledges and resumes; and the run ends. */
async function expectOneCallEachAfter(tenant: Tenant, run_id: number, reason: string, forgotten_at_least: number) {
  const paused = await until(
    async () => {
      const run = await here.run(tenant, run_id);
      return run.status === 'paused' ? run : null;
    },
    { deadline_ms: DEADLINE_MS, every_ms: 50, what: 'the run to be paused' },
  );
  expect(paused.waiting_reason).toContain('the database may have forgotten calls');
  expect(paused.waiting_reason).toContain(reason);
  await expect(here.ask(tenant.key, 'POST', `/api/outbound/runs/${run_id}/resume`)).rejects.toThrow(
    'restore_unacknowledged',
  );
  await until(async () => (await status()).unsettled.length === 0, {
    deadline_ms: DEADLINE_MS,
    every_ms: 1_000,
    what: 'every carrier to be asked',
  });
  const { calls } = await here.totals(tenant);
  const before = await here.run(tenant, run_id);
  expect(before.status).toBe('paused');
  console.log(`${reason}: ${calls} calls were made, ${before.needs_review} of them forgotten, ${before.queued} wait`);
  expect(before.needs_review).toBeGreaterThanOrEqual(forgotten_at_least);
  await carillon(['restore', 'acknowledge', '--resume', '--json'], here.env);
  const run = await here.ended(tenant, run_id, DEADLINE_MS);
  const totals = await here.totals(tenant);
  expect({ status: run.status, ...totals }).toMatchObject({ status: 'completed', calls: LEADS, doubled: 0 });
  expect(totals.numbers).toBe(LEADS);
  expect(run).toMatchObject({ needs_review: before.needs_review, cursor_position: LEADS });
  expect(run.completed + run.needs_review).toBe(LEADS);
}

describe('a backup restored over a running installation', () => {
  it('a snapshot of the disk put back, under the workers: not one lead is called again', async () => {
    const { tenant, backup } = await install();
    await here.worker();
    await here.worker();
    const { run_id } = await here.start(tenant);
    await here.calls(tenant, 60, DEADLINE_MS);
    await server.stopped(async () => await copyStopped(backup));
    await calledAfter(tenant, 80);
    await server.stopped(async () => await putBack(backup));
    await expectOneCallEachAfter(tenant, run_id, 'an older state', 40);
  }, 240_000);

  it('the same, with every process restarted and a data directory that remembers', async () => {
    const { tenant, backup } = await install();
    const more = { CARILLON_DATA_DIR: scratch };
    await here.worker(more);
    const { run_id } = await here.start(tenant);
    await here.calls(tenant, 60, DEADLINE_MS);
    await server.stopped(async () => await copyStopped(backup));
    await calledAfter(tenant, 80);
    await killServing();
    await server.stopped(async () => await putBack(backup));
    await startApi();
    await here.worker(more);
    await expectOneCallEachAfter(tenant, run_id, 'an older state', 40);
  }, 240_000);

  it('a base backup recovered to its end, with every process restarted and nothing remembered', async () => {
    const { tenant, backup } = await install();
    await here.worker();
    const { run_id } = await here.start(tenant);
    await here.calls(tenant, 60, DEADLINE_MS);
    await copyRunning(server.superuserUrl, backup);
    await calledAfter(tenant, 80);
    await killServing();
    await server.stopped(async () => await putBack(backup));
    await startApi();
    await here.worker();
    await expectOneCallEachAfter(tenant, run_id, 'another timeline: 00000002', 40);
  }, 240_000);
});

describe('a failover', () => {
  it('to an asynchronous standby that has missed commits, under the workers: not one lead is called again', async () => {
    const { tenant } = await install();
    const standby = await startStandby(server, path.join(scratch, 'standby'));
    await here.worker();
    await here.worker();
    // It was copied before there was a run: what it has of that, it was streamed.
    const { run_id } = await here.start(tenant);
    await here.calls(tenant, 60, DEADLINE_MS);
    await standby.cutOff();
    await calledAfter(tenant, 80);
    await server.stopped(async () => await standby.takeOver());
    await expectOneCallEachAfter(tenant, run_id, 'another timeline: 00000002', 40);
  }, 240_000);
});

let api: Running | undefined;

async function killServing(): Promise<void> {
  await here.killWorkers();
  await here.api.kill();
  await api?.kill();
}

/** At the address of the one that was killed, to which the test and the carrier talk. */
async function startApi(): Promise<void> {
  const [, port = ''] = /listens at \S+:(\d+)/.exec(here.api.stdout()) ?? [];
  api = startCarillon(['api', '--port', port], here.env);
  await api.says(/listens at/, DEADLINE_MS);
}

describe('no restore', () => {
  it('a restart and a crash of PostgreSQL under load pause nothing', async () => {
    const { tenant } = await install();
    await here.worker();
    const { run_id } = await here.start(tenant);
    await here.calls(tenant, 60, DEADLINE_MS);
    await server.restart();
    await calledAfter(tenant, 60);
    await server.crash();
    await calledAfter(tenant, 60);
    await here.worker();
    const run = await here.ended(tenant, run_id, DEADLINE_MS);
    expect(run).toMatchObject({ status: 'completed', completed: LEADS, needs_review: 0 });
    expect(await status()).toMatchObject({ reason: null, restores: 0 });
    expect((await here.totals(tenant)).doubled).toBe(0);

    // What no process could notice, a person declares; without a worker nobody asks the carrier.
    await here.killWorkers();
    const declared = JSON.parse(await carillon(['restore', 'declare', '--json'], here.env)) as RestoreReport;
    expect(declared).toMatchObject({ reason: 'declared by a person', restores: 1 });
    const later = await here.start({ ...tenant, list_id: await here.list(tenant, 3, LEADS) });
    await until(async () => (await here.run(tenant, later.run_id)).status === 'paused', {
      deadline_ms: DEADLINE_MS,
      what: 'a run that is started meanwhile to be paused',
    });
    await expect(carillon(['restore', 'acknowledge'], here.env)).rejects.toThrow('[restore_unsettled]');
    await carillon(['restore', 'acknowledge', '--force', '--resume'], here.env);
    expect((await here.run(tenant, later.run_id)).status).toBe('paused');
    await here.ask(tenant.key, 'POST', `/api/outbound/runs/${later.run_id}/resume`);
    await here.worker();
    expect(await here.ended(tenant, later.run_id, DEADLINE_MS)).toMatchObject({ completed: 3 });
    await expect(carillon(['restore', 'acknowledge'], here.env)).rejects.toThrow('[restore_not_suspected]');
  }, 240_000);
});

afterEach(killAll);
