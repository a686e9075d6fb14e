import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import type { ImportReport, Run } from '@carillon/contract';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { withClient } from '../support/test-server.ts';
import { until } from '../support/wait.ts';
import { leaksIn, type Planted, plantBasic, plantBytes, plantPhone, plantText, unlikely } from './support/planted.ts';
import { carillon, type Environment, killAll, type Running, startCarillon } from './support/processes.ts';

/**
 * A whole run with real processes, in which everything that must stay secret is a text that can be looked for; with all
 * the errors that might quote one. At the end none of it stands in anything that a process has said, answered as an
 * error, measured or written into a trail.
 */

const SECRET = randomBytes(32);
const WRONG_SECRET = randomBytes(32);
const TOKEN = unlikely('token');
const WRONG_PASSWORD = unlikely('password');
const NAME = unlikely('name');
const HEBREW_NAME = `זבולון ${randomBytes(4).toString('hex')} נטוע`;
const SAID = unlikely('greeting');
const NOTE = unlikely('attribute');
const EXTERNAL_ID = unlikely('external-id');
const WRONG_KEY = `ck_1_1_${randomBytes(24).toString('base64url')}`;
const KEY_SECRET_CHARS = 32;
const ACCOUNT_SID = `AC${randomBytes(8).toString('hex')}`;
/** Leads for the simulated carrier, then for each way in which a carrier echoes what it was sent. */
const PHONES = Array.from({ length: 40 }, (_, n) => `+97252${7_310_000 + n * 13}`);

const planted: Planted[] = [
  plantBytes('CARILLON_SECRET', SECRET),
  plantBytes('a wrong CARILLON_SECRET', WRONG_SECRET),
  plantText('the carrier’s token', TOKEN),
  plantBasic('the carrier’s credentials', ACCOUNT_SID, TOKEN),
  plantText('a wrong database password', WRONG_PASSWORD),
  plantText('a lead’s name', NAME),
  plantText('a lead’s Hebrew name', HEBREW_NAME),
  plantText('what leads are told', SAID),
  plantText('a lead’s attribute', NOTE),
  plantText('a lead’s external id', EXTERNAL_ID),
  plantText('a wrong key', WRONG_KEY.replace(/^ck_1_1_/, '')),
  ...PHONES.map((phone, n) => plantPhone(`the number of lead ${n}`, phone)),
];

let database: TestDatabase;
let env: Environment;
const processes: [string, Running][] = [];
/** Every answer that was an error, and what else was answered to be looked through. */
const answers: [string, string][] = [];
let api: Running;
let apiUrl: string;
let owner: string;
let agent: string;
let business_id: number;
let echo: { url: string; asked(): number; close(): void };

beforeAll(async () => {
  database = await createTestDatabase();
  env = {
    DATABASE_URL: database.appUrl,
    CARILLON_SECRET: SECRET.toString('base64'),
    CARILLON_LOG_LEVEL: 'debug',
    CARILLON_LEASE_TTL_MS: '2000',
    CARILLON_DIAL_DEADLINE_MS: '1000',
    CARILLON_CARRIER_EFFECT_DELAY_MS: '500',
    CARILLON_CARRIER_LISTING_DELAY_MS: '300',
    CARILLON_RECONCILE_MARGIN_MS: '300',
    CARILLON_RECONCILE_EVERY_MS: '300',
    CARILLON_POLL_AFTER_MS: '500',
    CARILLON_POLL_WORK_MS: '100',
    CARILLON_RING_TIMEOUT_MS: '2000',
    CARILLON_CALL_MAX_MS: '5000',
    CARILLON_DIAL_RESPONSE_TIMEOUT_MS: '2000',
  };
  for (const url of [database.appUrl, database.superuserUrl, database.ownerUrl])
    planted.push(plantText('a database password', decodeURIComponent(new URL(url).password)));
  const made = JSON.parse(await carillon(['business', 'create', 'A business', '--json'], env)) as {
    business_id: number;
    key: string;
  };
  [business_id, owner] = [made.business_id, made.key];
  const key = async (...args: string[]) =>
    (JSON.parse(await carillon(['key', 'create', '--json', ...args], env)) as { key: string }).key;
  agent = await key('--business', String(business_id), '--role', 'agent');
  const system = await key('--role', 'system_admin');
  for (const [name, text] of [
    ['an owner’s key', owner],
    ['an agent’s key', agent],
    ['a system administrator’s key', system],
  ] as const)
    planted.push(plantText(name, text.slice(-KEY_SECRET_CHARS)));
  api = started('api', ['api', '--port', '0']);
  [, apiUrl = ''] = await api.says(/listens at (\S+)/);
  echo = await startEcho();
  await ask(system, 'GET', '/api/businesses');
});
afterAll(async () => {
  echo.close();
  await killAll();
  await database.drop();
});

function started(name: string, args: string[], more: Environment = {}): Running {
  const running = startCarillon(args, { ...env, ...more });
  processes.push([name, running]);
  return running;
}

/** Asks the API, and keeps what it answers where that is an error. */
async function ask<T>(key: string | null, method: string, path: string, body?: unknown, type = 'application/json') {
  const headers: Record<string, string> = key === null ? {} : { authorization: `Bearer ${key}` };
  if (body !== undefined) headers['content-type'] = type;
  const sent = typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await fetch(apiUrl + path, { method, headers, body: body === undefined ? null : sent });
  const text = await answer.text();
  if (!answer.ok) answers.push([`${method} → ${answer.status}`, text]);
  return { status: answer.status, json: (text.startsWith('{') ? JSON.parse(text) : {}) as T };
}

/** A carrier that answers by throwing back everything that it was sent, in the way that its account's name says. */
async function startEcho() {
  let asked = 0;
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    asked += 1;
    const said = `${request.method} ${request.url} ${JSON.stringify(request.headers)} ${Buffer.concat(chunks)} ${decodeURIComponent(Buffer.concat(chunks).toString())}`;
    answerWith(request, response, said);
  });
  server.listen(0, '127.0.0.1');
  await until(() => server.listening, { deadline_ms: 5_000 });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, asked: () => asked, close: () => void server.close() };
}

const WAYS = ['contact', 'unheard', 'lane', 'rate', 'broken', 'page', 'garbage', 'moved', 'reset', 'listing'] as const;

function answerWith(request: IncomingMessage, response: ServerResponse, said: string): void {
  const way = WAYS.find((one) => request.url?.includes(`/${one}/`));
  const refuse = (status: number, code: number) =>
    response
      .writeHead(status, { 'content-type': 'application/json' })
      .end(JSON.stringify({ code, message: said.slice(0, 4_000), more_info: said, status }));
  if (request.method === 'GET' && way !== 'listing') return void refuse(500, 20500);
  if (way === 'contact') return void refuse(400, 21211);
  if (way === 'unheard') return void refuse(400, 29999);
  if (way === 'lane') return void refuse(401, 20003);
  if (way === 'rate') return void refuse(429, 20429);
  if (way === 'broken') return void refuse(503, 20503);
  if (way === 'page') return void response.writeHead(404, { 'content-type': 'text/html' }).end(`<html>${said}</html>`);
  if (way === 'garbage') return void response.writeHead(201).end(said);
  if (way === 'moved') return void response.writeHead(302, { location: `/${encodeURIComponent(said)}` }).end();
  if (way === 'reset') return void request.socket.resetAndDestroy();
  // A list of calls that are none, each with all that was sent.
  response.writeHead(request.method === 'POST' ? 500 : 200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ calls: [{ sid: said, status: said, to: said }], next_page_uri: said, message: said }));
}

async function account(name: string, base_url: string): Promise<number> {
  const { json } = await ask<{ carrier_account_id: number }>(owner, 'POST', '/api/carrier_accounts', {
    name,
    driver: 'twilio',
    base_url,
    account_sid: ACCOUNT_SID,
    auth_token: TOKEN,
    from_numbers: ['+97231110000'],
    concurrency_limit: 10,
    calls_per_second: 50,
  });
  return json.carrier_account_id;
}

async function lead(n: number): Promise<number> {
  const { json } = await ask<{ lead_id: number }>(owner, 'POST', '/api/leads', {
    phone: PHONES[n],
    name: n % 2 === 0 ? NAME : HEBREW_NAME,
    external_id: `${EXTERNAL_ID}-${n}`,
    attributes: { note: NOTE },
  });
  return json.lead_id;
}

async function start(request: object): Promise<number> {
  const { status, json } = await ask<Run>(owner, 'POST', '/api/outbound_calls/start', {
    answer: { say: SAID, language: 'en-US' },
    ...request,
  });
  expect(status).toBe(201);
  return json.run_id;
}

const onDatabase = async <T>(sql: string): Promise<T[]> =>
  await withClient(database.superuserUrl, async (client) => (await client.query(sql)).rows as T[]);

async function ended(...run_ids: number[]): Promise<void> {
  const over = async () => {
    const rows = await onDatabase('SELECT run_id::int FROM carillon.outbound_call_runs WHERE ended_at IS NOT NULL');
    return run_ids.every((run_id) => rows.some((row) => (row as { run_id: number }).run_id === run_id));
  };
  await until(over, { deadline_ms: 60_000, every_ms: 100, what: `the end of runs ${run_ids.join(', ')}` });
}

/** What anybody on the machine sees of the processes, and the server of its connections: statements included. */
async function lookAround(): Promise<void> {
  const { stdout } = await promisify(execFile)('ps', ['-A', '-ww', '-o', 'pid=,args=']);
  const pids = processes.map(([, { pid }]) => String(pid));
  const ours = stdout.split('\n').filter((line) => pids.includes(line.trim().split(' ')[0] ?? ''));
  answers.push(['the list of processes', ours.join('\n')]);
  const rows = await onDatabase(
    'SELECT application_name, query FROM pg_stat_activity WHERE datname = current_database()',
  );
  answers.push(['pg_stat_activity', JSON.stringify(rows)]);
}

describe('no secret and no person comes out', () => {
  it('while runs go well and badly', async () => {
    const sim = started('carrier-sim', ['carrier-sim', '--port', '0']);
    const [, simUrl = ''] = await sim.says(/listens at (\S+)/);
    const worker = started('worker', ['worker'], { CARILLON_PUBLIC_URL: apiUrl });
    await worker.says(/looks for runs/);

    const main = await account('main', simUrl);
    const { json: list } = await ask<{ list_id: number }>(owner, 'POST', '/api/lists', { name: 'People' });
    const lines = PHONES.slice(0, 10).map((phone, n) => `${NAME} ${n},${phone},${NOTE}`);
    // The last ones are refused: a number that is none, with a number in the line, and a line too many quotes.
    const file = ['name,phone,note', ...lines, `${HEBREW_NAME},${PHONES[11]}0000000,${NOTE}`].join('\n');
    const report = await ask<ImportReport>(owner, 'POST', `/api/lists/${list.list_id}/import`, file, 'text/csv');
    expect(report.json).toMatchObject({ accepted: 10, rejected: 1 });
    const good = await start({ list_id: list.list_id, carrier_account_id: main });
    await lookAround();
    const bad: number[] = [];
    for (const [n, way] of WAYS.entries()) {
      const carrier_account_id = await account(way, `${echo.url}/${way}`);
      bad.push(await start({ lead_ids: [await lead(12 + n)], carrier_account_id }));
    }
    await ended(good);
    await until(() => echo.asked() >= WAYS.length * 2, { deadline_ms: 60_000, what: 'every way of echoing' });
    // Some are called again and again; that is enough of it.
    for (const run_id of bad) await ask(owner, 'POST', '/api/outbound/stop-queue', { run_id, live_calls: 'hang_up' });
    const attempts = await onDatabase(
      'SELECT token FROM carillon.attempts UNION SELECT token FROM carillon.open_attempts',
    );
    expect(attempts.length).toBeGreaterThan(15);
  }, 180_000);

  it('when what is asked is wrong', async () => {
    const [phone = ''] = PHONES;
    for (const key of [WRONG_KEY, `${owner}x`, owner.replace(/^ck_\d+/, 'ck_999'), TOKEN])
      await ask(key, 'GET', '/api/lists');
    for (const scheme of ['Basic', 'Digest', ''])
      await fetch(`${apiUrl}/api/lists`, {
        headers: { authorization: `${scheme} ${Buffer.from(`x:${owner}`).toString('base64')}` },
      });
    const bodies: [string, string, unknown, string?][] = [
      ['POST', '/api/leads', `{"phone": "${phone}", "name": "${NAME}", "x": ${TOKEN}`],
      ['POST', '/api/leads', `"${NAME} ${phone}"`],
      ['POST', '/api/leads', { phone: `${phone}x${phone}`, name: NAME }],
      ['POST', '/api/leads', { phone, name: { first: NAME } }],
      ['POST', '/api/leads', { phone, name: NAME, nickname: NAME }],
      ['POST', '/api/leads', { phone, name: NAME, attributes: { note: [NOTE] } }],
      ['POST', '/api/leads', `phone=${encodeURIComponent(phone)}`, 'application/x-www-form-urlencoded'],
      ['POST', '/api/carrier_accounts', { auth_token: TOKEN, base_url: `http://${TOKEN}@x`, driver: TOKEN }],
      ['POST', '/api/carrier_accounts', { auth_token: [TOKEN], account_sid: ACCOUNT_SID, from_numbers: phone }],
      ['POST', '/api/outbound_calls/start', { lead_ids: [phone], answer: { say: SAID, language: SAID } }],
      ['POST', '/api/outbound_calls/start', { lead_ids: [999_999_999], name: NAME }],
      ['POST', '/api/outbound/stop-queue', { run_id: phone }],
      ['POST', `/api/outbound_calls/jobs/${phone}/cancel`, {}],
      ['POST', '/api/lists/1/import?country=XX&phone=name', `name\n${phone}\n`, 'text/csv'],
      ['POST', '/api/lists/1/import?phone=telephone', `${NAME},${phone}\n${NAME},${phone}\n`, 'text/csv'],
      ['POST', '/api/lists/1/import', `{"phone": "${phone}"\n{${NAME}`, 'application/x-ndjson'],
      ['POST', '/api/lists', `${NAME}${'x'.repeat(2_000_000)}`],
      ['PUT', `/api/${TOKEN}/${phone}`, { phone }],
    ];
    for (const [method, path, body, type] of bodies) {
      const { status } = await ask(owner, method, path, body, type);
      expect([method, path.slice(0, 30), status]).toEqual([method, path.slice(0, 30), expect.any(Number)]);
      expect(status, JSON.stringify(body).slice(0, 100)).toBeGreaterThanOrEqual(400);
    }
    for (const path of [
      `/api/leads/${encodeURIComponent(phone)}`,
      `/api/leads?phone=${encodeURIComponent(phone)}&after=${encodeURIComponent(NAME)}`,
      `/api/leads?search=${encodeURIComponent(NAME)}&limit=${TOKEN}`,
      `/api/outbound/runs/${phone}`,
      `/api/outbound/runs?key=${owner}`,
      `/${owner}`,
      `/api/lists?authorization=Bearer%20${owner}`,
      `/api/%zz${TOKEN}`,
    ])
      await ask(agent, 'GET', path);
    // Forbidden to an agent, with all of it in the body.
    await ask(agent, 'POST', '/api/carrier_accounts', { auth_token: TOKEN, name: NAME });
    await ask(agent, 'POST', '/api/leads', { phone, name: NAME });
  }, 60_000);

  it('when callbacks are forged', async () => {
    const attempts = await onDatabase<{
      business_id: string;
      run_id: string;
      seq: number;
      attempt_no: number;
      token: string;
      carrier_account_id: string;
    }>('SELECT business_id, run_id, seq, attempt_no, token, carrier_account_id FROM carillon.attempts LIMIT 5');
    for (const { business_id: b, run_id, seq, attempt_no, token, carrier_account_id } of attempts) {
      const path = `/carriers/twilio/${b}/${carrier_account_id}/${run_id}/${seq}/${attempt_no}/${token}`;
      const form = new URLSearchParams({
        CallSid: 'CA1',
        CallStatus: 'completed',
        To: PHONES[0] ?? '',
        From: PHONES[1] ?? '',
      });
      for (const url of [`${path}/status`, `${path}/answer`, `${path}x/status`, `${path}/nowhere`]) {
        for (const body of [form.toString(), `${form}&To=${TOKEN}`, `{"To": "${PHONES[0]}"}`]) {
          const answer = await fetch(apiUrl + url, {
            method: 'POST',
            headers: { 'content-type': 'application/x-www-form-urlencoded', 'x-twilio-signature': TOKEN },
            body,
          });
          expect(answer.status).toBeGreaterThanOrEqual(400);
          answers.push([`callback → ${answer.status}`, await answer.text()]);
        }
      }
    }
    expect(attempts.length).toBe(5);
  }, 60_000);

  it('when the database goes away, or was never there', async () => {
    const elsewhere = new URL(database.superuserUrl);
    elsewhere.pathname = '/postgres';
    const onServer = (sql: string) => withClient(elsewhere.toString(), (client) => client.query(sql));
    await onServer(`ALTER DATABASE "${database.name}" WITH ALLOW_CONNECTIONS false`);
    await onServer(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database.name}' AND pid <> pg_backend_pid()`,
    );
    try {
      for (const path of ['/api/lists', '/readyz']) expect((await ask(owner, 'GET', path)).status).toBeGreaterThan(499);
      expect((await ask(owner, 'POST', '/api/leads', { phone: PHONES[30], name: NAME })).status).toBeGreaterThan(499);
    } finally {
      await onServer(`ALTER DATABASE "${database.name}" WITH ALLOW_CONNECTIONS true`);
    }
    await until(async () => (await ask(owner, 'GET', '/api/lists')).status === 200, { deadline_ms: 30_000 });

    const wrong = new URL(database.appUrl);
    wrong.password = WRONG_PASSWORD;
    const misspelt = `postgres//user:${WRONG_PASSWORD}@127.0.0.1/x`;
    const unreachable = `postgres://user:${WRONG_PASSWORD}@127.0.0.1:1/x`;
    const api_at = (url: string): [string[], Environment] => [['api', '--port', '0'], { DATABASE_URL: url }];
    const refusals: [string[], Environment][] = [
      api_at(wrong.toString()),
      api_at(misspelt),
      api_at(`${unreachable}?sslmode=${WRONG_PASSWORD}`),
      api_at(`postgres://user:${WRONG_PASSWORD}@nowhere.invalid/x`),
      api_at(`postgres://user:${WRONG_PASSWORD}#x@127.0.0.1/x`),
      [['worker'], { DATABASE_URL: wrong.toString() }],
      [['worker'], { CARILLON_SECRET: `${SECRET.toString('base64')}${TOKEN}` }],
      [['api'], { CARILLON_PUBLIC_URL: `https://user:${TOKEN}@example.com/` }],
      [['business', 'create', 'x'], { DATABASE_URL: wrong.toString() }],
      [['audit'], { DATABASE_URL: wrong.toString() }],
      [['readiness'], { DATABASE_URL: wrong.toString() }],
      [['migrate'], { CARILLON_OWNER_DATABASE_URL: misspelt }],
      [['migrate'], { CARILLON_OWNER_DATABASE_URL: wrong.toString(), DATABASE_URL: unreachable }],
      [['adopt', '--from', unreachable], {}],
      [['adopt', '--from', misspelt], {}],
    ];
    for (const [command, more] of refusals) {
      const running = started(command.join(' '), command, { CARILLON_MIGRATION_WAIT_MS: '0', ...more });
      // One that waits for its database has said so by then.
      const refuses = () => /\[\w+\]|"point"/.test(running.stderr() + running.stdout());
      await until(refuses, { deadline_ms: 60_000, what: `${command[0]} to refuse: ${running.stderr()}` });
      await running.kill();
    }
  }, 300_000);

  it('when a worker has the wrong secret', async () => {
    const account_id = await account('unopened', echo.url);
    await Promise.all(processes.filter(([name]) => name === 'worker').map(([, running]) => running.stop()));
    const worker = started('worker', ['worker'], {
      CARILLON_PUBLIC_URL: apiUrl,
      CARILLON_SECRET: WRONG_SECRET.toString('base64'),
    });
    const run_id = await start({ lead_ids: [await lead(30)], carrier_account_id: account_id });
    await until(() => worker.stderr().includes('a dial failed'), { deadline_ms: 60_000, what: 'a dial that fails' });
    await ask(owner, 'POST', '/api/outbound/stop-queue', { run_id, live_calls: 'drain' });
    await worker.stop();
  }, 120_000);

  it('and all of that has left no trace', async () => {
    for (const path of ['/metrics', '/openapi.json', '/healthz', '/readyz']) {
      const answer = await fetch(apiUrl + path);
      answers.push([path, await answer.text()]);
    }
    await lookAround();
    for (const command of [
      ['readiness', '--json'],
      ['audit', '--json'],
    ])
      await started(command.join(' '), command).ended;
    await api.stop();
    const tokens = await onDatabase<{ token: string }>(
      'SELECT token FROM carillon.attempts UNION SELECT token FROM carillon.open_attempts',
    );
    planted.push(...tokens.map(({ token }, n) => plantText(`the token of attempt ${n}`, token)));

    const leaks: string[] = [];
    for (const [name, running] of processes)
      leaks.push(...leaksIn(`${name} said`, running.stdout() + running.stderr(), planted));
    for (const [name, text] of answers) leaks.push(...leaksIn(name, text, planted));
    for (const [what, sql] of Object.entries(KEPT))
      for (const { row } of await onDatabase<{ row: string }>(sql)) leaks.push(...leaksIn(what, row, planted));
    expect(leaks, leaks.join('\n')).toEqual([]);

    // What was looked through was there.
    const said = processes.map(([, running]) => running.stderr()).join('');
    expect(said).toMatch(/"security":true/);
    expect(said).toMatch(/not currently accepting connections/);
    expect(answers.length).toBeGreaterThan(100);
    const [events] = await onDatabase<{ n: number }>('SELECT count(*)::int AS n FROM carillon.audit_events');
    expect(events?.n).toBeGreaterThan(50);
  }, 120_000);
});

/** What is kept and is nobody's lead: trails, causes and reasons. */
const KEPT = {
  audit_events: 'SELECT row_to_json(t)::text AS row FROM carillon.audit_events t',
  installation_events: 'SELECT row_to_json(t)::text AS row FROM carillon.installation_events t',
  'causes of attempts': 'SELECT cause AS row FROM carillon.attempts WHERE cause IS NOT NULL',
  'causes of open attempts': 'SELECT cause AS row FROM carillon.open_attempts WHERE cause IS NOT NULL',
  'errors of runs':
    "SELECT concat_ws(' ', last_error, pause_reason) AS row FROM carillon.outbound_call_runs WHERE last_error IS NOT NULL OR pause_reason IS NOT NULL",
  'reasons of jobs':
    "SELECT concat_ws(' ', reason, last_outcome) AS row FROM carillon.outbound_call_jobs WHERE reason IS NOT NULL",
  'reasons of lanes': 'SELECT halted_reason AS row FROM carillon.lanes WHERE halted_reason IS NOT NULL',
  'reasons of unwanted calls': 'SELECT reason AS row FROM carillon.unwanted_calls',
  'errors of imports': 'SELECT error AS row FROM carillon.list_imports WHERE error IS NOT NULL',
  workers: 'SELECT row_to_json(t)::text AS row FROM carillon.workers t',
};
