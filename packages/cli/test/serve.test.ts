import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { withClient } from '../../../test/support/test-server.ts';
import { until } from '../../../test/support/wait.ts';
import type { Environment } from '../src/config.ts';
import { carillon, type Running, start } from './support/cli.ts';

let database: TestDatabase;
let dir: string;
let env: Environment;

beforeAll(async () => {
  database = await createTestDatabase();
  dir = await mkdtemp(path.join(os.tmpdir(), 'carillon-cli-'));
  env = {
    DATABASE_URL: database.appUrl,
    CARILLON_SECRET: Buffer.alloc(32, 1).toString('base64'),
    CARILLON_LEASE_TTL_MS: '3000',
    SIM_TOKEN: 'a token',
  };
});
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
  await database.drop();
});

/** Starts a process that ends with the test, and waits until it has said `ready`. */
async function serve(args: readonly string[], ready: RegExp, over: Environment = {}) {
  const running = start(args, { ...env, ...over });
  onTestFinished(() => void running.child.kill('SIGKILL'));
  const match = await saying(running, ready);
  return { ...running, match };
}

async function saying(running: Running, what: RegExp): Promise<RegExpExecArray> {
  let over = false;
  void running.ended.then(() => (over = true));
  return await until(
    () => {
      const match = what.exec(running.said());
      if (!match && over) throw new Error(`ended: ${running.said()}`);
      return match;
    },
    { deadline_ms: 30_000, what: `${what} in what it says` },
  );
}

const URL_SAID = /listens at (http:\/\/127\.0\.0\.1:\d+)/;

describe('worker', () => {
  it('serves its metrics where it is told to, and tells the database its clock', async () => {
    const worker = await serve(['worker'], /metrics are at (\S+)/, { CARILLON_METRICS_PORT: '0' });
    const url = worker.match[1] ?? '';
    const text = await (await fetch(url)).text();
    expect(text).toMatch(/^carillon_database_connections\{state="busy"\} \d+$/m);
    expect((await fetch(url.replace('/metrics', '/'))).status).toBe(404);
    const skews = () =>
      withClient(database.superuserUrl, async (client) => {
        const { rows } = await client.query(
          'SELECT skew_ms::int AS skew_ms FROM carillon.workers WHERE skew_ms IS NOT NULL',
        );
        return rows.length > 0 ? rows : null;
      });
    const [told] = await until(skews, { deadline_ms: 30_000, what: "the worker's clock" });
    // One machine, one clock: what it is off is the way of the statement.
    expect(Math.abs(told?.skew_ms)).toBeLessThan(2_000);
    worker.child.kill('SIGTERM');
    expect(await worker.ended).toMatchObject({ code: 0 });
    await expect(fetch(url)).rejects.toThrow('fetch failed');
  });

  it('says that the port of its metrics is in use', async () => {
    const holder = net.createServer().listen(0, '127.0.0.1');
    onTestFinished(() => void holder.close());
    await until(() => holder.listening, { deadline_ms: 5_000 });
    const CARILLON_METRICS_PORT = String((holder.address() as net.AddressInfo).port);
    const refused = await carillon(['worker'], { ...env, CARILLON_METRICS_PORT });
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/is in use by another program; .*CARILLON_METRICS_PORT \[port_in_use\]\n$/);
  });
});

describe('api', () => {
  it('answers, warns of a misspelt name, and on SIGTERM frees its port and ends with 0', async () => {
    const api = await serve(['api', '--port', '0'], URL_SAID, { CARILLON_LEASE_TTL: '1' });
    const url = api.match[1] ?? '';
    expect(api.said()).toContain('did you mean CARILLON_LEASE_TTL_MS?');
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect((await fetch(`${url}/docs`)).status).toBe(200);
    api.child.kill('SIGTERM');
    expect(await api.ended).toMatchObject({ code: 0, signal: null });
    await expect(fetch(`${url}/healthz`)).rejects.toThrow('fetch failed');
  });

  it('says that its port is in use', async () => {
    const holder = net.createServer().listen(0, '127.0.0.1');
    onTestFinished(() => void holder.close());
    await until(() => holder.listening, { deadline_ms: 5_000 });
    const port = String((holder.address() as net.AddressInfo).port);
    const refused = await carillon(['api', '--port', port], env);
    expect(refused).toMatchObject({ code: 1, stdout: '' });
    expect(refused.stderr).toMatch(/Port \d+ on 127\.0\.0\.1 is in use by another program; .* \[port_in_use\]\n$/);
  });

  it('names all that is missing before it tries anything', async () => {
    const bare = { DATABASE_URL: database.appUrl, CARILLON_HOST: '0.0.0.0' };
    const refused = await carillon(['api'], bare);
    expect(refused).toMatchObject({ code: 2, stdout: '' });
    expect(refused.stderr).toContain('CARILLON_SECRET is not set');
    expect(refused.stderr).toContain('CARILLON_PUBLIC_URL is not set');
  });
});

describe.each(['api', 'worker'])('%s', (command) => {
  const args = command === 'api' ? ['api', '--port', '0'] : ['worker'];

  it('refuses a login that row security does not hold, and a database that is not migrated', async () => {
    const owner = await carillon(args, { ...env, DATABASE_URL: database.ownerUrl });
    expect(owner).toMatchObject({ code: 1, stderr: expect.stringContaining('[login_too_strong]') });
    const fresh = await createTestDatabase({ migrated: false });
    onTestFinished(() => fresh.drop());
    const early = await carillon(args, { ...env, DATABASE_URL: fresh.appUrl, CARILLON_MIGRATION_WAIT_MS: '0' });
    expect(early).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('run "carillon migrate" first [schema_missing]'),
    });
  });

  it('waits for a database that can not be reached, says so, and goes on when it comes', async () => {
    const real = new URL(database.appUrl);
    const link = await createLink(Number(real.port));
    real.port = String(link.port);
    const waiting = await serve(args, /waiting for the database \(.*\[database_unavailable\]/, {
      DATABASE_URL: real.toString(),
    });
    expect(waiting.said()).not.toMatch(/listens|looks for runs/);
    await link.open();
    await saying(waiting, /the database can be reached; going on/);
    await saying(waiting, /listens at|looks for runs/);
    waiting.child.kill('SIGTERM');
    expect(await waiting.ended).toMatchObject({ code: 0, signal: null });
  });

  it('waits for a migration, says so, and goes on when it is done', async () => {
    const fresh = await createTestDatabase({ migrated: false });
    onTestFinished(() => fresh.drop());
    const waiting = await serve(args, /waiting for a migration \(.* at most\): .*\[schema_missing\]/, {
      DATABASE_URL: fresh.appUrl,
    });
    expect(waiting.said()).not.toMatch(/listens|looks for runs/);
    await carillon(['migrate'], { DATABASE_URL: fresh.appUrl, CARILLON_OWNER_DATABASE_URL: fresh.ownerUrl });
    await saying(waiting, /the database is migrated; going on/);
    await saying(waiting, /listens at|looks for runs/);
    waiting.child.kill('SIGTERM');
    expect(await waiting.ended).toMatchObject({ code: 0, signal: null });
  });

  it('waits for a migration as long as it is told to, and no longer', async () => {
    const fresh = await createTestDatabase({ migrated: false });
    onTestFinished(() => fresh.drop());
    const waiting = await serve(args, /waiting for a migration/, {
      DATABASE_URL: fresh.appUrl,
      CARILLON_MIGRATION_WAIT_MS: '1000',
    });
    const { code, stderr } = await waiting.ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(/\ncarillon: The database holds no tables of Carillon yet; .* \[schema_missing\]\n$/);
  });

  it('waits for the login that a migration makes, and says what it waits for', async () => {
    const url = new URL(database.appUrl);
    url.username = 'nobody_yet';
    const waiting = await serve(args, /waiting for a migration \(.*\[login_refused\]/, {
      DATABASE_URL: url.toString(),
    });
    expect(waiting.said()).not.toContain(url.password);
    waiting.child.kill('SIGTERM');
    expect(await waiting.ended).toMatchObject({ code: 0, signal: null });
  });

  it('can be stopped while it waits', async () => {
    const waiting = await serve(args, /waiting for the database/, { DATABASE_URL: 'postgres://a:b@127.0.0.1:1/x' });
    waiting.child.kill('SIGINT');
    expect(await waiting.ended).toMatchObject({ code: 0, signal: null });
  });
});

/** A way to a port of this machine that is closed at first: a port that refuses, and then leads there. */
async function createLink(target: number): Promise<{ port: number; open(): Promise<void> }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((from) => {
    const to = net.connect(target, '127.0.0.1');
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
      one.pipe(other);
    }
  });
  const listen = async (port: number) => {
    server.listen(port, '127.0.0.1');
    await until(() => server.listening, { deadline_ms: 5_000 });
    return (server.address() as net.AddressInfo).port;
  };
  const port = await listen(0);
  await new Promise((closed) => server.close(closed));
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { port, open: async () => void (await listen(port)) };
}

describe('worker', () => {
  it('says where carriers are told to call back when nobody told it', async () => {
    const worker = await serve(['worker'], /looks for runs/);
    expect(worker.said()).toContain(
      'CARILLON_PUBLIC_URL is not set; carriers are told to call back at http://127.0.0.1:8080',
    );
    worker.child.kill('SIGTERM');
    await worker.ended;
  });

  it('with an API and a simulated carrier beside it calls what a run asks for, and gives its lease back', async () => {
    const sim = await serve(['carrier-sim', '--port', '0', '--ledger', path.join(dir, 'ledger.ndjson')], URL_SAID);
    const api = await serve(['api', '--port', '0'], URL_SAID);
    const worker = await serve(['worker'], /looks for runs/, { CARILLON_PUBLIC_URL: api.match[1] });
    const { business_id } = (await carillon(['business', 'create', 'x', '--json'], env)).json<{
      business_id: number;
    }>();
    const ask = async (...args: string[]) =>
      await carillon([...args, '--business', String(business_id), '--json'], env);
    const account = [
      '--base-url',
      sim.match[1] ?? '',
      '--sid',
      'AC1',
      '--token-env',
      'SIM_TOKEN',
      '--from',
      '+97231110000',
    ];
    expect(await ask('account', 'create', ...account, '--lines', '20', '--rate', '100')).toMatchObject({ code: 0 });
    const people = Array.from({ length: 30 }, (_, n) => `p${n},+97250123${String(n).padStart(4, '0')}`);
    await writeFile(path.join(dir, 'people.csv'), ['name,phone', ...people, ''].join('\n'));
    await ask('leads', 'import', path.join(dir, 'people.csv'), '--list', 'people');
    const watched = await ask('runs', 'start', '--list', 'people', '--watch');
    expect(watched.stderr).toMatch(/Run \d+: \d+\/30 \(\d+ %\), \d+ live/);
    expect(watched.code).toBe(0);
    expect(watched.json()).toMatchObject({ status: 'completed', total_leads: 30, cursor_position: 30 });
    const ledger = (await (await fetch(`${sim.match[1]}/_sim/ledger`)).text()).trim().split('\n');
    expect(ledger).toHaveLength(30);

    // A run that waits for its time keeps the worker's lease; the worker gives it back when it stops.
    await ask('runs', 'start', '--list', 'people', '--concurrency', '1');
    await until(async () => (await leases()) > 0, { deadline_ms: 20_000 });
    worker.child.kill('SIGTERM');
    expect(await worker.ended).toMatchObject({ code: 0, signal: null });
    expect(await leases()).toBe(0);
    for (const { child } of [api, sim]) child.kill('SIGTERM');
    expect([(await api.ended).code, (await sim.ended).code]).toEqual([0, 0]);
  });
});

async function leases(): Promise<number> {
  return await withClient(database.superuserUrl, async (client) => {
    const { rows } = await client.query<{ held: number }>(
      'SELECT count(*)::int AS held FROM carillon.outbound_call_runs WHERE locked_by_worker IS NOT NULL',
    );
    return rows[0]?.held ?? 0;
  });
}

describe('carrier-sim', () => {
  it('says that its ledger can not be used', async () => {
    const refused = await carillon(['carrier-sim', '--port', '0', '--ledger', dir]);
    expect(refused).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('[ledger_unusable]') });
  });

  it('has its ledger for itself, and gives it up when it ends, however that is', async () => {
    const args = ['carrier-sim', '--port', '0', '--ledger', path.join(dir, 'held.ndjson')];
    const first = await serve(args, URL_SAID);
    const second = await carillon(args);
    expect(second).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('[ledger_in_use]') });
    first.child.kill('SIGKILL');
    await first.ended;
    const third = await serve(args, URL_SAID);
    third.child.kill('SIGTERM');
    expect((await third.ended).code).toBe(0);
  });
});
