#!/usr/bin/env node
// How often a worker that is stopped at a random moment is caught between its last look at the clocks and the bytes of
// its request, so that a call begins past its dial deadline: `node chaos/last-instant.ts [--stops N] [--seed S]`.
// Prints its figures as JSON; docs/guarantees.md has them. Exit code 1 when somebody was called twice.
import { randomInt } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createCarrierDrivers } from '@carillon/carriers';
import { ListId, Run, setFaultHandler } from '@carillon/contract';
import { createBusiness, createList, importLeads, type Limits, localActor, openDatabase } from '@carillon/engine';
import { z } from 'zod';
import { readCalls } from './books.ts';
import { type Carrier, createCarrier } from './carrier.ts';
import { type Client, createClient } from './client.ts';
import { TRIAL } from './limits.ts';
import { type Postgres, startPostgres } from './postgres.ts';
import { createProcesses, type Environment, type Processes, type Running } from './processes.ts';
import { createRandom, type Random } from './random.ts';
import { nowUs, until } from './wait.ts';

const WORKERS = 8;
/** More than are called. */
const LEADS_PER_STOP = 90;
const LEADS_LEAST = 2_000;
const CALLS_PER_SECOND = 30;
const LINES = 400;
/** Of the worker that stops itself. */
const CONTROL_AT_CALL = 20;
const RUNNING_MS: [number, number] = [1_000, 3_000];
/** Longer than the dial deadline; shorter than the carrier waits for a body, so that it takes what leaves late. */
const STOPPED_MS: [number, number] = [2_500, 4_000];
const CARRIER_BODY_TIMEOUT_MS = 60_000;
/** What a woken worker sends in its first turns, and the carrier's way of writing it down. */
const WOKEN_US = 1_000_000;

/** What was left open is proven absent by then. */
const END_WITHIN_MS = 300_000;

/** Nobody is believed absent before whoever was stopped has woken: what it then says stands in the rows. */
const LIMITS = {
  dial_deadline_ms: 2_000,
  dial_response_timeout_ms: 30_000,
  carrier_effect_delay_ms: 60_000,
  carrier_listing_delay_ms: 500,
  reconcile_margin_ms: 500,
  reconcile_every_ms: 5_000,
  poll_after_ms: 30_000,
  poll_work_ms: 1_000,
  ring_timeout_ms: 2_000,
  call_max_ms: 12_000,
  lane_halt_first_ms: 100,
  lane_halt_longest_ms: 500,
} satisfies Partial<Limits>;

interface Span {
  from_us: number;
  to_us: number;
}

interface Stop extends Span {
  worker_id: string;
}

interface Here {
  processes: Processes;
  postgres: Postgres;
  carrier: Carrier;
  client: Client;
  api_url: string;
  logs: string;
  env: Environment;
}

const given = parseArgs({ options: { stops: { type: 'string' }, seed: { type: 'string' } } }).values;
const stops_wanted = z.coerce.number().int().min(1).max(100_000).default(500).parse(given.stops);
const seed = z.coerce.number().int().min(1).default(randomInt(1, 1_000_000)).parse(given.seed);

async function install(dir: string): Promise<Here> {
  const [logs, dataDir] = [path.join(dir, 'logs'), path.join(dir, 'database')];
  for (const each of [logs, dataDir]) mkdirSync(each, { recursive: true });
  const processes = createProcesses({ logs, dataDir });
  const postgres = await startPostgres(dataDir);
  const sim = processes.start('carrier', [
    'carrier-sim',
    '--port',
    '0',
    '--seed',
    String(Math.max(1, seed % 1_000_000)),
  ]);
  const carrier = createCarrier((await sim.says(/listens at (\S+)/))[1] ?? '');
  const env: Environment = {
    ...Object.fromEntries(Object.entries(LIMITS).map(([name, ms]) => [`CARILLON_${name.toUpperCase()}`, String(ms)])),
    CARILLON_REQUESTS_PER_MINUTE: '1000000',
    CARILLON_LOG_LEVEL: 'error',
    CARILLON_SECRET: Buffer.alloc(32, seed).toString('base64'),
    DATABASE_URL: postgres.appUrl,
  };
  const api = processes.start('api', ['api', '--port', '0'], env);
  const [, api_url = ''] = await api.says(/listens at (\S+)/);
  return { processes, postgres, carrier, client: createClient(api_url), api_url, logs, env };
}

/** Calls fail at once: it is their beginnings that are counted. */
async function behave({ url }: Carrier): Promise<void> {
  const calls = { ring_ms: 0, talk_ms: 0, response_delay_ms: 0, outcomes: { failed: 1 } };
  const response = await fetch(`${url}/_sim/behaviour`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ body_timeout_ms: CARRIER_BODY_TIMEOUT_MS, default: calls }),
  });
  if (!response.ok) throw new Error(`the simulator refuses this behaviour: ${await response.text()}`);
}

/** A business with a lane of its own and a run over a list that lasts to the end. */
async function startRun({ postgres, carrier, client }: Here, n: number, leads: number) {
  const db = openDatabase({ app_url: postgres.appUrl });
  const actor = localActor('measurement');
  const { business_id, key } = await createBusiness(db, { name: `Business ${n}` }, actor);
  const account_sid = `AC${business_id}`;
  const ask = async (url: string, body: object) => {
    const answer = await client.ask(key, 'POST', url, body);
    if (answer.status >= 300) throw new Error(`${url}: HTTP ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  await ask('/api/carrier_accounts', {
    name: 'main',
    driver: 'twilio',
    base_url: carrier.url,
    account_sid,
    auth_token: 'token',
    from_numbers: ['+97231110000'],
    concurrency_limit: LINES,
    calls_per_second: CALLS_PER_SECOND,
  });
  const { list_id } = await createList(db, business_id, { name: 'A list' }, actor);
  const numbers = Array.from({ length: leads }, (_, i) => `+97252${3_000_000 + n * leads + i}`);
  // Not by a request: on a busy machine it takes longer than a client waits for an answer.
  const file = Readable.from([Buffer.from(['phone', ...numbers].join('\n'))]);
  await importLeads(db, business_id, ListId.parse(list_id), file, { actor, country: 'IL' });
  await db.close();
  const { run_id } = Run.parse(await ask('/api/outbound_calls/start', { list_id, concurrency: LINES }));
  return { stop: async () => await ask('/api/outbound/stop-queue', { run_id, live_calls: 'drain' }) };
}

/** Stops a worker again and again, at moments and for times of the seed's. */
async function stopAndWake(worker: Running, worker_id: string, random: Random, times: number): Promise<Stop[]> {
  const stops: Stop[] = [];
  for (let n = 0; n < times; n++) {
    await pause(random.between(...RUNNING_MS));
    const from_us = nowUs();
    worker.signal('SIGSTOP');
    await pause(random.between(...STOPPED_MS));
    const to_us = nowUs();
    worker.signal('SIGCONT');
    stops.push({ worker_id, from_us, to_us });
  }
  return stops;
}

/** Another worker, which stops itself in the very instant: what is counted must see it. */
async function control(here: Here): Promise<Stop> {
  const { processes, env, api_url, logs } = here;
  const CARILLON_FAULT = `dial.before_body:stop:${CONTROL_AT_CALL}`;
  const worker = processes.start('control', ['worker'], { ...env, CARILLON_PUBLIC_URL: api_url, CARILLON_FAULT });
  const [, worker_id = ''] = await worker.says(/worker (\S+) looks/);
  const { stop } = await startRun(here, WORKERS, LEADS_LEAST);
  const told = () => readFileSync(path.join(logs, 'control.log'), 'utf8').includes('fault point');
  await until(told, { deadline_ms: TRIAL.process_start_ms, every_ms: 5, what: 'the control to stop itself' });
  const from_us = nowUs();
  await pause(STOPPED_MS[0]);
  const to_us = nowUs();
  worker.signal('SIGCONT');
  await stop();
  return { worker_id, from_us, to_us };
}

interface AttemptRow {
  token: string;
  worker_id: string;
  intent_us: number;
  outcome: string;
  cause: string | null;
}

async function count({ postgres, carrier }: Here, stops: readonly Stop[], known: Stop, span: Span) {
  const calls = readCalls(await carrier.ledger());
  const rows = await postgres.rows<AttemptRow>(
    `SELECT DISTINCT ON (business_id, run_id, seq, attempt_no) token, worker_id, intent_us, outcome, cause
     FROM carillon.attempts ORDER BY business_id, run_id, seq, attempt_no, revision DESC`,
  );
  const attempts = new Map(rows.map((row) => [row.token, row]));
  const deadlineOf = ({ intent_us }: AttemptRow) => intent_us + LIMITS.dial_deadline_ms * 1_000;
  /** The stop in which an attempt's deadline passed. */
  const sleptThrough = (row: AttemptRow) =>
    [...stops, known].find(
      ({ worker_id, from_us, to_us }) =>
        worker_id === row.worker_id && from_us <= deadlineOf(row) && deadlineOf(row) <= to_us,
    );
  const caught_late_ms: number[] = [];
  let seen_at_control = 0;
  let late_otherwise = 0;
  for (const { created_us, attempt } of calls) {
    const row = attempts.get(attempt?.token ?? '');
    if (!row) throw new Error('a call belongs to no attempt');
    const late_us = created_us - deadlineOf(row);
    if (late_us <= 0) continue;
    const stop = sleptThrough(row);
    const on_waking = stop && stop.to_us <= created_us && created_us <= stop.to_us + WOKEN_US;
    if (on_waking && stop === known) seen_at_control++;
    else if (on_waking) caught_late_ms.push(Math.round(late_us / 1_000));
    else late_otherwise++;
  }
  const refused = rows.filter(({ cause }) => cause === 'the dial deadline is past');
  const outcomes = Object.fromEntries(
    [...Map.groupBy(rows, ({ outcome, cause }) => (outcome === 'failed' ? outcome : `${outcome}: ${cause}`))].map(
      ([outcome, group]) => [outcome, group.length],
    ),
  );
  const { create_requests } = z
    .object({ create_requests: z.record(z.string(), z.number()) })
    .parse(await carrier.totals());
  const stopped_us = stops.reduce((sum, { from_us, to_us }) => sum + to_us - from_us, 0);
  const running_s = (WORKERS * (span.to_us - span.from_us) - stopped_us) / 1e6;
  const meanwhile = calls.filter(({ created_us }) => created_us >= span.from_us && created_us <= span.to_us);
  return {
    stops: stops.length,
    stopped_for_ms_mean: Math.round(stopped_us / stops.length / 1_000),
    calls: meanwhile.length,
    calls_per_second_of_a_running_worker: Math.round(meanwhile.length / running_s),
    caught_in_the_instant: caught_late_ms.length,
    began_after_deadline_by_ms: caught_late_ms,
    began_late_otherwise: late_otherwise,
    caught_at_control: seen_at_control,
    refused_by_the_gate_on_waking: refused.filter(sleptThrough).length,
    refused_by_the_gate_otherwise: refused.filter((row) => !sleptThrough(row)).length,
    // Two businesses may have one number.
    called_twice: calls.length - new Set(calls.map(({ account, to }) => `${account} ${to}`)).size,
    create_requests,
    outcomes,
  };
}

const PLACES = 2_000;
const PLACES_AT_ONCE = 10;

/** How long the instant lasts: from the answer of the gate to the return of the write, in this process. */
async function measureInstant(carrier: Carrier) {
  const driver = createCarrierDrivers({}).get('twilio');
  if (!driver) throw new Error('no driver');
  let asked_ms = 0;
  const took_us: number[] = [];
  // One turn: nobody else's question comes in between.
  setFaultHandler(
    (_place, moment) => void (moment === 'body_out' && took_us.push((performance.now() - asked_ms) * 1_000)),
  );
  const gate = {
    pace: async () => {},
    mayStart() {
      asked_ms = performance.now();
      return true;
    },
  };
  const credentials = { driver: 'twilio', base_url: carrier.url, account_sid: 'AC0', auth_token: 'token' };
  const numbers = Array.from({ length: PLACES }, (_, i) => `+97254${3_000_000 + i}`).values();
  const line = async () => {
    for (const to of numbers) {
      const urls = { status_url: 'http://127.0.0.1:9/status', answer_url: 'http://127.0.0.1:9/answer' };
      const times = { ring_timeout_ms: 2_000, call_max_ms: 5_000, expires_at_ms: nowUs() / 1_000 + 60_000 };
      const request = { credentials, to, from: '+97231110000', ...urls, ...times };
      const result = await driver.place(request, gate);
      if (result.kind !== 'accepted') throw new Error(`a measured create was ${JSON.stringify(result)}`);
    }
  };
  await Promise.all(Array.from({ length: PLACES_AT_ONCE }, line));
  setFaultHandler(null);
  took_us.sort((a, b) => a - b);
  const mean_us = Math.round(took_us.reduce((sum, us) => sum + us, 0) / took_us.length);
  const at = (share: number) => Math.round(took_us[Math.floor(took_us.length * share)] ?? Number.NaN);
  return { creates: took_us.length, median_us: at(0.5), mean_us, p99_us: at(0.99) };
}

async function measure(here: Here) {
  const { processes, postgres, carrier, env, api_url } = here;
  await behave(carrier);
  const leads = LEADS_LEAST + Math.ceil((stops_wanted * LEADS_PER_STOP) / WORKERS);
  const workers: { process: Running; worker_id: string }[] = [];
  for (let n = 1; n <= WORKERS; n++) {
    const process = processes.start(`worker-${n}`, ['worker'], { ...env, CARILLON_PUBLIC_URL: api_url });
    workers.push({ process, worker_id: (await process.says(/worker (\S+) looks/))[1] ?? '' });
  }
  const runs = [];
  for (let n = 0; n < WORKERS; n++) runs.push(await startRun(here, n, leads));
  const shared = async () => {
    const rows = await postgres.rows('SELECT DISTINCT locked_by_worker FROM carillon.outbound_call_runs');
    return rows.length === WORKERS && (await carrier.totals()).calls > CALLS_PER_SECOND;
  };
  await until(shared, { deadline_ms: 60_000, what: 'each worker to dial a run of its own' });
  const from_us = nowUs();
  const stops = await Promise.all(
    workers.map(async ({ process, worker_id }, n) => {
      const times = Math.floor(stops_wanted / WORKERS) + (n < stops_wanted % WORKERS ? 1 : 0);
      return await stopAndWake(process, worker_id, createRandom(seed, 'stops', n), times);
    }),
  );
  const span = { from_us, to_us: nowUs() };
  for (const run of runs) await run.stop();
  const open = 'SELECT FROM carillon.outbound_call_runs WHERE ended_at IS NULL';
  const ended = async () =>
    await until(async () => (await postgres.rows(open)).length === 0, {
      deadline_ms: END_WITHIN_MS,
      what: 'the end of all runs',
    });
  await ended();
  for (const { process } of workers) await process.kill();
  const known = await control(here);
  await ended();
  const counted = await count(here, stops.flat(), known, span);
  return { ...counted, instant: await measureInstant(carrier) };
}

const dir = await mkdtemp(path.join(tmpdir(), 'carillon-instant-'));
const here = await install(dir);
let doubled = true;
try {
  const [{ version = '' } = {}] = await here.postgres.rows<{ version: string }>(
    "SELECT current_setting('server_version') AS version",
  );
  const figures = await measure(here);
  doubled = figures.called_twice > 0;
  const machine = `${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`;
  const versions = `Node ${process.versions.node}, PostgreSQL ${version}`;
  console.log(JSON.stringify({ at: new Date().toISOString(), machine, versions, seed, ...figures }, null, 2));
} finally {
  await here.processes.killAll();
  await here.postgres.close();
  await rm(dir, { recursive: true, force: true });
}
process.exit(doubled ? 1 : 0);
