import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type Carrier, createCarrier } from './carrier.ts';
import { CARRIER_REQUEST_TIMEOUT_MS, LIMITS, TRIAL } from './limits.ts';
import { type Postgres, startPostgres } from './postgres.ts';
import { createProcesses, type Environment, type Running } from './processes.ts';
import { type Proxy, startProxy } from './proxy.ts';

const APIS = 2;
const WORKERS = 3;

/** A place in which one process follows the other. */
export interface Post {
  name: string;
  kind: 'api' | 'worker';
  /** Null while the place is empty. */
  process: Running | null;
  /** Stopped with SIGSTOP. */
  stopped: boolean;
  /** A worker's id; an API's address. Empty until it has said so. */
  identity: string;
  /** Where a worker's metrics are. */
  metrics_url: string;
}

/** Two APIs behind one address, three workers, a carrier and a database, with a proxy on each way that matters. */
export interface Installation {
  dir: string;
  posts: readonly Post[];
  postgres: Postgres;
  carrier: Carrier;
  to_postgres: Proxy;
  to_carrier: Proxy;
  /** Of all APIs together: what clients and the carrier know. */
  api_url: string;
  carrier_base_url: string;
  log(line: string): void;
  /** SIGKILL; the place stays empty until `fill`. */
  empty(post: Post): Promise<void>;
  /** Starts a process in an empty place; returns when it is at work. */
  fill(post: Post): Promise<void>;
  /** Processes that ended without being told to: each is a fault of ours. */
  unplanned: readonly string[];
  /** Transactions that the workers ran again, over all processes there were, as far as their metrics were read. */
  retries(): number;
  close(): Promise<void>;
}

function environmentOf(appUrl: string, api_url: string): Environment {
  const limits = Object.entries(LIMITS).map(([name, value]) => [`CARILLON_${name.toUpperCase()}`, String(value)]);
  return {
    ...Object.fromEntries(limits),
    CARILLON_CARRIER_REQUEST_TIMEOUT_MS: String(CARRIER_REQUEST_TIMEOUT_MS),
    CARILLON_REQUESTS_PER_MINUTE: '1000000',
    CARILLON_LOG_LEVEL: 'warn',
    CARILLON_SECRET: randomBytes(32).toString('base64'),
    CARILLON_PUBLIC_URL: api_url,
    DATABASE_URL: appUrl,
  };
}

function at(url: string, port: number): string {
  const other = new URL(url);
  other.port = String(port);
  return other.toString();
}

/** Says so when a process ends without having been taken from its place before. */
export function watchEnd(post: Post, process: Running, unplanned: string[]): void {
  void process.ended.then((how) => {
    if (post.process !== process) return;
    post.process = null;
    unplanned.push(`${post.name} (${post.identity}) ended by itself with ${how}`);
  });
}

/** `seed` decides the fate of each call at the carrier. */
export async function createInstallation(
  dir: string,
  seed: number,
  { log, atWork }: { log(line: string): void; atWork(worker_id: string): void },
): Promise<Installation> {
  const logs = path.join(dir, 'logs');
  mkdirSync(logs, { recursive: true });
  const dataDir = path.join(dir, 'database');
  mkdirSync(dataDir, { recursive: true });
  const processes = createProcesses({ logs, dataDir });
  const postgres = await startPostgres(dataDir);
  const ledger = path.join(dir, 'ledger.ndjson');
  const sim = processes.start('carrier', [
    'carrier-sim',
    '--port',
    '0',
    '--ledger',
    ledger,
    '--seed',
    String(Math.max(1, seed % 1_000_000)),
  ]);
  const [, sim_url = ''] = await sim.says(/listens at (\S+)/);
  const carrier = createCarrier(sim_url);
  const host = '127.0.0.1';
  const to_postgres = await startProxy(() => [{ host, port: postgres.port }]);
  const to_carrier = await startProxy(() => [{ host, port: carrier.port }]);
  let turn = 0;
  const posts: Post[] = [];
  const balancer = await startProxy(() => {
    const apis = posts.filter(
      ({ kind, process, identity }) => kind === 'api' && process && !process.over() && identity !== '',
    );
    const first = turn++ % Math.max(1, apis.length);
    return [...apis.slice(first), ...apis.slice(0, first)].map(({ identity }) => ({
      host,
      port: Number(new URL(identity).port),
    }));
  });
  const api_url = `http://${host}:${balancer.port}`;
  const env = environmentOf(at(postgres.appUrl, to_postgres.port), api_url);
  for (const [kind, count] of [['api', APIS] as const, ['worker', WORKERS] as const])
    for (let n = 1; n <= count; n++)
      posts.push({ name: `${kind}-${n}`, kind, process: null, stopped: false, identity: '', metrics_url: '' });
  const metrics = watchRetries(posts);
  const unplanned: string[] = [];

  async function fill(post: Post): Promise<void> {
    if (post.process) return;
    const args = post.kind === 'api' ? ['api', '--port', '0'] : ['worker'];
    // As on a machine of its own, whose files outlive the process: what it remembers of the database is there.
    const own = { ...env, CARILLON_DATA_DIR: path.join(dir, 'machines', post.name) };
    const fresh = processes.start(post.name, args, post.kind === 'api' ? own : { ...own, CARILLON_METRICS_PORT: '0' });
    post.process = fresh;
    // Not its predecessor's: who is killed before it has said its name must not be taken for that one.
    post.identity = '';
    watchEnd(post, fresh, unplanned);
    const [, identity = ''] = await fresh.says(post.kind === 'api' ? /listens at (\S+)/ : /worker (\S+) looks/);
    post.identity = identity;
    if (post.kind !== 'worker') return;
    if (!fresh.over()) atWork(identity);
    post.metrics_url = (await fresh.says(/metrics are at (\S+)/))[1] ?? '';
  }

  await Promise.all(posts.map(fill));
  return {
    dir,
    posts,
    postgres,
    carrier,
    to_postgres,
    to_carrier,
    api_url,
    carrier_base_url: at(carrier.url, to_carrier.port),
    log,
    async empty(post) {
      const { process } = post;
      post.process = null;
      post.stopped = false;
      await process?.kill();
    },
    fill,
    unplanned,
    retries: metrics.total,
    async close() {
      metrics.stop();
      await processes.killAll();
      await Promise.all([to_postgres.close(), to_carrier.close(), balancer.close()]);
      await postgres.close();
    },
  };
}

/** Reads each worker's counter every few seconds: what a killed one has counted since then is lost. */
function watchRetries(posts: readonly Post[]) {
  const counted = new Map<string, number>();
  const stop = new AbortController();
  async function look({ identity, metrics_url }: Post): Promise<void> {
    const signal = AbortSignal.timeout(TRIAL.metrics_every_ms);
    const text = await (await fetch(metrics_url, { signal })).text();
    const [, count] = /^carillon_transaction_retries_total (\d+)/m.exec(text) ?? [];
    if (count !== undefined) counted.set(identity, Number(count));
  }
  void (async () => {
    while (!stop.signal.aborted) {
      const alive = posts.filter(({ process, metrics_url }) => process && metrics_url !== '');
      await Promise.allSettled(alive.map(look));
      await pause(TRIAL.metrics_every_ms, undefined, { signal: stop.signal }).catch(() => {});
    }
  })();
  return { total: () => [...counted.values()].reduce((sum, count) => sum + count, 0), stop: () => stop.abort() };
}
