import { ERRORS } from '@carillon/contract';
import { createCarrierDrivers } from '@carillon/carriers';
import { defaultLimits, openDatabase } from '@carillon/engine';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTestDatabase } from '../../../test/support/database.ts';
import { startApi } from '../src/index.ts';
import { createCaller, createFixture, type Fixture } from './support/api.ts';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await createFixture();
});
afterAll(async () => await fixture.close());

interface OpenApi {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, unknown>; securitySchemes: object };
}
interface Operation {
  summary?: string;
  tags?: string[];
  security: object[];
  responses: Record<string, { description: string }>;
}

describe('health', () => {
  it('up, ready, and asked by HEAD too', async () => {
    expect(await fixture.ask(null, 'GET', '/healthz')).toMatchObject({ status: 200, json: { status: 'ok' } });
    expect(await fixture.ask(null, 'GET', '/readyz')).toMatchObject({
      status: 200,
      json: { status: 'ready', database: 'reachable', schema: 'current' },
    });
    for (const url of ['/healthz', '/readyz']) expect((await fixture.ask(null, 'HEAD', url)).status).toBe(200);
  });

  it('not ready on a database without tables, and on one that is behind', async () => {
    const empty = await createTestDatabase({ migrated: false });
    const db = openDatabase({ app_url: empty.appUrl, discovery_url: empty.discoveryUrl });
    const early = await createFixture({ db, app_url: empty.appUrl });
    try {
      expect(await early.ask(null, 'GET', '/readyz')).toMatchObject({
        status: 503,
        json: { status: 'not_ready', database: 'reachable', schema: 'schema_missing' },
      });
    } finally {
      await early.close();
      await db.close();
      await empty.drop();
    }
    const behind = await createFixture();
    try {
      await behind.rows(
        'DELETE FROM carillon.schema_migrations WHERE version = (SELECT max(version) FROM carillon.schema_migrations)',
      );
      expect(await behind.ask(null, 'GET', '/readyz')).toMatchObject({ status: 503, json: { schema: 'schema_older' } });
    } finally {
      await behind.close();
    }
  });
});

describe('metrics', () => {
  it('count requests by route, never by address, and name no business', async () => {
    const caller = await createCaller(fixture, 1);
    await fixture.ask(caller.agent, 'GET', '/api/outbound/runs/123456');
    await fixture.ask(null, 'GET', '/api/no/such/place/123456');
    const { status, text, headers } = await fixture.ask(null, 'GET', '/metrics');
    expect(status).toBe(200);
    expect(headers['content-type']).toContain('text/plain');
    expect(text).toContain(
      'carillon_http_request_seconds_count{method="GET",route="/api/outbound/runs/:run_id",status="404"} 1',
    );
    expect(text).toContain('route="none",status="404"');
    expect(text).toContain('carillon_database_connections{state="idle"}');
    expect(text).toContain('carillon_transaction_retries_total');
    expect(text).not.toContain('123456');
    expect(text).not.toMatch(/business/);
  });
});

describe('the description of the API', () => {
  let described: OpenApi;
  beforeAll(async () => {
    described = (await fixture.app.inject('/openapi.json')).json();
  });
  const operations = () =>
    Object.entries(described.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
    );

  it('is OpenAPI 3.1 with every route under /api, each with a summary, a tag, and its errors', () => {
    expect(described.openapi).toBe('3.1.0');
    expect(Object.keys(described.paths).filter((path) => path.startsWith('/api')).length).toBeGreaterThanOrEqual(17);
    for (const { path, operation } of operations()) {
      expect(operation.summary, path).toMatch(/\S/);
      expect(operation.tags, path).toHaveLength(1);
      if (path.startsWith('/api')) {
        expect(operation.security, path).toEqual([{ key: [] }]);
        expect(operation.responses['401']?.description, path).toContain('`unauthenticated`');
        expect(operation.responses['403']?.description, path).toContain('`forbidden`');
      }
    }
  });

  it('names only errors that are in the table, at the status that they have there', () => {
    for (const { path, operation } of operations()) {
      for (const [status, { description }] of Object.entries(operation.responses)) {
        for (const [, code] of description.matchAll(/^`(\w+)`:/gm)) {
          expect(ERRORS[code as keyof typeof ERRORS]?.http, `${path} ${code}`).toBe(Number(status));
        }
      }
    }
  });

  it('refers to nothing that it does not hold', () => {
    const text = JSON.stringify(described);
    const refs = [...text.matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name ?? '');
    expect(refs.length).toBeGreaterThan(20);
    expect(refs.filter((name) => !(name in described.components.schemas))).toEqual([]);
  });

  it('keeps the callbacks of carriers to itself', () => {
    expect(Object.keys(described.paths).filter((path) => path.startsWith('/carriers'))).toEqual([]);
  });
});

describe('the page at /docs', () => {
  it('brings its own script, and refers to nothing elsewhere', async () => {
    const moved = await fixture.ask(null, 'GET', '/docs');
    expect([301, moved.headers.location]).toEqual([moved.status, '/docs/']);
    const page = await fixture.ask(null, 'GET', '/docs/');
    expect(page.status).toBe(200);
    const sources = [...page.text.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, source]) => source);
    expect(sources).toEqual(['js/scalar.js']);
    expect(page.text).not.toMatch(/https?:\/\//);
    expect(page.text).toContain('/openapi.json');
    const script = await fixture.ask(null, 'GET', '/docs/js/scalar.js');
    expect(script.status).toBe(200);
    expect(script.text.length).toBeGreaterThan(1_000_000);
  });

  it('is held to that by its policy, which lets its one inline script run and no other', async () => {
    const page = await fixture.ask(null, 'GET', '/docs/');
    const policy = String(page.headers['content-security-policy']);
    const nonce = /'nonce-([^']+)'/.exec(policy)?.[1] ?? 'none';
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("connect-src 'self'");
    expect(policy).not.toMatch(/https?:|\*|script-src[^;]*unsafe/);
    const scripts = [...page.text.matchAll(/<script\b([^>]*)>/g)].map(([, attributes]) => attributes ?? '');
    expect(scripts.length).toBeGreaterThan(0);
    for (const attributes of scripts) expect(attributes).toContain(`nonce="${nonce}"`);
  });
});

it('answers with headers that let a browser do nothing with it', async () => {
  const { headers } = await fixture.ask(null, 'GET', '/healthz');
  expect(headers['content-security-policy']).toBe("default-src 'none';frame-ancestors 'none'");
  expect(headers['x-content-type-options']).toBe('nosniff');
  expect(headers['access-control-allow-origin']).toBeUndefined();
  const { status } = await fixture.ask(null, 'OPTIONS', '/api/lists', {
    headers: { origin: 'https://elsewhere.example' },
  });
  expect(status).toBe(404);
});

describe('starting', () => {
  const options = () => ({
    ...fixture.api_options,
    drivers: createCarrierDrivers(),
    limits: defaultLimits,
    log: pino({ level: 'silent' }),
  });

  it('listens at a free port, says where, and lets go of it', async () => {
    const api = await startApi({ ...options(), host: '127.0.0.1', port: 0 });
    expect(api.url).toBe(`http://127.0.0.1:${api.port}`);
    expect(await (await fetch(`${api.url}/healthz`)).json()).toEqual({ status: 'ok' });
    const taken = startApi({ ...options(), host: '127.0.0.1', port: api.port });
    await expect(taken).rejects.toMatchObject({ code: 'EADDRINUSE' });
    await api.close();
    await expect(fetch(`${api.url}/healthz`)).rejects.toThrow('fetch failed');
  });

  it('fails when a route does not say who may use it', async () => {
    const { default: Fastify } = await import('fastify');
    const { default: rateLimit } = await import('@fastify/rate-limit');
    const { guardRoutes } = await import('../src/auth.ts');
    const app = Fastify();
    await app.register(rateLimit, { global: false });
    guardRoutes(app, { api_limits: { requests_per_minute: 1 } } as never);
    app.get('/open', async () => 'anybody');
    app.get('/said', { config: { access: 'public' } }, async () => 'anybody');
    await expect(app.ready()).rejects.toThrow("routes that don't say who may use them: /open");
  });
});
