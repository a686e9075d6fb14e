import { mkdir, readFile, realpath, rename, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Client } from 'pg';
import { findAccount } from './account.ts';
import { findBinaries } from './binaries.ts';
import {
  clusterMajor,
  explain,
  type Cluster,
  initCluster,
  removeUnfinished,
  startPostmaster,
  stopPostmaster,
  SUPERUSER,
} from './cluster.ts';
import { EmbeddedError } from './embedded-error.ts';
import { freePort } from './free-port.ts';
import { type FileLock, tryLock } from './locks.ts';
import { disownPostmaster, isPostmaster, readPostmaster } from './postmaster.ts';
import { loadSecrets, type Secrets } from './secrets.ts';

export interface EmbeddedOptions {
  /** Made if it does not exist. The cluster lies in `<dataDir>/postgres`, passwords in `<dataDir>/secrets.json`. */
  dataDir: string;
  /** The one that was used before, if free, else any free one. A given one that is taken is an error. */
  port?: number;
  /** Server settings on top of the usual ones. With `fsync: 'off'` not even the new cluster is made durable. */
  settings?: Readonly<Record<string, string>>;
  onProgress?: (step: EmbeddedStep) => void;
}

/** `stopping_leftover`: a server that outlived a killed Carillon. `recovering`: it takes longer than 2 s to come up. */
export type EmbeddedStep = 'creating' | 'stopping_leftover' | 'starting' | 'recovering' | 'ready';

export interface Embedded {
  ownerUrl: string;
  /** Of the login carillon_app, which `migrate` creates. */
  appUrl: string;
  superuserUrl: string;
  /** CARILLON_SECRET of this data directory: 32 bytes in base64. */
  secret: string;
  /** Stops the server, unless another command still uses it, and returns when it has ended. Safe to call again. */
  stop(): Promise<void>;
}

/** For two cores and durable commits; a queue's statements are short, so no parallel workers and no JIT. */
const SETTINGS: Readonly<Record<string, string>> = {
  max_connections: '100',
  shared_buffers: '256MB',
  effective_cache_size: '1GB',
  work_mem: '16MB',
  maintenance_work_mem: '128MB',
  synchronous_commit: 'on',
  max_wal_size: '2GB',
  checkpoint_timeout: '15min',
  random_page_cost: '1.1',
  autovacuum_naptime: '10s',
  jit: 'off',
  max_parallel_workers_per_gather: '0',
  password_encryption: 'scram-sha-256',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_checkpoints: 'off',
  log_line_prefix: '%m [%p] %q%u@%d ',
};

const LOG_BYTES_MAX = 10_000_000;
const POLL_MS = 50;
// Another command may just be making a cluster, or waiting for recovery.
const STARTUP_WITHIN_MS = 360_000;

/**
 * Starts the embedded PostgreSQL for `carillon start`: one at a time on a data directory, another is refused with
 * `data_dir_in_use`. Copes with whatever a kill -9 left behind. Throws EmbeddedError.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const dataDir = await openDataDir(options.dataDir);
  const holder = path.join(dataDir, 'start.pid');
  const lock = tryLock(dataDir, 'start', 'exclusive');
  if (!lock) {
    const pid = await readFile(holder, 'utf8').catch(() => '');
    throw new EmbeddedError(
      'data_dir_in_use',
      `Another "carillon start"${pid ? ` (process ${pid.trim()})` : ''} uses ${dataDir}; stop it, or choose another data directory`,
    );
  }
  try {
    await writeFile(holder, String(process.pid));
    return await attach({ ...options, dataDir }, lock);
  } catch (error) {
    lock.release();
    throw onDisk(error, dataDir);
  }
}

/**
 * The database of a data directory for another command: of the `carillon start` that runs there, or, where none does,
 * started until the last such command calls `stop`. Throws EmbeddedError.
 */
export async function connectEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const dataDir = await openDataDir(options.dataDir);
  try {
    return await attach({ ...options, dataDir });
  } catch (error) {
    throw onDisk(error, dataDir);
  }
}

async function openDataDir(wanted: string): Promise<string> {
  const dataDir = path.resolve(wanted);
  try {
    await makeDirectory(dataDir);
    // Taking a lock is also the proof that files can be written here.
    tryLock(dataDir, 'users', 'shared')?.release();
    return await realpath(dataDir);
  } catch (error) {
    throw onDisk(error, dataDir);
  }
}

/** Like `mkdir -p`. Node's own recursive mkdir never returns where a file system makes no directories, as in /proc. */
async function makeDirectory(directory: string): Promise<void> {
  const error = await mkdir(directory, { mode: 0o700 }).catch((e: NodeJS.ErrnoException) => e);
  if (!error) return;
  const parent = path.dirname(directory);
  if (error.code === 'EEXIST' && (await stat(directory)).isDirectory()) return;
  if (error.code !== 'ENOENT' || parent === directory || (await exists(parent))) throw error;
  await makeDirectory(parent);
  await mkdir(directory, { mode: 0o700 });
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** Errors of the file system in the words of whoever chose the data directory. */
function onDisk(error: unknown, dataDir: string): unknown {
  if (error instanceof EmbeddedError || !(error instanceof Error)) return error;
  const code = 'code' in error ? error.code : undefined;
  const why = error.message;
  if (code === 'ENOSPC' || code === 'EDQUOT' || /database or disk is full/.test(why))
    return new EmbeddedError(
      'disk_full',
      `There is no space left on the disk of ${dataDir}; free some and start again`,
      error,
    );
  if (code === 'EEXIST' || code === 'ENOTDIR')
    return new EmbeddedError(
      'data_dir_is_file',
      `The data directory ${dataDir} is a file, or lies below one; choose another (${why})`,
      error,
    );
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ERR_SQLITE_ERROR' || code === 'ENOENT')
    return new EmbeddedError(
      'data_dir_not_writable',
      `The data directory ${dataDir} can't be written: ${why}; change its permissions or choose another`,
      error,
    );
  return error;
}

type Attached = EmbeddedOptions & { dataDir: string };

/** Joins the running server, or starts one. What two commands could do to each other here, they do one after the other. */
async function attach(options: Attached, startLock?: FileLock): Promise<Embedded> {
  const { dataDir } = options;
  return inTurn(dataDir, async () => {
    const directory = path.join(dataDir, 'postgres');
    const major = await clusterMajor(directory);
    const secrets = await loadSecrets(dataDir, major === undefined);
    const port = (await settleRunning(directory, options)) ?? (await startServer(directory, major, secrets, options));
    const users = tryLock(dataDir, 'users', 'shared');
    if (!users) throw new EmbeddedError('data_dir_in_use', `${dataDir} is locked by another program`);
    const urls = urlsOf(secrets, port);
    try {
      await ensureDatabase(urls.superuserUrl, secrets.owner_password);
    } catch (error) {
      await leave(dataDir, users);
      throw explain("The embedded database can't be opened", (error as Error).message, directory);
    }
    options.onProgress?.('ready');
    let stopping: Promise<void> | undefined;
    const stop = () => (stopping ??= inTurn(dataDir, () => leave(dataDir, users)).finally(() => startLock?.release()));
    return { ...urls, secret: secrets.carillon_secret, stop };
  });
}

/** Gives up the server, and stops it when nobody else uses it. */
async function leave(dataDir: string, users: FileLock): Promise<void> {
  users.release();
  const last = tryLock(dataDir, 'users', 'exclusive');
  if (!last) return;
  last.release();
  const directory = path.join(dataDir, 'postgres');
  const server = await readPostmaster(directory);
  if (server && (await isPostmaster(server.pid, directory))) await stopPostmaster(directory, server.pid);
}

async function inTurn<T>(dataDir: string, work: () => Promise<T>): Promise<T> {
  for (let waited_ms = 0; waited_ms < STARTUP_WITHIN_MS; waited_ms += POLL_MS) {
    const lock = tryLock(dataDir, 'startup', 'exclusive');
    if (lock) return work().finally(() => lock.release());
    await pause(POLL_MS);
  }
  throw new EmbeddedError(
    'data_dir_in_use',
    `Another command has been starting or stopping the database of ${dataDir} for ${STARTUP_WITHIN_MS} ms`,
  );
}

/**
 * The port of a server that others use already. One that nobody uses outlived its Carillon, and with it maybe the
 * transactions of workers that were killed: it is stopped.
 */
async function settleRunning(directory: string, options: Attached): Promise<number | undefined> {
  for (let waited_ms = 0; ; waited_ms += POLL_MS) {
    const server = await readPostmaster(directory);
    if (!server) return undefined;
    if (!(await isPostmaster(server.pid, directory))) {
      await disownPostmaster(directory);
      return undefined;
    }
    const alone = tryLock(options.dataDir, 'users', 'exclusive');
    alone?.release();
    if (!alone && server.ready) return server.port;
    // While others use it and it is not ready, it recovers or stops by itself.
    if (alone || waited_ms >= STARTUP_WITHIN_MS / 2) {
      options.onProgress?.('stopping_leftover');
      await stopPostmaster(directory, server.pid);
      return undefined;
    }
    await pause(POLL_MS);
  }
}

async function startServer(
  directory: string,
  major: number | undefined,
  secrets: Secrets,
  options: Attached,
): Promise<number> {
  const binaries = await findBinaries();
  if (major !== undefined && major !== binaries.major)
    throw new EmbeddedError(
      'data_dir_other_version',
      `${directory} was made by PostgreSQL ${major}, and this Carillon brings ${binaries.major}; choose another data directory, or move the data with pg_dump of version ${major}`,
    );
  const account = await findAccount(directory, [binaries.initdb, directory]);
  const cluster: Cluster = { binaries, account, directory };
  await removeUnfinished(directory);
  if (major === undefined) {
    options.onProgress?.('creating');
    await initCluster(cluster, { password: secrets.superuser_password, sync: options.settings?.fsync !== 'off' });
  }
  options.onProgress?.('starting');
  const log = path.join(options.dataDir, 'postgres.log');
  await rotate(log);
  return startOnPort(cluster, log, options);
}

async function startOnPort(cluster: Cluster, log: string, options: Attached): Promise<number> {
  const portFile = path.join(options.dataDir, 'postgres.port');
  const before = Number(await readFile(portFile, 'utf8').catch(() => '0'));
  let port = options.port || before || (await freePort());
  for (let tries = 1; ; tries++) {
    try {
      await startPostmaster(cluster, {
        port,
        log,
        settings: { ...SETTINGS, ...options.settings },
        onSlow: () => options.onProgress?.('recovering'),
      });
      await writeFile(portFile, String(port));
      return port;
    } catch (error) {
      // Somebody else has taken the port that was ours before, or free a moment ago.
      const taken = error instanceof EmbeddedError && error.code === 'port_in_use';
      if (!taken || options.port || tries >= 5) throw error;
      port = await freePort();
    }
  }
}

async function rotate(log: string): Promise<void> {
  const size = await stat(log).then(
    (s) => s.size,
    () => 0,
  );
  if (size > LOG_BYTES_MAX) await rename(log, `${log}.1`);
}

function urlsOf(secrets: Secrets, port: number): Pick<Embedded, 'ownerUrl' | 'appUrl' | 'superuserUrl'> {
  const url = (user: string, password: string, database: string) =>
    `postgres://${user}:${password}@127.0.0.1:${port}/${database}`;
  return {
    ownerUrl: url('carillon_owner', secrets.owner_password, 'carillon'),
    appUrl: url('carillon_app', secrets.app_password, 'carillon'),
    superuserUrl: url(SUPERUSER, secrets.superuser_password, 'carillon'),
  };
}

/** The owner's login and the database; what a kill between the two left out is made up for. */
export async function ensureDatabase(superuserUrl: string, ownerPassword: string): Promise<void> {
  const url = new URL(superuserUrl);
  url.pathname = '/postgres';
  const client = new Client({ connectionString: url.toString() });
  // A server that dies just now fails the next statement; without a listener it would take this process with it.
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query("SELECT set_config('carillon_setup.owner_password', $1, false)", [ownerPassword]);
    await client.query(`DO $$ BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'carillon_owner') THEN
        EXECUTE format('CREATE ROLE carillon_owner LOGIN CREATEROLE PASSWORD %L',
                       current_setting('carillon_setup.owner_password'));
      END IF;
    END $$`);
    const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = 'carillon'");
    if (!rowCount) await client.query('CREATE DATABASE carillon OWNER carillon_owner');
  } finally {
    await client.end();
  }
}
