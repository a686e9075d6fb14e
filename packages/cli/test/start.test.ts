import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createTestDatabase } from '../../../test/support/database.ts';
import { until } from '../../../test/support/wait.ts';
import type { Verdict } from '../src/demo/verdict.ts';
import { connectEmbedded } from '../src/embedded/embedded.ts';
import { tryLock } from '../src/embedded/locks.ts';
import { type Running, start } from './support/cli.ts';

/** Short times: what a kill leaves open is settled in seconds. */
const ENV = {
  CARILLON_LEASE_TTL_MS: '2000',
  CARILLON_DIAL_DEADLINE_MS: '1000',
  CARILLON_CARRIER_EFFECT_DELAY_MS: '2000',
  CARILLON_CARRIER_LISTING_DELAY_MS: '500',
  CARILLON_RECONCILE_MARGIN_MS: '500',
  CARILLON_RECONCILE_EVERY_MS: '300',
  CARILLON_POLL_AFTER_MS: '1000',
};
const TIMEOUT_MS = 120_000;

let dir: string;
let data: string;

beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'carillon-start-'));
  data = path.join(dir, 'data');
});
afterAll(async () => {
  // Whatever a failed test has left running: taking the database over is the way to stop it.
  if (existsSync(path.join(data, 'postgres'))) await (await connectEmbedded({ dataDir: data })).stop();
  await rm(dir, { recursive: true, force: true });
});

/** A list of `leads` people with Hebrew names, two lines of one of them, and one without a number. */
async function listOf(leads: number, prefix: string): Promise<string> {
  const lines = Array.from({ length: leads }, (_, n) => `דנה ${n},0${prefix}-${2_000_000 + n}`);
  const file = path.join(dir, `${prefix}.csv`);
  await writeFile(file, ['שם,טלפון', ...lines, lines[0], 'בלי מספר,', ''].join('\n'));
  return file;
}

function run(file: string, ...args: string[]): Running {
  const running = start(['start', '--data', data, '--leads', file, '--port', '0', ...args], ENV);
  onTestFinished(() => void running.child.kill('SIGKILL'));
  return running;
}

/** The number of the run that is shown, once `finished` of its leads are. */
async function progressOf(running: Running, finished: number): Promise<number> {
  const match = await until(
    () => [...running.said().matchAll(/Run (\d+): (\d+)\//g)].find(([, , done]) => Number(done) >= finished),
    { deadline_ms: 60_000, what: `${finished} leads finished` },
  );
  return Number(match[1]);
}

const postmaster = async () =>
  Number((await readFile(path.join(data, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0]);

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** The process that `parent` has started as `program`. */
async function childOf(parent: number, program: RegExp): Promise<number> {
  const { stdout } = await promisify(execFile)('ps', ['-A', '-ww', '-o', 'pid=,ppid=,args=']);
  const lines = stdout.split('\n').map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line));
  const found = lines.find((line) => Number(line?.[2]) === parent && program.test(line?.[3] ?? ''));
  if (!found) throw new Error(`process ${parent} has no child ${program}`);
  return Number(found[1]);
}

const verdict = (leads: number, run_id: number) => ({
  ok: true,
  lines: leads + 2,
  accepted: leads,
  duplicates: 1,
  rejected: 1,
  run: expect.objectContaining({ run_id, status: 'completed', total_leads: leads, cursor_position: leads }),
  carrier: { calls: leads, numbers: leads },
});

describe('start', () => {
  it(
    '--exit --json runs a file to its end and prints one object; again on the same data it shows the same',
    async () => {
      const file = await listOf(12, '50');
      const first = await run(file, '--exit', '--json').ended;
      expect(first.stderr).toContain('Every lead is accounted for');
      expect(first.json<Verdict>()).toEqual(verdict(12, 1));
      expect(first.code).toBe(0);

      // The content counts, not the name.
      const copy = path.join(dir, 'copy.csv');
      await writeFile(copy, await readFile(file));
      const second = await run(copy, '--exit', '--json').ended;
      expect(second.stderr).toContain('This file was called before');
      expect([second.code, second.json()]).toEqual([0, first.json()]);

      const again = await run(file, '--exit', '--json', '--again').ended;
      expect([again.code, again.json()]).toEqual([0, verdict(12, 2)]);
      const { key } = JSON.parse(await readFile(path.join(data, 'demo.json'), 'utf8')) as { key: string };
      expect(first.stdout + first.stderr).not.toContain(key);
    },
    TIMEOUT_MS,
  );

  it(
    'goes on where it was after a Ctrl-C, which stops everything',
    async () => {
      const file = await listOf(80, '52');
      const stopped = run(file);
      const run_id = await progressOf(stopped, 20);
      const pid = await postmaster();
      const url = /Carrier +(http:\S+)/.exec(stopped.said())?.[1] ?? '';
      stopped.child.kill('SIGINT');
      expect(await stopped.ended).toMatchObject({ code: 0, signal: null, stdout: expect.stringContaining('Stopped.') });
      // Its entry may outlive it for a moment, until whoever inherited it has taken note.
      await until(() => !isAlive(pid), { deadline_ms: 10_000, what: 'the end of the database' });
      await expect(fetch(url)).rejects.toThrow('fetch failed');

      const rest = await run(file, '--exit', '--json').ended;
      expect(rest.stderr).toContain(`Going on with run ${run_id}`);
      expect([rest.code, rest.json()]).toEqual([0, verdict(80, run_id)]);
    },
    TIMEOUT_MS,
  );

  it(
    'goes on where it was after a kill -9 of everything, and calls nobody twice',
    async () => {
      const file = await listOf(80, '54');
      const killed = run(file);
      const run_id = await progressOf(killed, 20);
      const pid = await postmaster();
      const url = /Carrier +(http:\S+)/.exec(killed.said())?.[1] ?? '';
      killed.child.kill('SIGKILL');
      process.kill(pid, 'SIGKILL');
      await killed.ended;
      // The simulated carrier ends with the process that started it.
      await until(
        async () =>
          await fetch(url).then(
            () => false,
            () => true,
          ),
        { deadline_ms: 10_000 },
      );

      const rest = await run(file, '--exit', '--json').ended;
      expect([rest.code, rest.json()], rest.stderr).toEqual([0, verdict(80, run_id)]);
    },
    TIMEOUT_MS,
  );

  it.each([
    ['simulated carrier', '53', /carrier-sim/, 'the simulated carrier ended (SIGKILL); starting it again'],
    ['embedded database', '55', /postgres -D/, 'the embedded database does not answer; starting it again'],
  ])(
    'starts the %s again when that is killed, and still nobody is called twice',
    async (_, prefix, program, said) => {
      const file = await listOf(60, prefix);
      const running = run(file, '--exit', '--json');
      const run_id = await progressOf(running, 10);
      process.kill(await childOf(running.pid, program), 'SIGKILL');
      const ended = await running.ended;
      expect(ended.stderr).toContain(said);
      expect([ended.code, ended.json()], ended.stderr).toEqual([0, verdict(60, run_id)]);
    },
    TIMEOUT_MS,
  );

  it(
    'goes on with its calls when another program has taken the simulated carrier’s port',
    async () => {
      const file = await listOf(80, '57');
      const stopped = run(file);
      const run_id = await progressOf(stopped, 20);
      const url = new URL(/Carrier +(http:\S+)/.exec(stopped.said())?.[1] ?? '');
      stopped.child.kill('SIGINT');
      await stopped.ended;
      let asked = 0;
      const other = net.createServer((socket) => {
        asked += 1;
        socket.on('error', () => {}).end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}');
      });
      onTestFinished(() => void other.close());
      other.listen(Number(url.port), '127.0.0.1');
      await until(() => other.listening, { deadline_ms: 5_000 });

      const rest = await run(file, '--exit', '--json').ended;
      expect(rest.stderr).toMatch(
        new RegExp(`Port ${url.port} is in use by another program: the simulated carrier takes`),
      );
      expect([rest.code, rest.json()], rest.stderr).toEqual([0, verdict(80, run_id)]);
      expect(asked).toBe(0);
    },
    TIMEOUT_MS,
  );

  it(
    'does not open a ledger that an earlier simulated carrier still has',
    async () => {
      const file = await listOf(3, '56');
      const held = tryLock(data, 'carrier-ledger.ndjson', 'exclusive');
      onTestFinished(() => held?.release());
      expect(held).toBeDefined();
      const refused = await run(file, '--exit', '--json').ended;
      expect(refused).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('[simulator_still_runs]') });
      expect(existsSync(path.join(data, 'postgres/postmaster.pid'))).toBe(false);
    },
    TIMEOUT_MS,
  );

  it(
    'takes another port where the usual one is in use, and refuses one that was asked for',
    async () => {
      const holder = net.createServer();
      onTestFinished(() => void holder.close());
      // Should it be taken already, that will do as well.
      holder.on('error', () => {}).listen(8080, '127.0.0.1');
      const file = path.join(dir, '50.csv');
      const elsewhere = start(['start', '--data', path.join(dir, 'data'), '--leads', file, '--exit'], {});
      const ended = await elsewhere.ended;
      expect(ended.stdout).toMatch(/API +http:\/\/127\.0\.0\.1:(?!8080)\d+/);
      expect(ended.code).toBe(0);
      const taken = net.createServer().listen(0, '127.0.0.1');
      onTestFinished(() => void taken.close());
      await until(() => taken.listening, { deadline_ms: 5_000 });
      const { port } = taken.address() as net.AddressInfo;
      const refused = await run(file, '--exit', '--json', '--port', String(port)).ended;
      expect(refused).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('[port_in_use]') });
      expect(existsSync(path.join(data, 'postgres/postmaster.pid'))).toBe(false);
    },
    TIMEOUT_MS,
  );
});

describe('start on a database of the operator’s own', () => {
  it(
    'migrates it, runs the file, and is alone on its data directory',
    async () => {
      const database = await createTestDatabase({ migrated: false });
      onTestFinished(() => database.drop());
      const own = path.join(dir, 'own');
      const file = await listOf(12, '58');
      const env = {
        ...ENV,
        DATABASE_URL: database.appUrl,
        CARILLON_OWNER_DATABASE_URL: database.ownerUrl,
        CARILLON_SECRET: Buffer.alloc(32, 1).toString('base64'),
      };
      const args = ['start', '--data', own, '--leads', file, '--port', '0'];
      const serving = start([...args], env);
      onTestFinished(() => void serving.child.kill('SIGKILL'));
      await until(() => serving.said().includes('Still serving'), { deadline_ms: 60_000, what: 'the run’s end' });
      const second = await start([...args, '--exit', '--json'], env).ended;
      expect(second).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('[data_dir_in_use]') });
      serving.child.kill('SIGTERM');
      expect((await serving.ended).code).toBe(0);
      const third = await start([...args, '--exit', '--json'], env).ended;
      expect([third.code, third.json()], third.stderr).toEqual([0, verdict(12, 1)]);
    },
    TIMEOUT_MS,
  );
});

describe('start, before it starts anything,', () => {
  const refuse = async (args: string[]) => {
    const ended = await start(['start', '--exit', '--json', ...args]).ended;
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(ended.stderr.trim().split('\n')).toHaveLength(1);
    return ended.stderr;
  };

  it('says what is wrong with the file', async () => {
    const fresh = path.join(dir, 'never-made');
    await writeFile(path.join(dir, 'empty.csv'), '');
    expect(await refuse(['--data', fresh, '--leads', path.join(dir, 'nowhere.csv')])).toContain('[file_not_found]');
    expect(await refuse(['--data', fresh, '--leads', dir])).toContain('[file_is_directory]');
    expect(await refuse(['--data', fresh, '--leads', path.join(dir, 'empty.csv')])).toContain('[import_file_empty]');
    expect(existsSync(fresh)).toBe(false);
  });

  it('says what is wrong with the data directory', async () => {
    const file = await listOf(1, '59');
    expect(await refuse(['--data', file, '--leads', file])).toContain('[data_dir_is_file]');
    const strange = path.join(dir, 'strange');
    await mkdir(path.join(strange, 'postgres'), { recursive: true });
    expect(await refuse(['--data', strange, '--leads', file])).toContain('[data_dir_not_ours]');
  });
});
