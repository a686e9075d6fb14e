import { spawnSync } from 'node:child_process';
import { chmod, cp, mkdir, readdir, readFile, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { afterAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { findBinaries, restoreLinks } from '../src/embedded/binaries.ts';
import { explain } from '../src/embedded/cluster.ts';
import {
  begin,
  hasSetpriv,
  isAlive,
  isRoot,
  query,
  refused,
  removeTemplate,
  temporaryDirectory,
  usedDataDir,
  withoutCapabilities,
} from './embedded-support.ts';

afterAll(removeTemplate);
// Servers that really write to disk, on a machine whose disk may be busy.
vi.setConfig({ testTimeout: 180_000 });

/** What a container leaves root without, and with them what lets root look into other processes. */
const CONTAINER = withoutCapabilities('sys_ptrace', 'sys_admin', 'dac_read_search', 'sys_resource', 'sys_nice');
/** Root for whom permission bits count, as they do for everybody else. */
const BOUND = withoutCapabilities('dac_override', 'dac_read_search');

async function listening(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  return typeof address === 'object' && address ? address.port : 0;
}

describe('a data directory that can not be used', () => {
  it('is a file, or lies below one', async () => {
    const file = path.join(await temporaryDirectory(), 'file');
    await writeFile(file, 'x');
    for (const dataDir of [file, path.join(file, 'below')]) {
      const refusal = await refused({ command: 'start', dataDir });
      expect(refusal.code).toBe('data_dir_is_file');
      expect(refusal.message).toContain(file);
    }
    expect(await readFile(file, 'utf8')).toBe('x');
  });

  // Root meets permission bits only without its capabilities, and those only setpriv takes away.
  it.skipIf(isRoot && !hasSetpriv)('is not writable, or lies in a directory that is not', async () => {
    const closed = await temporaryDirectory();
    await chmod(closed, 0o555);
    const options = isRoot ? { prefix: BOUND } : {};
    for (const dataDir of [closed, path.join(closed, 'data')]) {
      const refusal = await refused({ command: 'start', dataDir }, options);
      expect(refusal.code).toBe('data_dir_not_writable');
      expect(refusal.message).toContain(dataDir);
    }
    expect(await readdir(closed)).toEqual([]);
  });

  it.skipIf(process.platform !== 'linux')('lies where no directory can be made', async () => {
    for (const dataDir of ['/proc/carillon', '/proc/carillon/data'])
      expect((await refused({ command: 'start', dataDir })).code).toBe('data_dir_not_writable');
  });

  it('holds a cluster of another version, which is left as it was', async () => {
    const dataDir = await usedDataDir();
    await writeFile(path.join(dataDir, 'postgres', 'PG_VERSION'), '17\n');
    const refusal = await refused({ command: 'start', dataDir });
    expect(refusal.code).toBe('data_dir_other_version');
    expect(refusal.message).toMatch(/made by PostgreSQL 17, and this Carillon brings 18/);
    expect(await readFile(path.join(dataDir, 'postgres', 'PG_VERSION'), 'utf8')).toBe('17\n');
  });

  it('holds something else where the cluster should be', async () => {
    const dataDir = path.join(await temporaryDirectory(), 'data');
    await mkdir(path.join(dataDir, 'postgres'), { recursive: true });
    await writeFile(path.join(dataDir, 'postgres', 'notes.txt'), 'mine');
    expect((await refused({ command: 'start', dataDir })).code).toBe('data_dir_not_ours');
    expect(await readdir(path.join(dataDir, 'postgres'))).toEqual(['notes.txt']);
  });

  it('has lost its secrets, or has damaged ones', async () => {
    const dataDir = await usedDataDir();
    const file = path.join(dataDir, 'secrets.json');
    const secrets = await readFile(file, 'utf8');
    await writeFile(file, secrets.slice(0, 40));
    expect((await refused({ command: 'start', dataDir })).code).toBe('secrets_unreadable');
    await writeFile(file, '{"owner_password": "x"}');
    expect((await refused({ command: 'start', dataDir })).code).toBe('secrets_unreadable');
    await unlink(file);
    const refusal = await refused({ command: 'start', dataDir });
    expect(refusal.code).toBe('secrets_missing');
    expect(await readdir(dataDir)).not.toContain('secrets.json');
    await writeFile(file, secrets);
    await (await begin({ command: 'start', dataDir })).stop();
  });

  const mount = (...args: string[]) => spawnSync('mount', args).status === 0;
  it.skipIf(!isRoot || process.platform !== 'linux')('is on a disk that is full', async () => {
    const directory = path.join(await temporaryDirectory(), 'small');
    await mkdir(directory);
    // Enough for the secrets, not for a cluster of 39 MB.
    expect(mount('-t', 'tmpfs', '-o', 'size=20m', 'tmpfs', directory), 'mounting a small disk').toBe(true);
    onTestFinished(() => void spawnSync('umount', [directory]));
    const dataDir = path.join(directory, 'data');
    const refusal = await refused({ command: 'start', dataDir });
    expect(refusal.code).toBe('disk_full');
    expect(refusal.message).toContain(dataDir);
    expect((await readdir(dataDir)).filter((name) => name.startsWith('postgres'))).toEqual([]);
    mount('-o', 'remount,size=300m', directory);
    await (await begin({ command: 'start', dataDir })).stop();
    spawnSync('umount', [directory]);
  });
});

describe('a port', () => {
  it('that was asked for and is taken is an error', async () => {
    const port = await listening();
    const dataDir = await usedDataDir();
    const refusal = await refused({ command: 'start', dataDir, port });
    expect(refusal.code).toBe('port_in_use');
    expect(refusal.message).toContain(String(port));
  });

  it('that was used before and is taken now gives way to another', async () => {
    const dataDir = await usedDataDir();
    const port = await listening();
    await writeFile(path.join(dataDir, 'postgres.port'), String(port));
    const start = await begin({ command: 'start', dataDir });
    const now = new URL(start.ownerUrl).port;
    expect(now).not.toBe(String(port));
    expect(await readFile(path.join(dataDir, 'postgres.port'), 'utf8')).toBe(now);
    await start.stop();
  });

  it('that was asked for and is free is taken', async () => {
    const dataDir = await usedDataDir();
    const before = await begin({ command: 'start', dataDir });
    await before.stop();
    const port = Number(new URL(before.ownerUrl).port);
    const start = await begin({ command: 'start', dataDir, port });
    expect(new URL(start.ownerUrl).port).toBe(String(port));
    await start.stop();
  });
});

describe.skipIf(!hasSetpriv)('as root', () => {
  it('with the few capabilities of a container: through closed directories, and after a kill -9', async () => {
    const dataDir = await usedDataDir();
    const options = { prefix: CONTAINER };
    const before = await begin({ command: 'start', dataDir }, options);
    await before.child.kill();
    expect(isAlive(before.postmaster)).toBe(true);
    const after = await begin({ command: 'start', dataDir }, options);
    expect(after.steps).toContain('stopping_leftover');
    expect(isAlive(before.postmaster)).toBe(false);
    expect(await query(after.ownerUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await after.stop();
  });

  it('with none that leads through closed directories, it says what to do', async () => {
    const dataDir = path.join(await temporaryDirectory(), 'data');
    const refusal = await refused({ command: 'start', dataDir }, { prefix: BOUND });
    expect(refusal.code).toBe('root_without_account');
    expect(refusal.message).toContain('run as an ordinary user');
  });

  it('the server runs as whoever owns the cluster, not as root', async () => {
    const dataDir = await usedDataDir();
    const start = await begin({ command: 'start', dataDir });
    const { uid } = await stat(path.join(dataDir, 'postgres'));
    expect(uid).not.toBe(0);
    expect((await stat(`/proc/${start.postmaster}`)).uid).toBe(uid);
    await start.stop();
  });
});

describe('programs', () => {
  it('for a platform that has none: the way out is named', async () => {
    await expect(findBinaries('sunos', 'sparc')).rejects.toMatchObject({
      code: 'postgres_unsupported_platform',
      message: expect.stringContaining('DATABASE_URL'),
    });
  });

  it('that npm left out', async () => {
    const foreign = process.platform === 'darwin' ? 'linux' : 'darwin';
    await expect(findBinaries(foreign, 'x64')).rejects.toMatchObject({
      code: 'postgres_unusable',
      message: expect.stringContaining('npm ci'),
    });
  });

  it('without the links that npm drops get them again, and run', async () => {
    const { postgres } = await findBinaries();
    const copy = path.join(await temporaryDirectory(), 'package', 'native');
    await cp(path.join(path.dirname(postgres), '..'), copy, { recursive: true, verbatimSymlinks: true });
    const links = JSON.parse(await readFile(path.join(copy, 'pg-symlinks.json'), 'utf8')) as { target: string }[];
    for (const { target } of links) await rm(path.join(copy, '..', target));
    const program = path.join(copy, 'bin', path.basename(postgres));
    const version = () => spawnSync(program, ['--version'], { encoding: 'utf8' });
    const without = version();
    await restoreLinks(copy);
    await restoreLinks(copy);
    expect(version().stdout).toMatch(/PostgreSQL\) 18\./);
    expect(links.length > 0 && process.platform === 'linux' ? without.status : 127).toBe(127);
  });

  it('that are not marked as such are, again', async () => {
    const { initdb, postgres, major } = await findBinaries();
    expect(major).toBe(18);
    for (const program of [initdb, postgres]) expect((await stat(program)).mode & 0o111).toBe(0o111);
  });
});

describe('what a program said last becomes an error that says what to do', () => {
  it.each([
    ['disk_full', 'FATAL:  could not write to file "pg_wal/xlogtemp.42": No space left on device'],
    ['port_in_use', 'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use'],
    ['postgres_unusable', 'initdb: error while loading shared libraries: libicui18n.so.60: cannot open'],
    ['postgres_failed', 'FATAL:  data directory "/x/postgres" has wrong ownership'],
    ['postgres_failed', ''],
  ])('%s: %s', (code, said) => {
    const error = explain('PostgreSQL ended at its start (1)', said, '/x/postgres', 5432);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/\/x\/postgres|5432|libicui18n|it said nothing/);
  });
});
