import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { ImportReport } from '@carillon/contract';
import { createBusiness, type Database, localActor, openDatabase } from '@carillon/engine';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import { xlsx } from '../support/xlsx.ts';
import { type Running, startCarillon } from './support/processes.ts';
import { type OwnServer, startOwnServer } from './support/server.ts';

/** Imports of which the API or the database is killed in the middle: sent again, they give what one import gives. */

const LINES = 40_000;
const HEAD = ['phone', 'name', 'id', 'consent source', 'city'];
/** Some numbers repeat, some are none, and every name but a few is known to nobody. */
const TABLE = Array.from({ length: LINES }, (_, n) => [
  n % 29 === 7 ? 'none' : `0${520_000_000 + (n % 17 === 3 ? n - 1 : n)}`,
  `שם ${n}`,
  `crm-${n}`,
  n % 3 === 0 ? 'web form' : '',
  'חיפה',
]);
const CSV = Buffer.from([HEAD, ...TABLE].map((line) => line.join(',')).join('\n'));
const BOOK = xlsx([HEAD, ...TABLE]);

let server: OwnServer;
let db: Database;
let superuser: pg.Pool;
let temporary: string;
let api: { process: Running; url: string };
beforeAll(async () => {
  server = await startOwnServer();
  db = openDatabase({ app_url: server.appUrl });
  superuser = new pg.Pool({ connectionString: server.superuserUrl, max: 2 });
  superuser.on('error', () => {});
  temporary = await mkdtemp(path.join(tmpdir(), 'carillon-import-test-'));
  api = await startApi();
});
afterAll(async () => {
  await api.process.kill();
  await Promise.all([db.close(), superuser.end()]);
  await server.drop();
  await rm(temporary, { recursive: true, force: true });
});

async function startApi() {
  const process = startCarillon(['api', '--port', '0'], {
    DATABASE_URL: server.appUrl,
    CARILLON_SECRET: Buffer.alloc(32, 1).toString('base64'),
    CARILLON_LOG_LEVEL: 'error',
    TMPDIR: temporary,
  });
  const [, url = ''] = await process.says(/listens at (\S+)/);
  return { process, url };
}

async function rows<Row extends pg.QueryResultRow>(sql: string, params: unknown[]): Promise<Row[]> {
  return (await superuser.query<Row>(sql, params)).rows;
}

interface Tenant {
  business_id: number;
  key: string;
  list_id: number;
}

async function newTenant(): Promise<Tenant> {
  const { business_id, key } = await createBusiness(db, { name: 'importer' }, localActor('test'));
  const answer = await fetch(`${api.url}/api/lists`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: '{"name": "people"}',
  });
  const { list_id } = (await answer.json()) as { list_id: number };
  return { business_id, key, list_id };
}

interface Answer {
  status: number;
  json: ImportReport & { code?: string };
}

/** Sends a file; what is behind `pause_at` only when `pause` is over. */
function send(
  { key, list_id }: Tenant,
  bytes: Buffer,
  pause_at = bytes.length,
  pause?: Promise<void>,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(`${api.url}/api/lists/${list_id}/import`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${key}`,
        'content-type': 'application/octet-stream',
        'idempotency-key': 'once',
      },
    });
    sent.once('error', reject);
    sent.once('response', (response) => {
      response
        .setEncoding('utf8')
        .toArray()
        .then((text) => resolve({ status: response.statusCode ?? 0, json: JSON.parse(text.join('')) }), reject);
    });
    sent.write(bytes.subarray(0, pause_at));
    void (pause ?? Promise.resolve()).then(() => sent.end(bytes.subarray(pause_at)));
  });
}

/** Waits until some, but not all lines of an import are in the database. */
async function halfWay({ list_id }: Tenant): Promise<number> {
  const lines = await until(
    async () => {
      const found = await rows<{ lines: number }>('SELECT lines FROM carillon.list_imports WHERE list_id = $1', [
        list_id,
      ]);
      return found[0]?.lines;
    },
    { deadline_ms: 60_000, every_ms: 5, what: 'the first lines' },
  );
  expect(lines).toBeLessThan(LINES);
  return lines;
}

/** Nobody waits half a minute here to see that an import is dead. */
async function letTimePass({ list_id }: Tenant): Promise<void> {
  await rows("UPDATE carillon.list_imports SET touched_at = touched_at - interval '31 s' WHERE list_id = $1", [
    list_id,
  ]);
}

/** Everything that an import leaves behind, without what differs between any two. */
async function contents({ business_id, list_id }: Tenant) {
  const members = await rows(
    `SELECT m.position, l.phone, l.name, l.external_id, l.time_zone, l.attributes, c.source
     FROM carillon.list_members m JOIN carillon.leads l USING (business_id, lead_id)
     LEFT JOIN carillon.lead_consents c USING (business_id, lead_id) WHERE m.list_id = $1 ORDER BY position`,
    [list_id],
  );
  const notes = await rows(
    `SELECT line, verdict, reason, original FROM carillon.import_lines
     WHERE import_id = (SELECT max(import_id) FROM carillon.list_imports WHERE list_id = $1) ORDER BY line`,
    [list_id],
  );
  const [counts] = await rows(
    `SELECT (SELECT leads FROM carillon.lists WHERE list_id = $1) AS list,
            (SELECT count(*)::int FROM carillon.leads WHERE business_id = $2) AS leads,
            (SELECT count(*)::int FROM carillon.lead_consents WHERE business_id = $2) AS consents,
            (SELECT count(*)::int FROM carillon.audit_events WHERE business_id = $2 AND action = 'list.imported') AS imported`,
    [list_id, business_id],
  );
  return { members, notes, counts };
}

const figures = ({ lines, accepted, duplicates, rejected, reasons }: ImportReport) => ({
  lines,
  accepted,
  duplicates,
  rejected,
  reasons,
});

describe.each([
  ['CSV', CSV],
  ['XLSX', BOOK],
] as const)('an import of %s', (format, bytes) => {
  let whole: Awaited<ReturnType<typeof contents>>;
  let report: ImportReport;

  /** Half of it, and the rest after `pause`; a workbook at once, because nothing of it can be read before its end. */
  const sendSlowly = (tenant: Tenant, pause: Promise<void>) =>
    format === 'CSV' ? send(tenant, bytes, Math.floor(bytes.length / 2), pause) : send(tenant, bytes);

  /** Sent again under the same key, it is as if nothing had happened. */
  async function expectWhole(tenant: Tenant): Promise<void> {
    const again = await send(tenant, bytes);
    expect(again.status).toBe(200);
    expect(figures(again.json)).toEqual(figures(report));
    expect(await contents(tenant)).toEqual(whole);
    expect(await send(tenant, bytes)).toEqual(again);
    expect(await contents(tenant)).toEqual(whole);
    expect((await readdir(temporary)).filter((name) => name.startsWith('carillon-import-'))).toEqual([]);
  }

  beforeAll(async () => {
    const tenant = await newTenant();
    const answer = await send(tenant, bytes);
    report = answer.json;
    whole = await contents(tenant);
    if (report.lines !== LINES || whole.members.length !== report.accepted)
      throw new Error(`an import without a break: ${JSON.stringify(answer)}`);
    console.log(`${format}, ${bytes.length} bytes: ${JSON.stringify(figures(report))}`);
  }, 120_000);

  it('outlives a kill -9 of the API', async () => {
    const tenant = await newTenant();
    const sending = sendSlowly(tenant, new Promise(() => {}));
    const end = sending.catch((error: unknown) => String(error));
    const lines = await halfWay(tenant);
    await api.process.kill();
    expect(await end).toMatch(/hang up|ECONNRESET/);
    console.log(`killed after ${lines} lines or more`);

    api = await startApi();
    const seen = await fetch(`${api.url}/api/lists/${tenant.list_id}/leads`, {
      headers: { authorization: `Bearer ${tenant.key}` },
    });
    expect(await seen.json()).toEqual({ items: [], next: null });
    expect(await send(tenant, bytes)).toMatchObject({ status: 409, json: { code: 'import_in_progress' } });
    await letTimePass(tenant);
    await expectWhole(tenant);
  }, 120_000);

  it('outlives a crash of the database', async () => {
    const tenant = await newTenant();
    const goOn = Promise.withResolvers<void>();
    const sending = sendSlowly(tenant, goOn.promise);
    const lines = await halfWay(tenant);
    await server.crash();
    goOn.resolve();
    const answer = await sending;
    // The request waits for the database, which costs its sender nothing.
    expect({ status: answer.status, ...figures(answer.json) }).toEqual({ status: 200, ...figures(report) });
    console.log(`crashed after ${lines} lines or more: ${answer.status}`);
    await until(async () => (await rows('SELECT 1', [])).length > 0, { deadline_ms: 30_000, what: 'the server' });
    await letTimePass(tenant);
    await expectWhole(tenant);
  }, 120_000);
});
