import { Agent, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { xlsx } from '../../../test/support/xlsx.ts';
import { createFixture, createTenant, type Fixture, type Tenant } from './support/api.ts';

let fixture: Fixture;
let tenant: Tenant;
beforeAll(async () => {
  fixture = await createFixture();
  tenant = await createTenant(fixture);
});
afterAll(async () => await fixture.close());

async function newList(): Promise<number> {
  const { json } = await fixture.ask(tenant.admin, 'POST', '/api/lists', { payload: { name: 'A list' } });
  return Number(json.list_id);
}

async function importCsv(list_id: number, csv: string, query = '', headers: Record<string, string> = {}) {
  return await fixture.ask(tenant.admin, 'POST', `/api/lists/${list_id}/import${query}`, {
    headers: { 'content-type': 'text/csv; charset=utf-8', ...headers },
    payload: csv,
  });
}

/** A form with one file in it, as a browser sends it; fields come first. */
function form(file: string, fields: Record<string, string> = {}, end = '--frontier--\r\n') {
  const parts = Object.entries(fields).map(
    ([name, value]) => `--frontier\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  );
  const part = `--frontier\r\nContent-Disposition: form-data; name="file"; filename="l.csv"\r\nContent-Type: text/csv\r\n\r\n${file}\r\n`;
  return {
    headers: { 'content-type': 'multipart/form-data; boundary=frontier' },
    payload: parts.join('') + part + end,
  };
}

const THREE = 'phone,name\n050-111-2233,נועה\n050-111-2233,again\nnonsense,x\n';

describe('lists and leads', () => {
  it('creates lists, gives them in pages, and their leads in order', async () => {
    await newList();
    const created = await fixture.ask(tenant.admin, 'POST', '/api/lists', { payload: { name: '  People ' } });
    expect(created.status).toBe(201);
    expect(created.json).toMatchObject({ name: 'People', leads: 0 });
    const list_id = Number(created.json.list_id);
    await importCsv(list_id, 'phone,name\n0501000001,a\n0501000002,b\n0501000003,c\n');
    const leads = `/api/lists/${list_id}/leads`;
    const first = await fixture.ask(tenant.agent, 'GET', `${leads}?limit=2`);
    expect(first.json).toMatchObject({ items: [{ name: 'a', phone: '+972501000001' }, { name: 'b' }], next: '2' });
    const second = await fixture.ask(tenant.agent, 'GET', `${leads}?limit=2&after=2`);
    expect(second.json).toMatchObject({ items: [{ name: 'c' }], next: null });
    const newest = await fixture.ask(tenant.agent, 'GET', '/api/lists?limit=1');
    expect(newest.json).toMatchObject({ items: [{ list_id, leads: 3 }], next: String(list_id) });
    const older = await fixture.ask(tenant.agent, 'GET', `/api/lists?limit=1&after=${list_id}`);
    expect(older.json.items).not.toMatchObject([{ list_id }]);
  });

  it('makes a lead, finds it again by its number, and says what is wrong with a number', async () => {
    const lead = (payload: object) => fixture.ask(tenant.admin, 'POST', '/api/leads', { payload });
    const made = await lead({ phone: '052-999-8877', name: 'דנה', external_id: 'crm-1', attributes: { city: 'חיפה' } });
    expect(made.status).toBe(201);
    const again = await lead({ phone: '+972529998877' });
    expect(again).toMatchObject({ status: 200, json: made.json });
    const wrong = await lead({ phone: '12' });
    expect(wrong).toMatchObject({
      status: 422,
      json: { code: 'phone_invalid', details: { reason: expect.any(String) } },
    });
    expect(wrong.text).not.toContain('12"');
  });
});

describe('importing', () => {
  it('counts every line, and gives back those that made no member', async () => {
    const list_id = await newList();
    const { status, json } = await importCsv(list_id, THREE);
    expect(status).toBe(200);
    expect(json).toMatchObject({ list_id, lines: 3, accepted: 1, duplicates: 1, rejected: 1 });
    expect(json.rejected_url).toBe(`/api/imports/${json.import_id}/rejected.csv`);
    const rejected = await fixture.ask(tenant.admin, 'GET', String(json.rejected_url));
    expect(rejected.status).toBe(200);
    expect(rejected.headers['content-type']).toBe('text/csv; charset=utf-8');
    expect(rejected.headers['content-disposition']).toContain(`rejected-${json.import_id}.csv`);
    expect(rejected.text).toMatch(
      /^\uFEFFline,verdict,reason,explanation,original\r\n3,duplicate,.*\r\n4,rejected,.*\r\n$/,
    );
  });

  it('takes a form with a file, and lets the query name columns and country', async () => {
    const list_id = await newList();
    const { json } = await fixture.ask(
      tenant.admin,
      'POST',
      `/api/lists/${list_id}/import?country=US&phone=Call%20me`,
      {
        ...form('Call me,Who\n(212) 555-0123,Ann\n', { note: 'ignored' }),
      },
    );
    expect(json).toMatchObject({ accepted: 1, rejected: 0 });
    const leads = await fixture.ask(tenant.agent, 'GET', `/api/lists/${list_id}/leads`);
    expect(leads.json.items).toMatchObject([{ phone: '+12125550123' }]);
  });

  it('gives the same report under the same Idempotency-Key, and a conflict for another file', async () => {
    const list_id = await newList();
    const headers = { 'idempotency-key': `import-${list_id}` };
    const first = await importCsv(list_id, THREE, '', headers);
    const again = await importCsv(list_id, THREE, '', headers);
    expect(again.json).toEqual(first.json);
    const another = await importCsv(list_id, `${THREE}0501234567,z\n`, '', headers);
    expect(another).toMatchObject({ status: 409, json: { code: 'idempotency_conflict' } });
    const long = await importCsv(list_id, THREE, '', { 'idempotency-key': 'k'.repeat(201) });
    expect(long).toMatchObject({ status: 422, json: { details: { in: 'headers' } } });
  });

  const BAD: { name: string; csv: string; query?: string; code: string; says: RegExp }[] = [
    { name: 'an empty file', csv: '', code: 'import_file_empty', says: /empty/ },
    { name: 'no phone column', csv: 'a,b\n1,2\n', code: 'import_no_phone_column', says: /among: a, b/ },
    { name: 'a mapped column that is not there', csv: THREE, query: '?name=Nom', code: 'invalid_request', says: /Nom/ },
    { name: 'an unknown option', csv: THREE, query: '?phon=x', code: 'invalid_request', says: /"phon"/ },
    { name: 'a country that is none', csv: THREE, query: '?country=QQ', code: 'invalid_request', says: /QQ/ },
    { name: 'a quote that is never closed', csv: 'phone\n"050', code: 'import_broken', says: /line 2/ },
  ];
  it.each(BAD)('refuses $name', async ({ csv, query, code, says }) => {
    const list_id = await newList();
    const { status, json } = await importCsv(list_id, csv, query);
    expect({ status, code: json.code }).toEqual({ status: 422, code });
    expect(json.error).toMatch(says);
    const leads = await fixture.ask(tenant.agent, 'GET', `/api/lists/${list_id}/leads`);
    expect(leads.json.items).toEqual([]);
  });

  it('refuses a binary, and names the byte', async () => {
    const { json } = await fixture.ask(tenant.admin, 'POST', `/api/lists/${await newList()}/import`, {
      headers: { 'content-type': 'text/csv' },
      payload: Buffer.from([0x70, 0x68, 0x6f, 0x6e, 0x65, 0x0a, 0x01, 0x00]),
    });
    expect(json).toMatchObject({ code: 'import_not_text', details: { byte: 8 } });
  });

  it('takes CSV and forms, nothing else', async () => {
    const url = `/api/lists/${await newList()}/import`;
    for (const type of ['application/json', 'application/x-www-form-urlencoded', 'text/plain']) {
      const answer = await fixture.ask(tenant.admin, 'POST', url, { headers: { 'content-type': type }, payload: '{}' });
      expect(answer).toMatchObject({ status: 415, json: { code: 'unsupported_media_type' } });
      expect(answer.json.error).toContain('text/csv');
    }
  });

  it('refuses a form without a file, and one that breaks off', async () => {
    const url = `/api/lists/${await newList()}/import`;
    const bare = await fixture.ask(tenant.admin, 'POST', url, {
      headers: { 'content-type': 'multipart/form-data; boundary=frontier' },
      payload: '--frontier\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--frontier--\r\n',
    });
    expect(bare.json).toMatchObject({ code: 'invalid_request', details: { problem: 'the form has no file in it' } });
    const broken = await fixture.ask(tenant.admin, 'POST', url, form(THREE, {}, ''));
    expect(broken).toMatchObject({ status: 422, json: { code: 'invalid_request' } });
  });

  it('refuses what is over the bound, as a body and in a form, and keeps nothing of it', async () => {
    const strict = await createFixture({ api_limits: { import_body_bytes: 100_000 } });
    try {
      const { admin } = await createTenant(strict);
      const list = await strict.ask(admin, 'POST', '/api/lists', { payload: { name: 'A list' } });
      const url = `/api/lists/${list.json.list_id}/import`;
      const large = ['phone', ...Array.from({ length: 10_000 }, (_, n) => `0521${100_000 + n}`)].join('\n');
      const body = { headers: { 'content-type': 'text/csv' }, payload: large };
      for (const request of [body, form(large)]) {
        expect(await strict.ask(admin, 'POST', url, request)).toMatchObject({
          status: 413,
          json: { code: 'body_too_large', details: { limit_bytes: 100_000 } },
        });
      }
      const leads = await strict.ask(admin, 'GET', `/api/lists/${list.json.list_id}/leads`);
      expect(leads.json.items).toEqual([]);
    } finally {
      await strict.close();
    }
  });
});

const numbers = (count: number, prefix: string) =>
  Array.from({ length: count }, (_, n) => `${prefix}${100_000 + n}\n`).join('');

describe('over a socket', () => {
  let port: number;
  beforeAll(async () => {
    await fixture.app.listen({ host: '127.0.0.1', port: 0 });
    port = (fixture.app.server.address() as AddressInfo).port;
  });

  /** An upload whose pace is ours. */
  function upload(list_id: number) {
    const sent = httpRequest({
      port,
      method: 'POST',
      path: `/api/lists/${list_id}/import`,
      headers: { authorization: `Bearer ${tenant.admin}`, 'content-type': 'text/csv' },
    });
    const answer = new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
      sent.on('error', reject);
      sent.on('response', async (response) => {
        resolve({ status: response.statusCode, text: (await response.setEncoding('utf8').toArray()).join('') });
      });
    });
    return { sent, answer };
  }

  const touched = async (list_id: number) =>
    (
      await fixture.rows<{ state: string; lines: number }>(
        'SELECT state, lines FROM carillon.list_imports WHERE list_id = $1',
        [list_id],
      )
    )[0];

  it('tells what is wrong with a large file while it is still being sent, and serves the connection on', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (method: string, path: string, headers: Record<string, string>, body: string) =>
      new Promise<{ status: number | undefined; text: string; socket: unknown }>((resolve, reject) => {
        const authorization = `Bearer ${tenant.admin}`;
        const sent = httpRequest({ port, method, path, agent, headers: { ...headers, authorization } });
        sent.on('error', reject);
        sent.on('response', async (response) => {
          const text = (await response.setEncoding('utf8').toArray()).join('');
          resolve({ status: response.statusCode, text, socket: sent.socket });
        });
        sent.end(body);
      });
    const large = `city,street\n${'Haifa,Herzl\n'.repeat(1_000_000)}`;
    const list_id = await newList();
    const path = `/api/lists/${list_id}/import`;
    const { headers, payload } = form(large);
    const raw = await ask('POST', path, { 'content-type': 'text/csv' }, large);
    const inForm = await ask('POST', path, headers, payload);
    for (const answer of [raw, inForm]) {
      expect(answer.status).toBe(422);
      expect(JSON.parse(answer.text)).toMatchObject({ code: 'import_no_phone_column' });
    }
    const next = await ask('POST', path, { 'content-type': 'text/csv' }, THREE);
    expect(JSON.parse(next.text)).toMatchObject({ accepted: 1 });
    expect(new Set([raw, inForm, next].map((answer) => answer.socket)).size).toBe(1);
    agent.destroy();
  });

  it('reads a file while it is being sent', async () => {
    const list_id = await newList();
    const { sent, answer } = upload(list_id);
    sent.write('phone\n');
    sent.write(numbers(7_000, '0531'));
    await until(async () => (await touched(list_id))?.lines, { deadline_ms: 10_000 });
    sent.end('0531999999\n');
    expect(JSON.parse((await answer).text)).toMatchObject({ accepted: 7_001 });
  });

  it('shows how far an import has come, in a list and as events, until it is over', async () => {
    const list_id = await newList();
    const { sent, answer } = upload(list_id);
    sent.write('phone\n');
    sent.write(numbers(7_000, '0561'));
    const imports = () => fixture.ask(tenant.agent, 'GET', `/api/lists/${list_id}/imports`);
    const running = await until(
      async () => {
        const [first] = (await imports()).json.items as Record<string, unknown>[];
        return Number(first?.lines) > 0 ? first : undefined;
      },
      { deadline_ms: 30_000 },
    );
    expect(running).toMatchObject({
      list_id,
      state: 'running',
      lines: 5_000,
      accepted: 5_000,
      bytes_read: expect.any(Number),
      file: { format: 'csv', columns: { phone: 'phone' } },
    });
    const headers = { authorization: `Bearer ${tenant.agent}` };
    const address = `http://127.0.0.1:${port}/api/imports/${Number(running.import_id)}`;
    const events = await fetch(`${address}/events`, { headers });
    expect(events.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    sent.end('0561999999\n');
    const report = JSON.parse((await answer).text);
    // The stream ends by itself once it has told the end.
    const told = await events.text();
    const states = [...told.matchAll(/^event: import\ndata: (.*)$/gm)].map(([, data = '']) => JSON.parse(data));
    expect(states[0]).toMatchObject({ state: 'running', lines: 5_000 });
    expect(states.at(-1)).toMatchObject({ ...report, state: 'done', lines: 7_001 });
    const last = /.*^id: (\S+)$/ms.exec(told)?.[1] ?? '';
    const again = await fetch(`${address}/events`, { headers: { ...headers, 'last-event-id': last } });
    expect(again.status).toBe(204);
    expect(await (await fetch(address, { headers })).json()).toEqual(states.at(-1));
    expect((await imports()).json).toMatchObject({ items: [{ state: 'done' }], next: null });
  });

  it('takes XLSX and NDJSON, as a body and in a form', async () => {
    const book = xlsx([['phone'], ['0501000081'], ['letters']]);
    const post = async (type: string, body: Buffer | string) => {
      const list_id = await newList();
      const response = await fetch(`http://127.0.0.1:${port}/api/lists/${list_id}/import?sheet=Sheet`, {
        method: 'POST',
        headers: { authorization: `Bearer ${tenant.admin}`, 'content-type': type },
        body: new Uint8Array(Buffer.from(body as string)),
      });
      return await response.json();
    };
    const SHEET = 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet';
    const expected = { lines: 2, accepted: 1, rejected: 1, file: { format: 'xlsx', sheet: 'Sheet' } };
    expect(await post(SHEET, book)).toMatchObject(expected);
    // What the sender says of it doesn't matter.
    expect(await post('text/csv', book)).toMatchObject(expected);
    const [head, tail] = form('|').payload.split('|');
    const inForm = Buffer.concat([Buffer.from(head ?? ''), book, Buffer.from(tail ?? '')]);
    expect(await post('multipart/form-data; boundary=frontier', inForm)).toMatchObject(expected);
    expect(await post('application/x-ndjson', '{"phone":"0501000082"}\n')).toMatchObject({
      accepted: 1,
      file: { format: 'ndjson' },
    });
  });

  it('holds a sender back that is faster than the database, instead of holding the file', async () => {
    const list_id = await newList();
    // Somebody else holds the list: nothing can be written, so nothing more may be read either.
    const { sent, answer } = upload(list_id);
    sent.write('phone,note\n');
    await until(async () => (await touched(list_id))?.state === 'running', { deadline_ms: 10_000 });
    const holder = new pg.Client({ connectionString: fixture.superuserUrl });
    await holder.connect();
    try {
      await holder.query('BEGIN');
      await holder.query('SELECT 1 FROM carillon.lists WHERE business_id = $1 AND list_id = $2 FOR UPDATE', [
        tenant.business_id,
        list_id,
      ]);
      const chunk = Array.from({ length: 10 }, (_, n) => `0541${100_000 + n},${'x'.repeat(1_900)}\n`).join('');
      // All that fits into the sockets and the batch at hand goes out, and then no more: it waits on our side.
      for (let chunks = 0; chunks < 2_000 && sent.writableLength < 4_000_000; chunks++) {
        sent.write(chunk);
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(sent.writableLength).toBeGreaterThanOrEqual(4_000_000);
    } finally {
      await holder.end();
    }
    sent.destroy();
    await expect(answer).rejects.toThrow('socket hang up');
    await until(async () => (await touched(list_id))?.state === 'failed', { deadline_ms: 10_000 });
  });

  it('leaves a list as it was when the sender goes away, and lets it be sent again', async () => {
    const list_id = await newList();
    const { sent, answer } = upload(list_id);
    sent.write('phone\n');
    sent.write(numbers(7_000, '0551'));
    await until(async () => (await touched(list_id))?.lines, { deadline_ms: 10_000 });
    sent.destroy();
    await expect(answer).rejects.toThrow('socket hang up');
    await until(async () => (await touched(list_id))?.state === 'failed', { deadline_ms: 10_000 });
    expect(await importCsv(list_id, THREE)).toMatchObject({ status: 200, json: { accepted: 1 } });
    const leads = await fixture.ask(tenant.agent, 'GET', `/api/lists/${list_id}/leads`);
    expect(leads.json.items).toHaveLength(1);
    expect(fixture.logs.filter((line) => line.msg === 'a request failed')).toEqual([]);
  });
});
