import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';

/** What a session is to run. */
export interface Task {
  test: string;
  /** Names must contain one of these; none: all tests of the file. */
  titles: readonly string[];
  /** Files of the copy that are not as they were when the session last ran something. */
  changed: readonly string[];
}

/** What came of it. */
export interface TestRun {
  /** The full names of the tests that passed. */
  passed: string[];
  /** The first that failed, with its message; or what failed outside of a test. */
  failed: { name: string; message: string } | null;
  timed_out: boolean;
  took_ms: number;
}

export interface Session {
  /** Runs one file of tests in the copy. One at a time. */
  run(task: Task, limit_ms: number): Promise<TestRun>;
  close(): Promise<void>;
}

/** What is looked at with a million jobs is wrong with these as well, and sooner. */
const PLANS_JOBS = '40000';

interface Running {
  child: ChildProcess;
  /** Rejects when the process ends. */
  ended: Promise<never>;
}

/** A Vitest in the copy at `root`, on the server at `server_url`; started anew when a test hangs. */
export function startSession(root: string, server_url: string): Session {
  const { CI: _, ...env } = process.env;
  let running: Running | null = null;

  async function start(): Promise<Running> {
    const child = fork(path.join(root, 'mutations/session.ts'), {
      cwd: root,
      env: { ...env, NO_COLOR: '1', CARILLON_TEST_SERVER_URL: server_url, CARILLON_PLANS_JOBS: PLANS_JOBS },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      // A group of its own, so that what it started goes with it.
      detached: true,
    });
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`the session ended (${code}); what it said stands above`);
    });
    ended.catch(() => {});
    await Promise.race([once(child, 'message'), ended]);
    return { child, ended };
  }

  return {
    async run(task, limit_ms) {
      running ??= await start();
      const { child, ended } = running;
      const started_ms = performance.now();
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(), limit_ms);
      const answer = once(child, 'message', { signal: late.signal }).then(
        ([result]) => result as Pick<TestRun, 'passed' | 'failed'>,
        () => null,
      );
      child.send(task);
      const result = await Promise.race([answer, ended]).finally(() => clearTimeout(timer));
      if (result === null) {
        killGroup(child);
        running = null;
      }
      const took_ms = performance.now() - started_ms;
      return { passed: [], failed: null, ...result, timed_out: result === null, took_ms };
    },
    async close() {
      if (running === null) return;
      const { child, ended } = running;
      running = null;
      child.disconnect();
      const timer = setTimeout(killGroup, 20_000, child);
      await ended.catch(() => clearTimeout(timer));
    },
  };
}

function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
