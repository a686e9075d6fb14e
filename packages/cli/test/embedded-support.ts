import { execFileSync, spawnSync } from 'node:child_process';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Client } from 'pg';
import { onTestFinished } from 'vitest';
import type { Embedded } from '../src/index.ts';
import { type Child, type ChildOptions, startChild } from '../../../test/support/child.ts';
import { until } from '../../../test/support/wait.ts';
import type { EmbeddedOrder } from './embedded-child.ts';

export const isRoot = process.getuid?.() === 0;
/** Ways to take capabilities away from root, so that it meets what an ordinary user or a container meets. */
export const hasSetpriv = isRoot && spawnSync('setpriv', ['--version']).status === 0;
export const withoutCapabilities = (...names: string[]): string[] => {
  const list = names.map((name) => `-${name}`).join(',');
  return ['setpriv', `--bounding-set=${list}`, `--inh-caps=${list}`];
};

export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'carillon-embedded-'));
  onTestFinished(async () => {
    await killServer(path.join(directory, 'data'));
    await chmod(directory, 0o700).catch(() => {});
    await rm(directory, { recursive: true, force: true });
  });
  return directory;
}

let template: string | undefined;

/** A data directory that was started and stopped before: a copy, since making one takes a second. */
export async function usedDataDir(): Promise<string> {
  const dataDir = path.join(await temporaryDirectory(), 'data');
  if (template) {
    // cp keeps owners, which PostgreSQL checks.
    execFileSync('cp', ['-a', template, dataDir]);
    return dataDir;
  }
  const command = await begin({ command: 'start', dataDir });
  await command.stop();
  template = await mkdtemp(path.join(tmpdir(), 'carillon-embedded-template-'));
  execFileSync('cp', ['-a', `${dataDir}/.`, template]);
  return dataDir;
}

export async function removeTemplate(): Promise<void> {
  if (template) await rm(template, { recursive: true, force: true });
}

export interface Running extends Embedded {
  child: Child;
  steps: string[];
  /** The postmaster's process id. */
  postmaster: number;
}

export interface Refused {
  code?: string;
  message: string;
}

/** Gives the order to a new process and reads its answer. */
export async function order(
  command: EmbeddedOrder,
  options?: ChildOptions,
): Promise<Running | (Refused & { child: Child })> {
  const child = startChild(path.join(import.meta.dirname, 'embedded-child.ts'), options);
  onTestFinished(() => child.kill());
  child.send(command);
  const steps: string[] = [];
  for (;;) {
    const line = await child.next<{ step?: string; message?: string } & Embedded>();
    if (line.step !== undefined) steps.push(line.step);
    else if (line.message !== undefined) return { ...(line as Refused), child };
    else {
      const postmaster = await postmasterOf(command.dataDir);
      const stop = async () => {
        child.send({});
        const last = await child.next<{ stopped?: boolean }>();
        if (!last.stopped) throw new Error(`it did not stop: ${JSON.stringify(last)}`);
        await child.ended;
      };
      return { ...line, stop, child, steps, postmaster };
    }
  }
}

export async function begin(command: EmbeddedOrder, options?: ChildOptions): Promise<Running> {
  const answer = await order(command, options);
  if ('code' in answer || 'message' in answer) throw new Error(`${answer.code}: ${answer.message}`);
  return answer as Running;
}

export async function refused(command: EmbeddedOrder, options?: ChildOptions): Promise<Refused> {
  const answer = await order(command, options);
  if ('message' in answer) return answer;
  throw new Error('it was not refused');
}

export async function postmasterOf(dataDir: string): Promise<number> {
  const text = await readFile(path.join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').catch(() => '');
  return Number(text.split('\n')[0]);
}

/** The process and everything below it, from the process table. */
export function treeOf(pid: number): number[] {
  const rows = execFileSync('ps', ['-eo', 'pid=,ppid='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const below = (parent: number): number[] =>
    rows.filter(([, ppid]) => ppid === parent).flatMap(([child = 0]) => [child, ...below(child)]);
  return [pid, ...below(pid)];
}

export function isAlive(pid: number): boolean {
  const state = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' }).stdout.trim();
  return state !== '' && !state.startsWith('Z');
}

export async function killAll(pids: readonly number[]): Promise<void> {
  for (const pid of pids)
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It had ended by itself.
    }
  await until(() => !pids.some(isAlive), { deadline_ms: 10_000, what: 'the killed processes are gone' });
}

async function killServer(dataDir: string): Promise<void> {
  const pid = await postmasterOf(dataDir);
  if (pid > 0 && isAlive(pid) && commandOf(pid).includes('postgres')) await killAll(treeOf(pid));
}

function commandOf(pid: number): string {
  return spawnSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).stdout;
}

export async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}
