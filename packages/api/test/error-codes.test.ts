import { open } from 'node:fs/promises';
import { type ErrorCode, ERRORS, type Language } from '@carillon/contract';
import { createSystemKey, localActor, openDatabase } from '@carillon/engine';
import type { InjectOptions } from 'fastify';
import { afterAll, describe, expect, it, vi } from 'vitest';
import {
  accountBody,
  callbackPath,
  claimAttempts,
  createCaller,
  createFixture,
  createTenant,
  csv,
  type Fixture,
  type Json,
  type Key,
  signed,
  startRun,
  statusForm,
} from './support/api.ts';
import { ABSENT } from './support/world.ts';
import { WORKBOOK, zip } from './support/zip.ts';

/** Every code of the table is reached by a real request, in both languages. A new code gets its request here. */

vi.mock('node:fs/promises', async (original) => {
  const actual = await original<{ open: typeof open }>();
  return { ...actual, open: vi.fn<typeof open>(actual.open) };
});

const fixture = await createFixture({ api_limits: { requests_per_minute: 1_000_000 } });
const caller = await createCaller(fixture);
const { owner, agent, list_id } = caller;
const system = (await createSystemKey(fixture.db, {}, localActor('test'))).key;
afterAll(async () => await fixture.close());

type Answer = Awaited<ReturnType<Fixture['ask']>>;
type Ask = (key: Key, method: 'GET' | 'POST' | 'PATCH', url: string, more?: InjectOptions) => Promise<Answer>;
type Proof = (ask: Ask, language: Language) => Promise<Answer>;

const absent =
  (url: string, method: 'GET' | 'POST' = 'GET'): Proof =>
  (ask) =>
    ask(owner, method, url);
const start =
  (payload: object): Proof =>
  (ask) =>
    ask(owner, 'POST', '/api/outbound_calls/start', { payload });
const importing =
  (payload: string | Buffer, query = '', type = 'text/csv'): Proof =>
  (ask) =>
    ask(owner, 'POST', `/api/lists/${list_id}/import${query}`, { payload, headers: { 'content-type': type } });
const workbook = (payload: Buffer, query = '') =>
  importing(payload, query, 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet');
const leadOf = async (phone: string) =>
  Number((await fixture.ask(owner, 'POST', '/api/leads', { payload: { phone } })).json.lead_id);

/** Does `work` with another server on the same database, which has these bounds. */
async function withBounds<T>(bounds: Json, language: Language, work: (ask: Ask, app: Fixture) => Promise<T>) {
  const small = await createFixture({ api_limits: bounds });
  const ask: Ask = (key, method, url, more) => small.ask(key, method, url, speaking(language, more));
  return await work(ask, small).finally(() => small.close());
}

/** Does `work` while each new list makes the database fail in this way. */
const failing = (sqlstate: string, work: () => Promise<Answer>) =>
  whenListed('TRIGGER fail BEFORE INSERT', '', `RAISE EXCEPTION 'no' USING ERRCODE = '${sqlstate}'`, work);

/** Does `work` while the connection that inserts a list ends in the middle of its COMMIT. */
const cutInCommit = (work: () => Promise<Answer>) =>
  whenListed(
    'CONSTRAINT TRIGGER fail AFTER INSERT',
    'DEFERRABLE INITIALLY DEFERRED',
    'PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL',
    work,
  );

async function whenListed(trigger: string, when: string, body: string, work: () => Promise<Answer>): Promise<Answer> {
  await fixture.rows(`CREATE FUNCTION carillon.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body}; END $$;
    CREATE ${trigger} ON carillon.lists ${when} FOR EACH ROW EXECUTE FUNCTION carillon.fail()`);
  return await work().finally(() => fixture.rows('DROP TRIGGER fail ON carillon.lists; DROP FUNCTION carillon.fail()'));
}
const addList: Proof = (ask) => ask(owner, 'POST', '/api/lists', { payload: { name: 'x' } });

const speaking = (language: Language, more: InjectOptions = {}): InjectOptions => ({
  ...more,
  headers: { ...more.headers, 'accept-language': language },
});

const PROOFS: Record<ErrorCode, Proof> = {
  run_not_found: absent(`/api/outbound/runs/${ABSENT}`),
  queue_not_found: (ask) => ask(owner, 'POST', '/api/outbound/stop-queue', { payload: { run_id: ABSENT } }),
  job_not_found: absent(`/api/outbound_calls/jobs/${ABSENT}-1/cancel`, 'POST'),
  list_not_found: absent(`/api/lists/${ABSENT}/leads`),
  lead_not_found: start({ lead_ids: [ABSENT] }),
  import_not_found: absent(`/api/imports/${ABSENT}/rejected.csv`),
  carrier_account_not_found: absent(`/api/carrier_accounts/${ABSENT}/resume`, 'POST'),
  key_not_found: absent(`/api/keys/${ABSENT}/revoke`, 'POST'),
  business_not_found: (ask) =>
    ask(system, 'POST', `/api/businesses/${ABSENT}/enter`, { payload: { reason: 'ticket 1' } }),
  route_not_found: absent('/api/nothing'),
  unauthenticated: (ask) => ask(null, 'GET', '/api/lists'),
  forbidden: (ask) => ask(agent, 'GET', '/api/keys'),
  business_not_entered: (ask) => ask(system, 'GET', '/api/lists'),
  signature_invalid: async (ask) => {
    const path = callbackPath('status', (await callSomebody()).attempt);
    return await ask(null, 'POST', path, signed(path, statusForm('CA1', 'busy'), 'another token'));
  },
  invalid_request: (ask) => ask(owner, 'POST', '/api/lists', { payload: { name: '' } }),
  body_too_large: (ask) => ask(owner, 'POST', '/api/lists', { payload: { name: 'x'.repeat(1_100_000) } }),
  unsupported_media_type: (ask) =>
    ask(owner, 'POST', '/api/lists', { payload: 'x', headers: { 'content-type': 'text/plain' } }),
  too_many_requests: (_, language) =>
    withBounds({ requests_per_minute: 1 }, language, async (ask, app) => {
      const one = await createTenant(app);
      await ask(one.agent, 'GET', '/api/lists');
      return await ask(one.agent, 'GET', '/api/lists');
    }),
  too_many_streams: (_, language) =>
    withBounds({ streams: 0 }, language, async (ask, app) => {
      const one = await createCaller(app);
      const { run_id } = await startRun(app, one);
      return await ask(one.agent, 'GET', `/api/outbound/runs/${run_id}/events`);
    }),
  idempotency_conflict: async (ask, language) => {
    const headers = { 'idempotency-key': `conflict ${language}` };
    await ask(owner, 'POST', '/api/outbound_calls/start', { payload: { list_id }, headers });
    return await ask(owner, 'POST', '/api/outbound_calls/start', { payload: { list_id, name: 'another' }, headers });
  },
  last_owner_key: (ask) => ask(owner, 'POST', `/api/keys/${owner.split('_')[2]}/revoke`),
  phone_taken: async (ask) => {
    await leadOf('+972521110001');
    const lead_id = await leadOf('+972521110002');
    return await ask(owner, 'PATCH', `/api/leads/${lead_id}`, { payload: { phone: '+972521110001' } });
  },
  lead_erased: async (ask, language) => {
    const lead_id = await leadOf(language === 'en' ? '+972521110003' : '+972521110004');
    await ask(owner, 'POST', `/api/leads/${lead_id}/erase`);
    return await ask(owner, 'PATCH', `/api/leads/${lead_id}`, { payload: { name: 'x' } });
  },
  lead_in_call: async (ask) => {
    const { called } = await callSomebody();
    const { json } = await ask(called.owner, 'GET', `/api/lists/${called.list_id}/leads`);
    const [lead] = json.items as { lead_id: number }[];
    return await ask(called.owner, 'POST', `/api/leads/${lead?.lead_id}/erase`);
  },
  duplicate_lead: async (ask) => {
    const lead_id = await leadOf('+972521110006');
    return await start({ lead_ids: [lead_id, lead_id] })(ask, 'en');
  },
  list_empty: async (ask) => {
    const { json } = await ask(owner, 'POST', '/api/lists', { payload: { name: 'empty' } });
    return await start({ list_id: json.list_id })(ask, 'en');
  },
  follow_up_empty: async (ask) => {
    const { run_id } = await startRun(fixture, caller);
    await ask(owner, 'POST', '/api/outbound/stop-queue', { payload: { run_id } });
    return await start({ from_run: { run_id, outcomes: ['busy'] } })(ask, 'en');
  },
  no_carrier_account: async (ask) => {
    const { admin } = await createTenant(fixture);
    const { json } = await ask(admin, 'POST', '/api/leads', { payload: { phone: '+972521110007' } });
    return await ask(admin, 'POST', '/api/outbound_calls/start', { payload: { lead_ids: [json.lead_id] } });
  },
  carrier_account_ambiguous: async (ask) => {
    const two = await createCaller(fixture, 1);
    await ask(two.owner, 'POST', '/api/carrier_accounts', { payload: accountBody() });
    return await ask(two.admin, 'POST', '/api/outbound_calls/start', { payload: { list_id: two.list_id } });
  },
  from_number_taken: async (ask) => {
    const { owner: key } = await createTenant(fixture);
    const payload = accountBody();
    await ask(key, 'POST', '/api/carrier_accounts', { payload });
    return await ask(key, 'POST', '/api/carrier_accounts', { payload });
  },
  unknown_driver: (ask) => ask(owner, 'POST', '/api/carrier_accounts', { payload: accountBody({ driver: 'pigeon' }) }),
  run_state_conflict: async (ask) => {
    const { run_id } = await startRun(fixture, caller);
    await ask(owner, 'POST', '/api/outbound/stop-queue', { payload: { run_id } });
    return await ask(owner, 'POST', `/api/outbound/runs/${run_id}/resume`);
  },
  restore_unacknowledged: async (ask) => {
    const { run_id } = await startRun(fixture, caller);
    await ask(owner, 'POST', `/api/outbound/runs/${run_id}/pause`);
    const state = (values: string) => fixture.rows(`UPDATE carillon.installation_state SET ${values}`);
    await state(`suspected_at = now(), reason = 'test'`);
    return await ask(owner, 'POST', `/api/outbound/runs/${run_id}/resume`).finally(() =>
      state('suspected_at = NULL, reason = NULL'),
    );
  },
  job_state_conflict: async (ask) => {
    const { run_id } = await startRun(fixture, caller);
    return await ask(owner, 'POST', `/api/outbound_calls/jobs/${run_id}-1/resolve`, { payload: { as: 'called' } });
  },
  phone_invalid: (ask) => ask(owner, 'POST', '/api/leads', { payload: { phone: '12' } }),
  import_file_empty: importing('\n\n'),
  import_no_lines: importing('phone,name\n'),
  import_not_text: importing(Buffer.from('phone\n050123456\xff7\n', 'latin1'), '?encoding=utf-8'),
  import_encoding_unknown: importing(Buffer.from([0x70, 0x2c, 0x80, 0x81, 0xd9, 0xda, 0xdb, 0xdc, 0x0a])),
  import_format_unsupported: importing('%PDF-1.7 …'),
  import_damaged: workbook(zip(WORKBOOK).subarray(0, 200)),
  import_unpacks_too_large: workbook(zip(WORKBOOK, { 'xl/worksheets/sheet1.xml': 4_000_000_000 })),
  import_sheet_not_found: workbook(zip(WORKBOOK), '?sheet=Others'),
  import_phone_column_ambiguous: importing('home phone,work phone\n0501234567,0501234568\n'),
  import_no_space: async (ask, language) => {
    vi.mocked(open).mockRejectedValueOnce(Object.assign(new Error('no space'), { code: 'ENOSPC' }));
    return await workbook(zip(WORKBOOK))(ask, language);
  },
  database_full: (ask, language) => failing('53100', () => addList(ask, language)),
  import_no_phone_column: importing('name\nNoa\n'),
  import_broken: importing('phone,name\n0501234567,"never closed\n'),
  import_in_progress: async (ask) => {
    const busy = await createCaller(fixture, 1);
    await fixture.rows(
      `WITH i AS (UPDATE carillon.list_imports SET state = 'running', touched_at = now() WHERE business_id = $1
                  RETURNING list_id, import_id)
       UPDATE carillon.lists l SET import_id = i.import_id FROM i WHERE l.list_id = i.list_id`,
      [busy.business_id],
    );
    return await ask(busy.admin, 'POST', `/api/lists/${busy.list_id}/import`, csv(1));
  },
  database_unavailable: async (_, language) => {
    const db = openDatabase({ app_url: 'postgres://nobody:x@127.0.0.1:1/nothing', connect_timeout_ms: 1_000 });
    const lost = await createFixture({ db, api_limits: { database_wait_ms: 0 } });
    const answer = await lost.ask('ck_1_1_x', 'GET', '/api/lists', speaking(language));
    await lost.close();
    await db.close();
    return answer;
  },
  outcome_unknown: async (_, language) => {
    // On the same database, for which it does not wait.
    const hasty = await createFixture({ db: fixture.db, api_limits: { database_wait_ms: 0 } });
    const ask: Ask = (key, method, url, more) => hasty.ask(key, method, url, speaking(language, more));
    return await cutInCommit(() => addList(ask, language)).finally(() => hasty.close());
  },
  internal: (ask, language) => failing('22000', () => addList(ask, language)),
};

/** An attempt that is open, of a business of its own: no number is called twice at once. */
async function callSomebody() {
  const called = await createCaller(fixture, 1);
  const { run_id } = await startRun(fixture, called);
  const [attempt] = await claimAttempts(fixture, run_id);
  if (!attempt) throw new Error('no attempt');
  return { called, attempt };
}

describe('each code of the table is reached', () => {
  it('and has its request here', () => expect(Object.keys(PROOFS).toSorted()).toEqual(Object.keys(ERRORS).toSorted()));

  it.each(Object.entries(PROOFS) as [ErrorCode, Proof][])('%s', async (code, proof) => {
    for (const language of ['en', 'he'] as const) {
      const ask: Ask = (key, method, url, more) => fixture.ask(key, method, url, speaking(language, more));
      const { status, json, headers, text } = await proof(ask, language);
      expect({ code: json.code, status }, text).toEqual({ code, status: ERRORS[code].http });
      expect(headers['content-language']).toBe(language);
      const [plain = '', ...rest] = ERRORS[code][language].split(/\{\w+\}/);
      expect(json.error).toContain(plain);
      // Each place of the sentence is filled: its name would stand there otherwise.
      const places = [...ERRORS[code].en.matchAll(/\{(\w+)\}/g)].map(([, place = '']) => place);
      expect(rest.length).toBe(places.length);
      for (const place of places) expect(json.details).toHaveProperty(place);
    }
  });
});
