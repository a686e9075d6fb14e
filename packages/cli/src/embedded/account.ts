import { execFile, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { EmbeddedError } from './embedded-error.ts';

const run = promisify(execFile);

/** As whom PostgreSQL's programs run: it refuses to run as root. */
export interface Account {
  /** The owner that the cluster's files must have; undefined: whoever we are. */
  readonly owner: { uid: number; gid: number } | undefined;
  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess;
}

/**
 * For an ordinary user, itself. For root whoever owns the cluster, or the account `postgres` before there is one, made
 * if it does not exist. Where a directory on the way to one of `paths` is closed to that account (a checkout below /root, a private temporary directory), the programs get
 * the one capability to pass through closed directories; no permission on disk is changed for them.
 */
export async function findAccount(cluster: string, paths: readonly string[]): Promise<Account> {
  if (process.getuid?.() !== 0) return { owner: undefined, spawn };
  const owner = (await ownerOf(cluster)) ?? (await lookUp()) ?? (await createAccount());
  const closed = await firstClosed(paths, owner);
  if (!closed) return { owner, spawn: (command, args, options) => spawn(command, args, { ...options, ...owner }) };
  const capability = await passThroughCapability();
  if (!capability || !(await run('setpriv', ['--version']).catch(() => undefined)))
    throw new EmbeddedError(
      'root_without_account',
      `PostgreSQL does not run as root, and the account with the id ${owner.uid} can't pass through ${closed}; run as an ordinary user, move to a directory that others may enter, or set DATABASE_URL`,
    );
  const identity = `--reuid=${owner.uid} --regid=${owner.gid} --clear-groups`;
  const capabilities = `--inh-caps=-all,+${capability} --ambient-caps=-all,+${capability}`;
  const prefix = `${identity} ${capabilities}`.split(' ');
  return { owner, spawn: (command, args, options) => spawn('setpriv', [...prefix, command, ...args], options) };
}

async function ownerOf(cluster: string): Promise<{ uid: number; gid: number } | undefined> {
  const { uid, gid } = await stat(cluster).catch(() => ({ uid: 0, gid: 0 }));
  return uid > 0 ? { uid, gid } : undefined;
}

async function lookUp(): Promise<{ uid: number; gid: number } | undefined> {
  try {
    const [uid, gid] = await Promise.all(
      ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, 'postgres'])).stdout)),
    );
    return uid && gid ? { uid, gid } : undefined;
  } catch {
    return undefined;
  }
}

async function createAccount(): Promise<{ uid: number; gid: number }> {
  const made = await run('useradd', [
    '--system',
    '--user-group',
    '--no-create-home',
    '--shell',
    '/bin/false',
    'postgres',
  ])
    .then(lookUp)
    .catch((error: Error) => error);
  if (made && !(made instanceof Error)) return made;
  throw new EmbeddedError(
    'root_without_account',
    `PostgreSQL does not run as root, and the account postgres does not exist and can't be made (${made?.message.trim() ?? 'useradd made none'}); run as an ordinary user, create that account, or set DATABASE_URL`,
  );
}

/** The first directory on the way to one of `paths` that `owner` may not enter by its permission bits. */
async function firstClosed(paths: readonly string[], owner: { uid: number; gid: number }): Promise<string | undefined> {
  for (const target of paths) {
    const { root } = path.parse(target);
    for (let directory = path.dirname(target); ; directory = path.dirname(directory)) {
      const { mode, uid, gid } = await stat(directory);
      const enter = uid === owner.uid ? 0o100 : gid === owner.gid ? 0o010 : 0o001;
      if ((mode & enter) === 0) return directory;
      if (directory === root) break;
    }
  }
  return undefined;
}

/** The weaker one where we have it; containers usually leave root only the stronger. */
async function passThroughCapability(): Promise<string | undefined> {
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  if (effective & (1n << 2n)) return 'dac_read_search';
  return effective & (1n << 1n) ? 'dac_override' : undefined;
}
