import { spawn } from 'node:child_process';
import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Client } from 'pg';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import {
  begin,
  isAlive,
  killAll,
  order,
  query,
  refused,
  removeTemplate,
  temporaryDirectory,
  treeOf,
  usedDataDir,
} from './embedded-support.ts';

afterAll(removeTemplate);
// Servers that really write to disk, on a machine whose disk may be busy.
vi.setConfig({ testTimeout: 180_000 });

const MARK = 'CREATE TABLE IF NOT EXISTS marks (n int); INSERT INTO marks VALUES (1)';
const COUNT = 'SELECT count(*)::int AS marks FROM marks';

describe('the first start', () => {
  it('makes a durable server with the owner, the database and the secrets, and the next start finds them again', async () => {
    const dataDir = path.join(await temporaryDirectory(), 'data');
    const first = await begin({ command: 'start', dataDir });
    expect(first.steps).toEqual(['creating', 'starting', 'ready']);
    const settings =
      'fsync, synchronous_commit, full_page_writes, data_checksums, listen_addresses, unix_socket_directories';
    const rows = await query(
      first.superuserUrl,
      `SELECT string_agg(setting, ',' ORDER BY strpos('${settings}', name)) AS settings,
              current_setting('server_version_num')::int / 10000 AS major
         FROM pg_settings WHERE name = ANY (string_to_array('${settings}', ', '))`,
    );
    expect(rows).toEqual([{ settings: 'on,on,on,on,127.0.0.1,', major: 18 }]);
    const [owner] = await query(
      first.ownerUrl,
      `SELECT r.rolname, rolsuper, rolcreaterole, rolbypassrls, d.datdba = r.oid AS owns
         FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = 'carillon'`,
    );
    expect(owner).toEqual({
      rolname: 'carillon_owner',
      rolsuper: false,
      rolcreaterole: true,
      rolbypassrls: false,
      owns: true,
    });
    const wrong = new URL(first.ownerUrl);
    wrong.password = 'wrong';
    await expect(query(wrong.toString(), 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
    const file = path.join(dataDir, 'secrets.json');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700);
    expect(Buffer.from(first.secret, 'base64')).toHaveLength(32);
    const secrets = await readFile(file, 'utf8');
    await query(first.ownerUrl, MARK);
    await first.stop();
    expect(isAlive(first.postmaster)).toBe(false);

    const second = await begin({ command: 'start', dataDir });
    expect(second.steps).toEqual(['starting', 'ready']);
    expect(await readFile(file, 'utf8')).toBe(secrets);
    expect([second.ownerUrl, second.appUrl, second.secret]).toEqual([first.ownerUrl, first.appUrl, first.secret]);
    expect(await query(second.ownerUrl, COUNT)).toEqual([{ marks: 1 }]);
    await second.stop();
  });

  const made = async (dataDir: string, file: string) => {
    const name = (await readdir(dataDir)).find((entry) => /^postgres(\.new-[0-9a-f]+)?$/.test(entry));
    return name !== undefined && stat(path.join(dataDir, name, file));
  };
  it.each<[string, string | undefined, (dataDir: string) => unknown]>([
    ['before anything is made', 'creating', (dataDir) => stat(path.join(dataDir, 'secrets.json'))],
    ['while initdb works', undefined, (dataDir) => made(dataDir, 'global/pg_control')],
    ['before the server is started', 'starting', (dataDir) => stat(path.join(dataDir, 'postgres'))],
    ['while the server starts', undefined, (dataDir) => made(dataDir, 'postmaster.pid')],
  ])('is made up for when it was killed %s', async (_, hang_at, reached) => {
    const dataDir = path.join(await temporaryDirectory(), 'data');
    const answer = order({ command: 'start', dataDir, hang_at }).catch((error: Error) => error);
    await until(() => reached(dataDir), { deadline_ms: 20_000, every_ms: 2 });
    await killAll([Number(await readFile(path.join(dataDir, 'start.pid'), 'utf8'))]);
    expect(await answer).toBeInstanceOf(Error);
    const again = await begin({ command: 'start', dataDir });
    await query(again.ownerUrl, MARK);
    await again.stop();
    // An initdb that outlived its parent may only now have ended; what it left is removed then.
    const last = await begin({ command: 'start', dataDir });
    expect(await query(last.ownerUrl, COUNT)).toEqual([{ marks: 1 }]);
    await last.stop();
    expect((await readdir(dataDir)).filter((name) => name.includes('.new'))).toEqual([]);
  });

  it('can be asked for by two at once: one gets the directory, the other is told', async () => {
    const dataDir = path.join(await temporaryDirectory(), 'data');
    const answers = await Promise.all([1, 2].map(() => order({ command: 'start', dataDir })));
    expect(answers.map((answer) => ('code' in answer ? answer.code : 'runs')).sort()).toEqual([
      'data_dir_in_use',
      'runs',
    ]);
    for (const answer of answers) if ('stop' in answer) await answer.stop();
  });
});

describe('after a kill -9', () => {
  it('of the whole tree, what was committed is there', async () => {
    const dataDir = await usedDataDir();
    const before = await begin({ command: 'start', dataDir });
    await query(before.ownerUrl, MARK);
    await killAll([before.child.pid, ...treeOf(before.postmaster)]);
    // What an initdb left that outlived the first of all starts, and ended after the next one.
    await mkdir(path.join(dataDir, 'postgres.new-0123456789ab', 'base'), { recursive: true });
    const after = await begin({ command: 'start', dataDir });
    expect(await query(after.ownerUrl, COUNT)).toEqual([{ marks: 1 }]);
    expect(after.ownerUrl).toBe(before.ownerUrl);
    expect((await readdir(dataDir)).filter((name) => name.includes('.new'))).toEqual([]);
    await after.stop();
  });

  it('of Carillon alone, the server that lives on is stopped with all that was open in it, and started anew', async () => {
    const dataDir = await usedDataDir();
    const before = await begin({ command: 'start', dataDir });
    await query(before.ownerUrl, MARK);
    const zombie = new Client({ connectionString: before.ownerUrl });
    zombie.on('error', () => {});
    await zombie.connect();
    await zombie.query('BEGIN; LOCK TABLE marks');
    await before.child.kill();
    expect(isAlive(before.postmaster)).toBe(true);
    const after = await begin({ command: 'start', dataDir });
    expect(after.steps).toEqual(['stopping_leftover', 'starting', 'ready']);
    expect(isAlive(before.postmaster)).toBe(false);
    await expect(zombie.query('SELECT 1')).rejects.toThrow(/terminat|not queryable/i);
    expect(await query(after.ownerUrl, COUNT)).toEqual([{ marks: 1 }]);
    await after.stop();
  });

  it('of Carillon, with a server that is suspended', async () => {
    const dataDir = await usedDataDir();
    const before = await begin({ command: 'start', dataDir });
    process.kill(before.postmaster, 'SIGSTOP');
    await before.child.kill();
    const after = await begin({ command: 'start', dataDir });
    expect(isAlive(before.postmaster)).toBe(false);
    await after.stop();
  });

  it('of Carillon and the postmaster, the start waits for its children that still hold the memory', async () => {
    const dataDir = await usedDataDir();
    const before = await begin({ command: 'start', dataDir });
    await query(before.ownerUrl, MARK);
    const [, worker = 0] = treeOf(before.postmaster);
    process.kill(worker, 'SIGSTOP');
    process.kill(before.postmaster, 'SIGKILL');
    await before.child.kill();
    const starting = begin({ command: 'start', dataDir });
    const log = path.join(dataDir, 'postgres.log');
    await until(async () => (await readFile(log, 'utf8')).includes('pre-existing shared memory block'), {
      deadline_ms: 10_000,
    });
    process.kill(worker, 'SIGCONT');
    const after = await starting;
    expect(await query(after.ownerUrl, COUNT)).toEqual([{ marks: 1 }]);
    await after.stop();
  });

  it('a postmaster.pid with the number of somebody else is not believed, and nobody is harmed', async () => {
    const dataDir = await usedDataDir();
    const before = await begin({ command: 'start', dataDir });
    const file = path.join(dataDir, 'postgres', 'postmaster.pid');
    const pidFile = await readFile(file, 'utf8');
    await killAll([before.child.pid, ...treeOf(before.postmaster)]);
    // PostgreSQL takes any process of its own account for a running server.
    const { uid, gid } = await stat(path.join(dataDir, 'postgres'));
    const stranger = spawn('sleep', ['600'], { uid, gid, cwd: '/', stdio: 'ignore' });
    await writeFile(file, pidFile.replace(/^\d+/, String(stranger.pid)));
    const after = await begin({ command: 'start', dataDir });
    expect(isAlive(stranger.pid ?? 0)).toBe(true);
    await after.stop();
    expect(isAlive(stranger.pid ?? 0)).toBe(true);
    stranger.kill();
  });
});

describe('several commands on one data directory', () => {
  it('a second start is refused with the first one named, until that has ended, however it ends', async () => {
    const dataDir = await usedDataDir();
    const first = await begin({ command: 'start', dataDir });
    const refusal = await refused({ command: 'start', dataDir });
    expect(refusal.code).toBe('data_dir_in_use');
    expect(refusal.message).toContain(`process ${first.child.pid}`);
    expect(refusal.message).toContain(dataDir);
    expect(await query(first.ownerUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await first.child.kill();
    // The file still names a process, and that number may be anybody's by now.
    await writeFile(path.join(dataDir, 'start.pid'), String(process.pid));
    const second = await begin({ command: 'start', dataDir });
    await second.stop();
    const third = await begin({ command: 'start', dataDir });
    await third.stop();
  });

  it('another command uses the server of a start, and leaves it running', async () => {
    const dataDir = await usedDataDir();
    const start = await begin({ command: 'start', dataDir });
    const other = await begin({ command: 'connect', dataDir });
    expect(other.steps).toEqual(['ready']);
    expect(other.ownerUrl).toBe(start.ownerUrl);
    await other.stop();
    expect(await query(start.ownerUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await start.stop();
    expect(isAlive(start.postmaster)).toBe(false);
  });

  it('alone it makes and starts the server and stops it, the last of several', async () => {
    const dataDir = path.join(await temporaryDirectory(), 'data');
    const [one, two] = await Promise.all([1, 2].map(() => begin({ command: 'connect', dataDir })));
    expect(one?.postmaster).toBe(two?.postmaster);
    expect([one, two].map((command) => command?.steps.length).sort()).toEqual([1, 3]);
    await one?.stop();
    expect(await query(two?.ownerUrl ?? '', 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await two?.stop();
    expect(isAlive(two?.postmaster ?? 0)).toBe(false);
  });

  it('a start joins the server of another command and keeps it when that ends, killed or not', async () => {
    const dataDir = await usedDataDir();
    const other = await begin({ command: 'connect', dataDir });
    const start = await begin({ command: 'start', dataDir });
    expect(start.postmaster).toBe(other.postmaster);
    await other.child.kill();
    const third = await begin({ command: 'connect', dataDir });
    expect(third.postmaster).toBe(start.postmaster);
    await third.stop();
    expect(await query(start.ownerUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await start.stop();
    expect(isAlive(start.postmaster)).toBe(false);
  });

  it('a command that outlives the killed start stops the server in the end', async () => {
    const dataDir = await usedDataDir();
    const start = await begin({ command: 'start', dataDir });
    const other = await begin({ command: 'connect', dataDir });
    await start.child.kill();
    expect(await query(other.ownerUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await other.stop();
    expect(isAlive(start.postmaster)).toBe(false);
  });

  it('Ctrl-C in the terminal does not reach the server', async () => {
    const dataDir = await usedDataDir();
    const start = await begin({ command: 'start', dataDir }, { detached: true });
    process.kill(-start.child.pid, 'SIGINT');
    expect(await query(start.ownerUrl, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await start.stop();
    expect(isAlive(start.postmaster)).toBe(false);
    expect(await readFile(path.join(dataDir, 'postgres.log'), 'utf8')).toMatch(/database system is shut down\s*$/);
  });
});
