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

await withDatabase(async ({ appUrl, superuser }) => {
  const db = openDatabase({ app_url: appUrl });
  const { key } = await createBusiness(db, { name: 'A big customer' }, localActor('bench'));
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

  const ask = async (method: string, url: string, body?: object) => {
    const headers = { authorization: `Bearer ${key}`, ...(body ? { 'content-type': 'application/json' } : {}) };
    const answer = await fetch(apiUrl + url, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) });
    if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${await answer.text()}`);
    return (await answer.json()) as Record<string, unknown>;
  };
  const timed = async <T>(work: () => Promise<T>): Promise<[T, number]> => {
    const begun = performance.now();
    return [await work(), performance.now() - begun];
  };
  const calls = async () => ((await (await fetch(`${simUrl}/_sim/totals`)).json()) as { calls: number }).calls;
  const firstCallAfter = async (before: number) => {
    while ((await calls()) === before) await pause(5);
  };
  const report: Record<string, string>[] = [];
  const note = (phase: string, figures: string) => {
    report.push({ phase, figures, ...memory.peaks() });
    console.log(`${phase}: ${figures}`);
  };
  const ms = (value: number) => (value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1_000).toFixed(1)} s`);
  const often = async (work: () => Promise<unknown>) => {
    const times: number[] = [];
    for (let n = 0; n < 40; n++) times.push((await timed(work))[1]);
    return `median ${ms(median(times))}, longest ${ms(Math.max(...times))}`;
  };

  try {
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
    const { list_id } = await ask('POST', '/api/lists', { name: 'Everybody' });
    memory.peaks();

    const [imported, import_ms] = await timed(async () => {
      const answer = await fetch(`${apiUrl}/api/lists/${String(list_id)}/import`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'text/csv' },
        body: Readable.toWeb(Readable.from(lines())) as ReadableStream,
        duplex: 'half',
      } as RequestInit);
      return (await answer.json()) as Record<string, unknown>;
    });
    note(
      'import',
      `${String(imported.accepted)} accepted in ${ms(import_ms)}, ${Math.round(leads / (import_ms / 1_000))} lines/s`,
    );

    const run = async (body: object) => {
      const before = await calls();
      const begun = performance.now();
      const created = await ask('POST', '/api/outbound_calls/start', body);
      const answered_ms = performance.now() - begun;
      await firstCallAfter(before);
      return {
        id: Number(created.run_id),
        leads: created.total_leads,
        answered_ms,
        first_ms: performance.now() - begun,
      };
    };
    const first = await run({ list_id });
    note(
      'run over the list',
      `answered in ${ms(first.answered_ms)}, first call at the carrier after ${ms(first.first_ms)}`,
    );
    await pause(15_000);
    note('15 s of calling', `${await calls()} calls at 200 a second`);
    note('status', await often(() => ask('GET', `/api/outbound/runs/${first.id}`)));
    note('page of 100 jobs', await often(() => ask('GET', `/api/outbound/runs/${first.id}/jobs?after=2000`)));
    note('search by name', await often(() => ask('GET', '/api/leads?search=person number 77')));
    note('search by number', await often(() => ask('GET', '/api/leads?search=0520777')));

    const [stopped, stop_ms] = await timed(() =>
      ask('POST', '/api/outbound/stop-queue', { run_id: first.id, live_calls: 'drain' }),
    );
    note(
      'cancel',
      `answered in ${ms(stop_ms)} with ${String(stopped.cancelled)} cancelled, ${String(stopped.in_flight)} in flight`,
    );
    const second = await run({ from_run: { run_id: first.id } });
    note(
      'follow-up run, at once',
      `${String(second.leads)} leads, answered in ${ms(second.answered_ms)}, first call after ${ms(second.first_ms)}`,
    );
    await ask('POST', '/api/outbound/stop-queue', { run_id: second.id, live_calls: 'hang_up' });

    const swept = 'SELECT bool_and(swept_seq = total_leads) AS done FROM carillon.outbound_call_runs';
    const [, sweep_ms] = await timed(async () => {
      while (!(await superuser.query<{ done: boolean }>(swept)).rows[0]?.done) await pause(200);
    });
    note('rows of both runs swept', `${ms(sweep_ms)} after the second stop`);
    const third = await run({ from_run: { run_id: first.id } });
    note(
      'follow-up run, of rows',
      `${String(third.leads)} leads, answered in ${ms(third.answered_ms)}, first call after ${ms(third.first_ms)}`,
    );
    await ask('POST', '/api/outbound/stop-queue', { run_id: third.id, live_calls: 'hang_up' });

    const begun = performance.now();
    const answer = await fetch(`${apiUrl}/api/outbound/runs/${first.id}/export.csv`, {
      headers: { authorization: `Bearer ${key}` },
    });
    let [bytes, count, first_byte_ms] = [0, -1, 0];
    for await (const piece of answer.body ?? []) {
      first_byte_ms ||= performance.now() - begun;
      bytes += piece.length;
      for (const byte of piece) if (byte === 10) count++;
    }
    const export_ms = performance.now() - begun;
    note(
      'export',
      `${count} lines, ${Math.round(bytes / MB)} MB in ${ms(export_ms)}, first byte after ${ms(first_byte_ms)}`,
    );
    console.table(report);
  } finally {
    memory.stop();
    for (const child of [worker, api, sim]) child.kill('SIGTERM');
    await Promise.all(
      [worker, api, sim].map((child) => child.exitCode ?? new Promise((gone) => child.once('exit', gone))),
    );
    await db.close();
  }
});
