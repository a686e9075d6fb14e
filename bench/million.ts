/**
 * What the first big upload meets: a list of a million lines, a run over it, its cancelling, a follow-up and an export,
 * with the processes of a real installation and the simulated carrier. Prints times, and each process's peak of memory in
 * each phase. `node bench/million.ts [leads]`; Linux only (memory is read from /proc).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { createBusiness, localActor, openDatabase } from '@carillon/engine';
import type pg from 'pg';
import { median, withDatabase } from './support.ts';

const leads = Number(process.argv[2] ?? 1_000_000);
const MAIN = path.join(import.meta.dirname, '../packages/cli/src/main.ts');
const MB = 1_048_576;

/** Starts a command and waits for what it says when it is up; the rest of its words are thrown away. */
async function start(args: string[], env: Record<string, string>, ready: RegExp): Promise<[ChildProcess, string]> {
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  const up = Promise.withResolvers<string>();
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => {
      if (said.length < 100_000) said += data;
      const match = ready.exec(said);
      if (match) up.resolve(match[1] ?? '');
    });
  child.once('exit', () => up.reject(new Error(`${args[0]} ended: ${said}`)));
  return [child, await up.promise];
}

const statusOf = (pid: number, name: string) =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1_024;

function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((child) => {
      try {
        return statusOf(child, 'PPid') / 1_024 === pid;
      } catch {
        return false;
      }
    });
}

/** Proportional: what backends share is counted once. */
function pssOf(pids: number[]): number {
  return pids.reduce((sum, pid) => {
    try {
      return sum + Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0) * 1_024;
    } catch {
      return sum;
    }
  }, 0);
}

/** Peaks since it was asked last: of processes of ours by the kernel's own mark, of PostgreSQL's by looking often. */
function watchMemory(pids: Record<string, number>, postmaster: number) {
  let postgres = 0;
  const timer = setInterval(() => (postgres = Math.max(postgres, pssOf([postmaster, ...childrenOf(postmaster)]))), 250);
  return {
    peaks(): Record<string, string> {
      const all = {
        ...Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, statusOf(pid, 'VmHWM')])),
        postgres,
      };
      for (const pid of Object.values(pids)) writeFileSync(`/proc/${pid}/clear_refs`, '5');
      postgres = 0;
      return Object.fromEntries(Object.entries(all).map(([name, bytes]) => [name, `${Math.round(bytes / MB)} MB`]));
    },
    stop: () => clearInterval(timer),
  };
}

function* lines(): Generator<string> {
  yield 'phone,name,external_id,city,plan\n';
  for (let n = 0; n < leads; n += 1_000) {
    let text = '';
    for (let i = n; i < Math.min(n + 1_000, leads); i++)
      text += `05${20_000_000 + i},Person Number ${i},crm-${i},City ${i % 500},${i % 3 === 0 ? 'gold' : 'basic'}\n`;
    yield text;
  }
}

type Ask = (method: string, url: string, body?: object) => Promise<Record<string, unknown>>;

async function timed<T>(work: () => Promise<T>): Promise<[T, number]> {
  const begun = performance.now();
  return [await work(), performance.now() - begun];
}

const ms = (value: number) => (value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1_000).toFixed(1)} s`);

async function often(work: () => Promise<unknown>): Promise<string> {
  const times: number[] = [];
  for (let n = 0; n < 40; n++) times.push((await timed(work))[1]);
  return `median ${ms(median(times))}, longest ${ms(Math.max(...times))}`;
}

async function importList(apiUrl: string, key: string, list_id: number): Promise<string> {
  const [report, took_ms] = await timed(async () => {
    const answer = await fetch(`${apiUrl}/api/lists/${list_id}/import`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'text/csv' },
      body: Readable.toWeb(Readable.from(lines())) as ReadableStream,
      duplex: 'half',
    } as RequestInit);
    return (await answer.json()) as Record<string, unknown>;
  });
  return `${String(report.accepted)} accepted in ${ms(took_ms)}, ${Math.round(leads / (took_ms / 1_000))} lines/s`;
}

async function exportRun(apiUrl: string, key: string, run_id: number): Promise<string> {
  const begun = performance.now();
  const headers = { authorization: `Bearer ${key}` };
  const answer = await fetch(`${apiUrl}/api/outbound/runs/${run_id}/export.csv`, { headers });
  let [bytes, count, first_byte_ms] = [0, -1, 0];
  for await (const piece of answer.body ?? []) {
    first_byte_ms ||= performance.now() - begun;
    bytes += piece.length;
    for (const byte of piece) if (byte === 10) count++;
  }
  const took = `${Math.round(bytes / MB)} MB in ${ms(performance.now() - begun)}`;
  return `${count} lines, ${took}, first byte after ${ms(first_byte_ms)}`;
}

/** Creates a run and waits until the carrier has accepted its first call. */
async function startRun(
  ask: Ask,
  superuser: pg.Pool,
  body: object,
): Promise<{ id: number; leads: number; said: string }> {
  const begun = performance.now();
  const created = await ask('POST', '/api/outbound_calls/start', body);
  const answered = ms(performance.now() - begun);
  const placed = `SELECT 1 FROM carillon.open_attempts WHERE run_id = $1 AND call_id IS NOT NULL
    UNION ALL SELECT 1 FROM carillon.attempts WHERE run_id = $1 AND call_id IS NOT NULL LIMIT 1`;
  while ((await superuser.query(placed, [created.run_id])).rowCount === 0) await pause(5);
  const said = `answered in ${answered}, first call at the carrier after ${ms(performance.now() - begun)}`;
  return { id: Number(created.run_id), leads: Number(created.total_leads), said };
}

async function prepare(ask: Ask, simUrl: string): Promise<number> {
  await fetch(`${simUrl}/_sim/behaviour`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      default: { ring_ms: [50, 200], talk_ms: [100, 500], outcomes: { answered: 0.7, busy: 0.3 } },
    }),
  });
  await ask('POST', '/api/carrier_accounts', {
    name: 'main',
    base_url: simUrl,
    account_sid: 'AC1',
    auth_token: 'token',
    from_numbers: ['+97231110000'],
    concurrency_limit: 200,
    calls_per_second: 200,
  });
  return Number((await ask('POST', '/api/lists', { name: 'Everybody' })).list_id);
}

await withDatabase(async ({ appUrl, superuser }) => {
  const db = openDatabase({ app_url: appUrl });
  const { key } = await createBusiness(db, { name: 'A big customer' }, localActor('bench'));
  await db.close();
  const env = {
    DATABASE_URL: appUrl,
    CARILLON_SECRET: randomBytes(32).toString('base64'),
    CARILLON_LOG_LEVEL: 'warn',
    CARILLON_REQUESTS_PER_MINUTE: '1000000',
    CARILLON_METRICS_PORT: '0',
  };
  const [sim, simUrl] = await start(['carrier-sim', '--port', '0'], {}, /listens at (\S+)/);
  const [api, apiUrl] = await start(['api', '--port', '0'], env, /listens at (\S+)/);
  const [worker] = await start(['worker'], { ...env, CARILLON_PUBLIC_URL: apiUrl }, /worker (\S+) looks/);
  const { rows } = await superuser.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const postmaster = statusOf(rows[0]?.pid ?? 0, 'PPid') / 1_024;
  const memory = watchMemory({ api: api.pid ?? 0, worker: worker.pid ?? 0 }, postmaster);
  const ask: Ask = async (method, url, body) => {
    const headers = { authorization: `Bearer ${key}`, ...(body ? { 'content-type': 'application/json' } : {}) };
    const answer = await fetch(apiUrl + url, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
    if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as Record<string, unknown>;
  };
  const report: Record<string, string>[] = [];
  const note = (phase: string, figures: string) => {
    report.push({ phase, figures, ...memory.peaks() });
    console.log(`${phase}: ${figures}`);
  };
  const stop = (run_id: number, live_calls: string) =>
    timed(() => ask('POST', '/api/outbound/stop-queue', { run_id, live_calls }));
  try {
    const list_id = await prepare(ask, simUrl);
    memory.peaks();
    note('import', await importList(apiUrl, key, list_id));
    const first = await startRun(ask, superuser, { list_id });
    note('run over the list', first.said);
    await pause(15_000);
    const { calls } = (await (await fetch(`${simUrl}/_sim/totals`)).json()) as { calls: number };
    note('15 s of calling', `${calls} calls, 200 a second wanted`);
    note('status', await often(() => ask('GET', `/api/outbound/runs/${first.id}`)));
    note('page of 100 jobs', await often(() => ask('GET', `/api/outbound/runs/${first.id}/jobs?after=2000`)));
    note('search by name', await often(() => ask('GET', '/api/leads?search=person number 77')));
    note('search by number', await often(() => ask('GET', '/api/leads?search=0520777')));
    const [stopped, stop_ms] = await stop(first.id, 'drain');
    note('cancel', `answered in ${ms(stop_ms)}, ${String(stopped.cancelled)} cancelled`);
    const second = await startRun(ask, superuser, { from_run: { run_id: first.id } });
    note('follow-up, at once', `${second.leads} leads, ${second.said}`);
    await stop(second.id, 'hang_up');
    const swept = 'SELECT bool_and(swept_seq = total_leads) AS done FROM carillon.outbound_call_runs';
    const [, sweep_ms] = await timed(async () => {
      while (!(await superuser.query<{ done: boolean }>(swept)).rows[0]?.done) await pause(200);
    });
    note('rows of both runs swept', `${ms(sweep_ms)} after the second stop`);
    const third = await startRun(ask, superuser, { from_run: { run_id: first.id } });
    note('follow-up, of rows', `${third.leads} leads, ${third.said}`);
    await stop(third.id, 'hang_up');
    note('export', await exportRun(apiUrl, key, first.id));
    console.table(report);
  } finally {
    memory.stop();
    for (const child of [worker, api, sim]) child.kill('SIGTERM');
    const gone = (child: ChildProcess) => child.exitCode ?? new Promise((over) => child.once('exit', over));
    await Promise.all([worker, api, sim].map(gone));
  }
});
