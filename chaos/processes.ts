import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import path from 'node:path';
import { TRIAL } from './limits.ts';
import { until } from './wait.ts';

const root = path.dirname(import.meta.dirname);
const MAIN = path.join(root, 'packages/cli/src/main.ts');

/** Everything that a process is told by its environment: nothing of the developer's own comes in. */
export type Environment = Readonly<Record<string, string>>;

const PLAIN: Environment = {
  PATH: `${path.dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`,
  HOME: homedir(),
  TMPDIR: tmpdir(),
};

/** A `carillon` process in a group of its own. */
export interface Running {
  name: string;
  signal(signal: NodeJS.Signals): void;
  /** The first match in what it writes to standard output. Throws when it ends without. */
  says(pattern: RegExp): Promise<RegExpMatchArray>;
  /** It has ended, or is being killed. */
  over(): boolean;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** Exit code, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>;
}

/** Starts processes, and kills what is left of them at the end, also at an end that nobody planned. */
export interface Processes {
  start(name: string, args: readonly string[], env?: Environment): Running;
  killAll(): Promise<void>;
}

export function createProcesses(options: { logs: string; dataDir: string }): Processes {
  const running = new Set<Running>();
  const reaper: ChildProcess = spawn(
    process.execPath,
    [path.join(root, 'test/support/group-reaper.ts'), options.dataDir],
    {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    },
  );
  reaper.unref();
  reaper.stdin?.on('error', () => {});
  const tellReaper = (line: string | number) => void reaper.stdin?.write(`${line}\n`);

  function start(name: string, args: readonly string[], env: Environment = {}): Running {
    // What it has to say goes to its file without a stop here: a full pipe would be a fault that nobody planned.
    const log = openSync(path.join(options.logs, `${name}.log`), 'a');
    const child = spawn(process.execPath, [MAIN, ...args], {
      cwd: root,
      env: { ...PLAIN, ...env },
      stdio: ['ignore', 'pipe', log],
      detached: true,
    });
    closeSync(log);
    const { pid } = child;
    if (pid === undefined) throw new Error(`carillon ${args.join(' ')} could not be started`);
    tellReaper(pid);
    const state = { said: '', over: false, killed: false };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (state.said += text));
    const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        state.over = true;
        running.delete(self);
        tellReaper(-pid);
        resolve(code ?? signal ?? 0);
      });
    });
    const self: Running = {
      name,
      signal: (signal) => signalGroup(pid, signal),
      async says(pattern) {
        const found = await until(() => pattern.exec(state.said) ?? state.over, {
          deadline_ms: TRIAL.process_start_ms,
          what: `${name} says ${pattern}; it said: ${state.said}`,
        });
        if (found === true) throw new Error(`${name} ended without saying ${pattern}; its log is in ${options.logs}`);
        return found;
      },
      over: () => state.over || state.killed,
      async kill() {
        state.killed = true;
        signalGroup(pid, 'SIGKILL');
        await ended;
      },
      ended,
    };
    running.add(self);
    return self;
  }

  return {
    start,
    async killAll() {
      await Promise.all([...running].map((one) => one.kill()));
      tellReaper('done');
      reaper.stdin?.end();
    },
  };
}

function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch (error) {
    // Its last process has ended.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}
