import { type ChildProcess, spawn } from 'node:child_process';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';
import { until } from '../../support/wait.ts';

const root = path.join(import.meta.dirname, '../../..');
const MAIN = path.join(root, 'packages/cli/src/main.ts');

/** What Carillon is told by its environment. Nothing else comes in: neither the developer's settings nor CI's. */
export type Environment = Readonly<Record<string, string>>;

const PLAIN: Environment = {
  PATH: `${path.dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
  HOME: homedir(),
  TMPDIR: tmpdir(),
};

/** A `carillon` command that runs, in a process group of its own. */
export interface Running {
  /** Of the process and of its group. */
  pid: number;
  stdout(): string;
  stderr(): string;
  /** The first match in what it has written to standard output; fails with all its words when it ends without. */
  says(pattern: RegExp, deadline_ms?: number): Promise<RegExpMatchArray>;
  /** To the whole group, as a terminal does it. */
  signal(signal: NodeJS.Signals): void;
  /** SIGKILL for the whole group; returns when its first process has ended. */
  kill(): Promise<void>;
  /** SIGTERM, and its exit code. Fails when it takes longer than `deadline_ms`. */
  stop(deadline_ms?: number): Promise<number | NodeJS.Signals>;
  ended: Promise<number | NodeJS.Signals>;
}

const running = new Set<Running>();
let reaper: ChildProcess | undefined;

/** Kills what a run of the tests leaves behind that is itself killed. */
function reap(group: number): void {
  if (!reaper) {
    reaper = spawn(process.execPath, [path.join(root, 'test/support/group-reaper.ts')], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    reaper.unref();
    reaper.stdin?.on('error', () => {});
  }
  reaper.stdin?.write(`${group}\n`);
}

/** Starts `carillon …args` as a shell would: detached, with an environment that holds nothing but `env`. */
export function startCarillon(args: readonly string[], env: Environment = {}): Running {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: root,
    env: { ...PLAIN, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const { pid } = child;
  if (pid === undefined) throw new Error(`carillon ${args.join(' ')} could not be started`);
  reap(pid);
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  let over = false;
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      over = true;
      resolve(code ?? signal ?? 0);
    });
  });
  const words = () => `carillon ${args.join(' ')}\n${said.stdout}${said.stderr}`;
  const self: Running = {
    pid,
    stdout: () => said.stdout,
    stderr: () => said.stderr,
    async says(pattern, deadline_ms = 20_000) {
      const found = await until(() => pattern.exec(said.stdout) ?? over, {
        deadline_ms,
        what: `${pattern} from ${words()}`,
      });
      if (found === true) throw new Error(`it ended without saying ${pattern}: ${words()}`);
      return found;
    },
    signal: (signal) => signalGroup(pid, signal),
    async kill() {
      signalGroup(pid, 'SIGKILL');
      await ended;
      running.delete(self);
      reaper?.stdin?.write(`-${pid}\n`);
    },
    async stop(deadline_ms = 20_000) {
      signalGroup(pid, 'SIGTERM');
      await until(() => over, { deadline_ms, what: `the end of ${words()}` });
      return await ended;
    },
    ended,
  };
  running.add(self);
  return self;
}

function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch (error) {
    // Its last process has ended.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** Runs a command to its end and returns what it printed; fails with its words when that is not exit code 0. */
export async function carillon(args: readonly string[], env: Environment = {}): Promise<string> {
  const command = startCarillon(args, env);
  const code = await command.ended;
  await command.kill();
  if (code !== 0) throw new Error(`carillon ${args.join(' ')} ended with ${code}: ${command.stderr()}`);
  return command.stdout();
}

/** Ends everything that this test file has started, in whatever state it is. */
export async function killAll(): Promise<void> {
  await Promise.all([...running].map((process) => process.kill()));
}
// Also where a test's own set-up failed half-way.
afterAll(killAll);
