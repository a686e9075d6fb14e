import { randomBytes } from 'node:crypto';
import { type BusinessId, callbackUrls, type Run } from '@carillon/contract';
import { createCarrierDrivers } from '@carillon/carriers';
import {
  type ClaimedAttempt,
  claim,
  createBusiness,
  createKey,
  defaultLimits,
  leaseRuns,
  localActor,
  openDatabase,
  systemClock,
} from '@carillon/engine';
import type { InjectOptions } from 'fastify';
import pg from 'pg';
import pino from 'pino';
import twilio from 'twilio';
import { createTestDatabase } from '../../../../test/support/database.ts';
import { guardStates } from '../../../../test/support/state-guard.ts';
import { guardTrail } from '../../../../test/support/trail-guard.ts';
import { type ApiOptions, buildApi } from '../../src/index.ts';

export const PUBLIC_URL = 'https://calls.example.com/carillon';
export const AUTH_TOKEN = 'a secret that carrier and account share';

/** What is asked with; `null` asks without a key. */
export type Key = string | null;

/** A migrated database with an API before it, without a port: asked by `ask`. What it logs is kept in `logs`. */
export async function createFixture(options: Partial<ApiOptions> = {}) {
  const database = await createTestDatabase();
  await guardTrail(database.superuserUrl);
  await guardStates(database.superuserUrl);
  const db = openDatabase({ app_url: database.appUrl, discovery_url: database.discoveryUrl, pool_connections: 8 });
  const superuser = new pg.Pool({ connectionString: database.superuserUrl, max: 2 });
  superuser.on('error', () => {});
  const logs: Record<string, unknown>[] = [];
  const log = pino({ level: 'debug' }, { write: (line: string) => void logs.push(JSON.parse(line)) });
  const api_options: ApiOptions = {
    db,
    app_url: database.appUrl,
    drivers: createCarrierDrivers(),
    secret: randomBytes(32),
    limits: defaultLimits,
    public_url: PUBLIC_URL,
    log,
    ...options,
  };
  const app = await buildApi(api_options);

  /** One request, with its answer parsed where it is JSON. */
  async function ask(key: Key, method: NonNullable<InjectOptions['method']>, url: string, more: InjectOptions = {}) {
    const authorization = key === null ? {} : { authorization: `Bearer ${key}` };
    const answer = await app.inject({ method, url, ...more, headers: { ...authorization, ...more.headers } });
    const isJson = String(answer.headers['content-type']).startsWith('application/json');
    const json: Json = isJson && answer.body !== '' ? answer.json() : {};
    return { status: answer.statusCode, json, text: answer.body, headers: answer.headers };
  }

  return {
    ...database,
    app,
    api_options,
    db,
    logs,
    ask,
    limits: api_options.limits,
    rows: async <Row extends pg.QueryResultRow>(sql: string, params: unknown[] = []) =>
      (await superuser.query<Row>(sql, params)).rows,
    async close() {
      await app.close();
      await db.close();
      await superuser.end();
      await database.drop();
    },
  };
}
export type Fixture = Awaited<ReturnType<typeof createFixture>>;

// Answers are looked into by the tests themselves.
export type Json = Record<string, unknown>;

export interface Tenant {
  business_id: BusinessId;
  owner: string;
  admin: string;
  agent: string;
}

let businesses = 0;

export async function createTenant(fixture: Fixture, language: 'en' | 'he' = 'en'): Promise<Tenant> {
  businesses++;
  const { business_id, key } = await createBusiness(
    fixture.db,
    { name: `Business ${businesses}`, language },
    localActor('test'),
  );
  const of = async (role: 'admin' | 'agent') =>
    (await createKey(fixture.db, business_id, { role }, localActor('test'))).key;
  return { business_id, owner: key, admin: await of('admin'), agent: await of('agent') };
}

/** A tenant with a carrier account and a list of leads, made through the API itself. */
export async function createCaller(fixture: Fixture, leads = 3, language: 'en' | 'he' = 'en') {
  const tenant = await createTenant(fixture, language);
  const account = await fixture.ask(tenant.owner, 'POST', '/api/carrier_accounts', { payload: accountBody() });
  const list = await fixture.ask(tenant.admin, 'POST', '/api/lists', { payload: { name: 'People' } });
  const list_id = Number(list.json.list_id);
  const report = await fixture.ask(tenant.admin, 'POST', `/api/lists/${list_id}/import`, csv(leads));
  if (report.json.accepted !== leads) throw new Error(`the fixture's import failed: ${report.text}`);
  return { ...tenant, carrier_account_id: Number(account.json.carrier_account_id), list_id };
}
export type Caller = Awaited<ReturnType<typeof createCaller>>;

let accounts = 0;

/** An account at the carrier that no other test has. */
export function accountBody(more: Json = {}) {
  accounts++;
  return {
    name: 'Main line',
    base_url: 'http://127.0.0.1:1',
    account_sid: `AC${accounts}`,
    auth_token: AUTH_TOKEN,
    from_numbers: ['+97231110000'],
    concurrency_limit: 100,
    calls_per_second: 100,
    ...more,
  };
}

/** A request that imports `leads` people with numbers of their own. */
export function csv(leads: number): InjectOptions {
  const lines = Array.from({ length: leads }, (_, n) => `050${String(1_000_000 + n)},Person ${n}`);
  return { headers: { 'content-type': 'text/csv' }, payload: ['phone,name', ...lines].join('\n') };
}

export async function startRun(fixture: Fixture, caller: Caller, body: Json = {}): Promise<Run> {
  const { list_id, carrier_account_id } = caller;
  const payload = { ...(body.lead_ids ? {} : { list_id }), carrier_account_id, ...body };
  const { status, json, text } = await fixture.ask(caller.admin, 'POST', '/api/outbound_calls/start', { payload });
  if (status !== 201) throw new Error(`the fixture's run was not started: ${text}`);
  return json as Run;
}

/** What a worker does: leases the run and commits attempts, at least one. */
export async function claimAttempts(fixture: Fixture, run_id: number): Promise<ClaimedAttempt[]> {
  const { taken } = await leaseRuns(fixture.db, 'worker-1', 0, fixture.limits, (error) => {
    throw error;
  });
  const lease = taken.find((one) => one.run_id === run_id);
  if (!lease) throw new Error('the run was not leased');
  const { attempts } = await claim(fixture.db, lease, 'worker-1', systemClock, fixture.limits);
  if (attempts.length === 0) throw new Error('nothing was claimed');
  return attempts;
}

/** The path of a callback about an attempt, without the public URL. */
export function callbackPath(kind: 'status' | 'answer', attempt: ClaimedAttempt, account = attempt.carrier_account_id) {
  const { status_url, answer_url } = callbackUrls('', 'twilio', attempt, account);
  return kind === 'status' ? status_url : answer_url;
}

/** A carrier's form as the official library signs it. */
export function signed(path: string, form: Record<string, string>, auth_token = AUTH_TOKEN): InjectOptions {
  return {
    headers: {
      'content-type': 'application/x-www-form-urlencoded',
      'x-twilio-signature': twilio.getExpectedTwilioSignature(auth_token, PUBLIC_URL + path, form),
    },
    payload: new URLSearchParams(form).toString(),
  };
}

export function statusForm(CallSid: string, CallStatus: string, more: Record<string, string> = {}) {
  return { AccountSid: 'AC1', CallSid, CallStatus, From: '+97231110000', To: '+972501000000', ...more };
}

/** Lines that somebody should look at, of one kind. */
export function securityLines(fixture: Fixture, kind: string) {
  return fixture.logs.filter((line) => line.security === true && line.kind === kind);
}
