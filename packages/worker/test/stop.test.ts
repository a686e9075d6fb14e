import { connect, createServer, type Socket } from 'node:net';
import { defaultLimits, openDatabase, systemClock } from '@carillon/engine';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../../test/support/database.ts';
import { until } from '../../../test/support/wait.ts';
import { startWorker } from '../src/index.ts';

let database: TestDatabase;
const ends: (() => void)[] = [];
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(async () => {
  vi.useRealTimers();
  for (const end of ends.splice(0)) end();
  await database.drop();
});

/** A way to the database that can freeze: it stays open, takes what is sent, and nothing comes back any more. */
async function freezable(url: string) {
  const to = new URL(url);
  const sockets = new Set<Socket>();
  let frozen = false;
  let answered = 0;
  const server = createServer({ allowHalfOpen: true }, (down) => {
    const up = connect(Number(to.port), to.hostname);
    for (const socket of [down, up]) {
      sockets.add(socket);
      socket.on('error', () => {});
    }
    down.on('data', (data) => frozen || up.write(data));
    down.on('end', () => frozen || up.end());
    up.on('data', (data) => {
      answered++;
      if (!frozen) down.write(data);
    });
    up.on('end', () => frozen || down.end());
  });
  const { promise: listening, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await listening;
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const via = new URL(url);
  via.host = `127.0.0.1:${(server.address() as { port: number }).port}`;
  return { url: via.toString(), freeze: () => (frozen = true), answered: () => answered };
}

const STOP_AT_MOST_MS = 20_000;

describe('a database that stops answering', () => {
  it('keeps no worker from stopping within seconds', async () => {
    const [app, discovery] = [await freezable(database.appUrl), await freezable(database.discoveryUrl)];
    const db = openDatabase({ app_url: app.url, discovery_url: discovery.url });
    const worker = startWorker({
      db,
      app_url: app.url,
      drivers: new Map(),
      secret: Buffer.alloc(32),
      public_url: 'http://127.0.0.1:9',
      limits: { ...defaultLimits, poll_work_ms: 20 },
      clock: systemClock,
      log: pino({ level: 'silent' }),
    });
    await until(() => app.answered() > 20 && discovery.answered() > 20, { deadline_ms: 10_000, what: 'work as usual' });
    app.freeze();
    discovery.freeze();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    let stopped = false;
    const stopping = worker.stop().then(() => (stopped = true));
    await vi.advanceTimersByTimeAsync(1_000);
    expect(stopped).toBe(false);
    await vi.advanceTimersByTimeAsync(STOP_AT_MOST_MS);
    expect(stopped).toBe(true);
    await stopping;
  });
});
