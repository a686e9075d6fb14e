import { createCarrierDrivers } from '@carillon/carriers';
import { openDatabase } from '@carillon/engine';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import {
  accountBody,
  AUTH_TOKEN,
  type Caller,
  callbackPath,
  claimAttempts,
  createCaller,
  createFixture,
  type Fixture,
  signed,
  startRun,
  statusForm,
} from './support/api.ts';

let fixture: Fixture;
let caller: Caller;
beforeAll(async () => {
  fixture = await createFixture();
  caller = await createCaller(fixture);
});
afterAll(async () => await fixture.close());

describe('an error', () => {
  it('is a sentence, a code and the id of the request, which stands in a header too', async () => {
    const { json, headers } = await fixture.ask(caller.agent, 'GET', '/api/outbound/runs/999999');
    expect(json).toEqual({ error: 'Run not found', code: 'run_not_found', request_id: headers['x-request-id'] });
    expect(headers['content-type']).toBe('application/json; charset=utf-8');
  });

  it('is the same for an address that can not even be read, and does not repeat it', async () => {
    const { status, text, json, headers } = await fixture.ask(null, 'GET', '/api/%zz/052-1234567');
    expect(status).toBe(404);
    expect(json).toMatchObject({ code: 'route_not_found', request_id: headers['x-request-id'] });
    expect(text).not.toContain('1234567');
  });

  it("speaks the client's language, else the business's, else English", async () => {
    const hebrew = await createCaller(fixture, 1, 'he');
    const cases: [string | null, string | undefined, string][] = [
      [caller.agent, undefined, 'Run not found'],
      [caller.agent, 'he-IL,he;q=0.9', 'הרצה לא נמצאה'],
      [caller.agent, 'iw', 'הרצה לא נמצאה'],
      [caller.agent, 'fr, he;q=0.2, en;q=0.7', 'Run not found'],
      [caller.agent, 'en;q=0, he', 'הרצה לא נמצאה'],
      [caller.agent, '*', 'Run not found'],
      [hebrew.agent, undefined, 'הרצה לא נמצאה'],
      [hebrew.agent, '*', 'הרצה לא נמצאה'],
      [hebrew.agent, 'en-GB', 'Run not found'],
      [null, 'he', 'יש לתת מפתח API תקף בכותרת "Authorization: Bearer KEY"'],
      [null, undefined, 'Give a valid API key as "Authorization: Bearer KEY"'],
    ];
    for (const [key, language, sentence] of cases) {
      const headers: Record<string, string> = language === undefined ? {} : { 'accept-language': language };
      const answer = await fixture.ask(key, 'GET', '/api/outbound/runs/999999', { headers });
      expect([language, answer.json.error]).toEqual([language, sentence]);
      expect(answer.headers['content-language']).toBe(/[א-ת]/.test(sentence) ? 'he' : 'en');
    }
  });

  it('says in Hebrew also what is wrong with a request, in the words of the schema and in ours', async () => {
    const headers = { 'accept-language': 'he' };
    const post = (url: string, payload: object) => fixture.ask(caller.owner, 'POST', url, { payload, headers });
    const cases: [string, object, string][] = [
      ['/api/lists', { name: '' }, 'name: קצר מדי: המחרוזת צריכה להכיל 1 תווים או יותר'],
      ['/api/lists', { name: 'x', more: 1 }, 'מפתח לא מזוהה: "more"'],
      ['/api/outbound_calls/start', {}, 'יש לתת אחד מאלה: list_id, lead_ids, from_run'],
      ['/api/keys', { role: 'agent', expires_at: '2020-01-01T00:00:00Z' }, 'expires_at: מועד שעוד לא עבר'],
    ];
    for (const [url, payload, problem] of cases) {
      const { json } = await post(url, payload);
      expect(json).toMatchObject({ code: 'invalid_request', error: `הבקשה אינה תקינה: ${problem}` });
    }
    const none = await fixture.ask(caller.owner, 'POST', '/api/lists', { headers });
    expect(none.json.error).toBe('הבקשה אינה תקינה: אין לה גוף; יש לשלוח אובייקט JSON');
    const run = await startRun(fixture, caller);
    await post('/api/outbound/stop-queue', { run_id: run.run_id });
    const conflict = await post(`/api/outbound/runs/${run.run_id}/resume`, {});
    expect(conflict.json.error).toBe('לא ניתן להמשיך הרצה במצב "בוטלה"');
    const forbidden = await fixture.ask(caller.agent, 'GET', '/api/keys', { headers });
    expect(forbidden.json.error).toBe('אין הרשאה לפעולה זו לתפקיד שלך (נציג)');
  });

  it('for an address that leads nowhere, without a key as with one', async () => {
    for (const key of [null, caller.agent]) {
      const { status, json } = await fixture.ask(key, 'POST', '/api/nothing/here');
      expect(status).toBe(404);
      expect(json.code).toBe('route_not_found');
    }
  });
});

describe('a body', () => {
  const post = (payload: string, type = 'application/json') =>
    fixture.ask(caller.owner, 'POST', '/api/lists', { payload, headers: { 'content-type': type } });

  it('that is no JSON, is empty, or is poisoned, is refused in words', async () => {
    const broken = await post('{"name": ');
    expect(broken).toMatchObject({ status: 422, json: { code: 'invalid_request' } });
    expect(broken.json.error).toMatch(/JSON/);
    const empty = await post('');
    expect(empty.json.error).toContain('it has no body; send a JSON object');
    const poisoned = await post('{"name": "x", "__proto__": {"a": 1}}');
    expect(poisoned).toMatchObject({ status: 422, json: { code: 'invalid_request' } });
    const array = await post('[1]');
    expect(array).toMatchObject({ status: 422, json: { details: { in: 'body' } } });
  });

  it('of another type is refused with the one that is expected', async () => {
    const { status, json } = await post('name=x', 'application/x-www-form-urlencoded');
    expect(status).toBe(415);
    expect(json).toMatchObject({ code: 'unsupported_media_type', details: { expected: 'application/json' } });
  });

  it('over the bound is refused with the bound', async () => {
    const { status, json } = await post(JSON.stringify({ name: 'x'.repeat(1_100_000) }));
    expect(status).toBe(413);
    expect(json).toMatchObject({ code: 'body_too_large', details: { limit_bytes: 1_048_576 } });
  });
});

describe('bounds of pages and keys', () => {
  it.each(['limit=0', 'limit=501', 'limit=x', 'after=x', 'after=-1'])('?%s is refused', async (query) => {
    const { status, json } = await fixture.ask(caller.agent, 'GET', `/api/outbound/runs?${query}`);
    expect(status).toBe(422);
    expect(json).toMatchObject({ code: 'invalid_request', details: { in: 'querystring' } });
    expect(json.error).toContain(query.split('=')[0]);
  });

  it('an Idempotency-Key has at most 200 characters', async () => {
    const ask = (length: number) =>
      fixture.ask(caller.admin, 'POST', '/api/outbound_calls/start', {
        payload: { list_id: caller.list_id },
        headers: { 'idempotency-key': 'k'.repeat(length) },
      });
    expect((await ask(200)).status).toBe(201);
    expect(await ask(201)).toMatchObject({ status: 422, json: { details: { in: 'headers' } } });
  });
});

it.each(['pigeon', 'canary'])(
  'names the drivers that there are when one is asked for that is not: %s',
  async (driver) => {
    const payload = accountBody({ driver });
    const { status, json } = await fixture.ask(caller.owner, 'POST', '/api/carrier_accounts', { payload });
    expect(status).toBe(422);
    expect(json).toMatchObject({ code: 'unknown_driver', details: { driver, known: 'twilio' } });
  },
);

it('refuses a number that another entry of the same account at the carrier has', async () => {
  const payload = accountBody();
  const first = await fixture.ask(caller.owner, 'POST', '/api/carrier_accounts', { payload });
  const second = await fixture.ask(caller.owner, 'POST', '/api/carrier_accounts', { payload });
  expect(second).toMatchObject({
    status: 409,
    json: { code: 'from_number_taken', details: { carrier_account_id: first.json.carrier_account_id } },
  });
});

it("never shows an account's secret again, and keeps it sealed", async () => {
  const made = await fixture.ask(caller.owner, 'POST', '/api/carrier_accounts', { payload: accountBody() });
  const listed = await fixture.ask(caller.owner, 'GET', '/api/carrier_accounts');
  expect(made.status).toBe(201);
  expect(made.text + listed.text).not.toContain(AUTH_TOKEN);
  expect(made.json).not.toHaveProperty('auth_token');
  expect(JSON.stringify(fixture.logs)).not.toContain(AUTH_TOKEN);
  const rows = await fixture.rows<{ sealed: string }>(
    "SELECT encode(auth_token_sealed, 'escape') AS sealed FROM carillon.carrier_accounts",
  );
  expect(rows.length).toBeGreaterThan(0);
  expect(JSON.stringify(rows)).not.toContain(AUTH_TOKEN);
});

it('a fault of ours is logged with its request id, and tells nothing outside', async () => {
  // A trigger stands in for a fault: the statement fails with words that must not leave.
  await fixture.rows(`CREATE FUNCTION carillon.fail() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'secret words' USING ERRCODE = '22000', DETAIL = 'Key (phone)=(+972501112233)'; END $$`);
  await fixture.rows(
    'CREATE TRIGGER fail BEFORE INSERT ON carillon.lists FOR EACH ROW EXECUTE FUNCTION carillon.fail()',
  );
  try {
    fixture.logs.length = 0;
    const { status, json, text } = await fixture.ask(caller.owner, 'POST', '/api/lists', { payload: { name: 'x' } });
    expect(status).toBe(500);
    expect(json).toEqual({ error: expect.any(String), code: 'internal', request_id: expect.any(String) });
    expect(text).not.toMatch(/secret words|INSERT|carillon\.|at .*\.ts/);
    const line = fixture.logs.find((one) => one.level === 50);
    expect(line).toMatchObject({ request_id: json.request_id, error: { message: 'secret words', code: '22000' } });
    expect(JSON.stringify(fixture.logs)).not.toContain('972501112233');
  } finally {
    await fixture.rows('DROP TRIGGER fail ON carillon.lists');
    await fixture.rows('DROP FUNCTION carillon.fail()');
  }
});

describe('a database out of reach', () => {
  it('is a 503 in words, for keys as for carriers; the process itself is up, but not ready', async () => {
    const db = openDatabase({ app_url: 'postgres://nobody:x@127.0.0.1:1/nothing', connect_timeout_ms: 1_000 });
    const lost = await createFixture({ db, drivers: createCarrierDrivers(), api_limits: { database_wait_ms: 0 } });
    try {
      const answer = await lost.ask('ck_1_1_x', 'GET', '/api/lists');
      expect(answer).toMatchObject({ status: 503, json: { code: 'database_unavailable' } });
      expect(answer.text).not.toMatch(/ECONN|127\.0\.0\.1/);
      const path = callbackPath('status', {
        business_id: 1,
        run_id: 1,
        seq: 1,
        attempt_no: 1,
        token: 'A'.repeat(22),
        carrier_account_id: 1,
      } as never);
      expect(await lost.ask(null, 'POST', path, signed(path, statusForm('CA1', 'busy')))).toMatchObject({
        status: 503,
        json: { code: 'database_unavailable' },
      });
      expect(await lost.ask(null, 'GET', '/healthz')).toMatchObject({ status: 200, json: { status: 'ok' } });
      expect(await lost.ask(null, 'GET', '/readyz')).toMatchObject({
        status: 503,
        json: { status: 'not_ready', database: 'not reachable' },
      });
    } finally {
      await lost.close();
      await db.close();
    }
  });

  it('in the middle of a request costs a moment: nothing was committed, and it is done again', async () => {
    const run = await startRun(fixture, caller, { answer: { say: 'x', language: 'en-US' } });
    const holder = await holdRun(run.run_id);
    try {
      const pausing = fixture.ask(caller.admin, 'POST', `/api/outbound/runs/${run.run_id}/pause`);
      await until(
        async () =>
          (
            await fixture.rows(
              `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND usename = $1 AND wait_event_type = 'Lock'`,
              [fixture.logins.app],
            )
          ).length > 0,
        { deadline_ms: 10_000 },
      );
      await holder.release();
      expect(await pausing).toMatchObject({ status: 200, json: { status: 'paused' } });
    } finally {
      await holder.release();
    }
  });
});

/** Somebody holds a run's row; whoever wants to change it waits. */
async function holdRun(run_id: number) {
  const client = new pg.Client({ connectionString: fixture.superuserUrl });
  await client.connect();
  await client.query('BEGIN');
  await client.query('SELECT 1 FROM carillon.outbound_call_runs WHERE run_id = $1 FOR UPDATE', [run_id]);
  return {
    async release() {
      await client.end();
    },
  };
}

describe('a callback that can not be committed in time', () => {
  it('is put off with 503 while its evidence waits, and is recorded in the end', async () => {
    const patient = await createFixture({ api_limits: { webhook_wait_ms: 300, webhook_waiting_requests: 1 } });
    const outer = fixture;
    const outer_caller = caller;
    fixture = patient;
    try {
      caller = await createCaller(patient, 1);
      const run = await startRun(patient, caller);
      const [attempt] = await claimAttempts(patient, run.run_id);
      if (!attempt) throw new Error('no attempt');
      const path = callbackPath('status', attempt);
      const request = signed(path, statusForm('CA1', 'completed', { CallDuration: '5' }));
      const holder = await holdRun(run.run_id);
      const first = await patient.ask(null, 'POST', path, request);
      expect(first).toMatchObject({ status: 503, json: { code: 'database_unavailable' } });
      // One waits already, which is all that may: the next is put off at once, and holds nothing.
      expect((await patient.ask(null, 'POST', path, request)).status).toBe(503);
      await holder.release();
      await until(
        async () =>
          (await patient.ask(caller.agent, 'GET', `/api/outbound/runs/${run.run_id}`)).json.status === 'completed',
        { deadline_ms: 10_000 },
      );
      expect((await patient.ask(null, 'POST', path, request)).status).toBe(204);
      const { text } = await patient.ask(null, 'GET', '/metrics');
      expect(text).toContain('carillon_webhooks_put_off_total 2');
      expect(text).toContain('carillon_evidence_total{phase="ended",recorded="applied"} 1');
      expect(text).toContain('carillon_evidence_total{phase="ended",recorded="nothing"} 1');
    } finally {
      fixture = outer;
      caller = outer_caller;
      await patient.close();
    }
  });
});
