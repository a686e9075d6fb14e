import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chown, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { Account } from './account.ts';
import type { Binaries } from './binaries.ts';
import { EmbeddedError } from './embedded-error.ts';
import { isPostmaster, readPostmaster } from './postmaster.ts';

export const SUPERUSER = 'postgres';

// Nothing of our own environment: PGPORT and the like would change what runs, and a secret would be visible in it.
const ENVIRONMENT = { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/bin:/bin:/usr/sbin:/sbin', SystemRoot: 'C:\\Windows' };

const POLL_MS = 20;
// Recovery after a crash reads the WAL since the last checkpoint: seconds, but a slow disk is given its time.
const READY_WITHIN_MS = 300_000;
const LEFTOVERS_GONE_WITHIN_MS = 15_000;

/** Which programs, as whom, on which cluster. `directory` is the cluster's own, an absolute path. */
export interface Cluster {
  binaries: Binaries;
  account: Account;
  directory: string;
}

export interface InitOptions {
  password: string;
  /** False for tests only: the new cluster need not survive a power cut. */
  sync: boolean;
}

/**
 * Makes a new cluster with the superuser `postgres`. It is made beside its place and renamed at the end, so that a
 * cluster in its place is a whole one.
 */
export async function initCluster(cluster: Cluster, options: InitOptions): Promise<void> {
  // A name of its own each time: an initdb that outlived its killed parent clears up by name when it fails.
  const fresh = `${cluster.directory}.new-${randomBytes(6).toString('hex')}`;
  const passwordFile = `${fresh}.password`;
  try {
    await mkdir(fresh, { mode: 0o700 });
    await writeFile(passwordFile, options.password, { mode: 0o600 });
    await own(cluster.account, fresh, passwordFile);
    await initdb(cluster, [
      `--pgdata=${fresh}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      // The builtin provider needs no locale of the operating system and sorts the same everywhere.
      '--locale=C',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--no-instructions',
      '--no-sync',
    ]);
    // Syncing once at the end, rather than each file when it is written, saves a good part of the first start.
    if (options.sync) await initdb(cluster, [`--pgdata=${fresh}`, '--sync-only']);
    await rename(fresh, cluster.directory);
    if (options.sync) await syncDirectory(path.dirname(cluster.directory));
  } finally {
    await removeUnfinished(cluster.directory);
  }
}

/** Removes clusters beside this one that a killed initdb did not finish. One still being written to goes the next time. */
export async function removeUnfinished(directory: string): Promise<void> {
  const parent = path.dirname(directory);
  const names = await readdir(parent);
  for (const name of names.filter((n) => n.startsWith(`${path.basename(directory)}.new-`)))
    await rm(path.join(parent, name), { recursive: true, force: true }).catch(() => {});
}

/** Makes a rename last. Windows can't open directories, and needs no help. */
async function syncDirectory(directory: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(directory, 'r');
  await handle.sync().finally(() => handle.close());
}

async function own(account: Account, ...paths: string[]): Promise<void> {
  if (!account.owner) return;
  for (const file of paths) await chown(file, account.owner.uid, account.owner.gid);
}

async function initdb(cluster: Cluster, args: readonly string[]): Promise<void> {
  const child = cluster.account.spawn(cluster.binaries.initdb, args, {
    cwd: '/',
    env: ENVIRONMENT,
    stdio: ['ignore', 'ignore', 'pipe'],
    // Not in the terminal's group: a Ctrl-C is ours to answer, once the cluster is whole.
    detached: true,
  });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (said = (said + chunk).slice(-4_000)));
  const ended = await ending(child);
  if (ended !== 0) throw explain(`initdb failed (${String(ended)})`, said, cluster.directory);
}

/** The exit code, the signal's name, or the error with which it could not even be started. */
function ending(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code ?? signal ?? 'unknown'));
  });
}

export interface StartOptions {
  port: number;
  settings: Readonly<Record<string, string>>;
  /** The server's messages are appended here. */
  log: string;
  /** Called once when the server is busy with recovery. */
  onSlow?: () => void;
}

/**
 * Starts the server in a session of its own, so that a Ctrl-C in the terminal reaches us and not it, and returns its
 * process id when it accepts connections. Its messages go to a file, so it does not depend on our life.
 */
export async function startPostmaster(cluster: Cluster, options: StartOptions): Promise<number> {
  for (let waited_ms = 0; ; waited_ms += 250) {
    try {
      return await startOnce(cluster, options);
    } catch (error) {
      // After a kill -9 of the postmaster alone its children take a moment to notice.
      const leftovers = error instanceof EmbeddedError && LEFTOVERS.test(error.message);
      if (!leftovers || waited_ms >= LEFTOVERS_GONE_WITHIN_MS) throw error;
      await pause(250);
    }
  }
}

const LEFTOVERS = /pre-existing shared memory block/;

async function startOnce(cluster: Cluster, options: StartOptions): Promise<number> {
  const log = await open(options.log, 'a', 0o600);
  const before = (await log.stat()).size;
  const settings = Object.entries({
    listen_addresses: '127.0.0.1',
    port: String(options.port),
    unix_socket_directories: '',
    ...options.settings,
  });
  const child = cluster.account.spawn(
    cluster.binaries.postgres,
    ['-D', cluster.directory, ...settings.flatMap(([key, value]) => ['-c', `${key}=${value}`])],
    { cwd: '/', env: ENVIRONMENT, stdio: ['ignore', log.fd, log.fd], detached: true },
  );
  const life: { ended?: number | string } = {};
  void ending(child).then((how) => (life.ended = how));
  child.unref();
  await log.close();
  for (let waited_ms = 0; life.ended === undefined; waited_ms += POLL_MS) {
    const postmaster = await readPostmaster(cluster.directory);
    if (child.pid !== undefined && postmaster?.pid === child.pid && postmaster.ready) return child.pid;
    if (waited_ms === 2_000) options.onSlow?.();
    if (waited_ms >= READY_WITHIN_MS) {
      if (child.pid !== undefined) await stopPostmaster(cluster.directory, child.pid);
      throw new EmbeddedError('postgres_failed', `PostgreSQL is not ready after ${waited_ms} ms; see ${options.log}`);
    }
    await pause(POLL_MS);
  }
  const said = (await readFile(options.log, 'utf8')).slice(before);
  throw explain(`PostgreSQL ended at its start (${life.ended})`, said, cluster.directory, options.port);
}

/** Turns what initdb or the server said last into the error that says what to do. */
export function explain(what: string, said: string, directory: string, port?: number): EmbeddedError {
  const detail = said.trim().split('\n').slice(-6).join(' | ');
  if (/no space left on device|disk quota exceeded|check free disk space/i.test(said))
    return new EmbeddedError(
      'disk_full',
      `There is no space left on the disk of ${directory}; free some and start again`,
    );
  if (port !== undefined && /address already in use/i.test(said))
    return new EmbeddedError('port_in_use', `Port ${port} on 127.0.0.1 is in use by another program; choose another`);
  if (/loading shared libraries|ENOENT|EACCES|library not loaded|permission denied/i.test(`${what} ${said}`))
    return new EmbeddedError(
      'postgres_unusable',
      `${what}: the embedded PostgreSQL can't run here: ${detail || what}; set DATABASE_URL to a server of your own`,
    );
  return new EmbeddedError('postgres_failed', `${what}: ${detail || 'it said nothing'}`);
}

/**
 * Stops the server of this directory: politely at first (open transactions are rolled back, everything is written
 * down), then, where it does not end in time, as in a crash, from which it recovers. Returns when it is gone.
 */
export async function stopPostmaster(directory: string, pid: number): Promise<void> {
  for (const [signal, patience_ms] of STOPPING) {
    send(pid, signal);
    // One that was suspended can't hear.
    if (process.platform !== 'win32') send(pid, 'SIGCONT');
    for (let waited_ms = 0; waited_ms < patience_ms; waited_ms += POLL_MS) {
      if (!(await isPostmaster(pid, directory))) return;
      await pause(POLL_MS);
    }
  }
  throw new EmbeddedError('postgres_failed', `PostgreSQL (process ${pid}) on ${directory} does not end`);
}

const STOPPING: readonly [NodeJS.Signals, number][] = [
  ['SIGINT', 60_000],
  ['SIGQUIT', 15_000],
  ['SIGKILL', 10_000],
];

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** The major version of the cluster in a directory; undefined where there is none. */
export async function clusterMajor(directory: string): Promise<number | undefined> {
  if (!(await stat(directory).catch(() => undefined))) return undefined;
  const version = await readFile(path.join(directory, 'PG_VERSION'), 'utf8').catch(() => '');
  const major = Number.parseInt(version, 10);
  if (Number.isInteger(major)) return major;
  throw new EmbeddedError(
    'data_dir_not_ours',
    `${directory} exists but holds no PostgreSQL cluster; choose another data directory, or move that one away`,
  );
}
