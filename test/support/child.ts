import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/** A TypeScript file running in a Node process of its own, to which one talks in lines of JSON. */
export interface Child {
  pid: number;
  send(message: object): void;
  /** The next line that it writes; fails when it ends without one. */
  next<T>(): Promise<T>;
  /** SIGKILL by default; returns when it has ended. */
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Its exit code, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals>;
}

export interface ChildOptions {
  /** A program and arguments that start the process in their way: `setpriv …`. */
  prefix?: readonly string[];
  /** In a process group of its own, as a shell gives it to a command. */
  detached?: boolean;
}

export function startChild(file: string, options: ChildOptions = {}): Child {
  const [command = process.execPath, ...args] = [...(options.prefix ?? []), process.execPath, file];
  const child: ChildProcess = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: options.detached ?? false,
  });
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => (errors += chunk));
  // A killed child's pipe breaks under what is still being written.
  child.stdin?.on('error', () => {});
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const ended = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? signal ?? 0));
  });
  return {
    pid: child.pid ?? 0,
    send: (message) => void child.stdin?.write(`${JSON.stringify(message)}\n`),
    async next<T>() {
      const { value, done } = await lines.next();
      if (done) throw new Error(`${file} ended without an answer: ${errors}`);
      return JSON.parse(value) as T;
    },
    async kill(signal = 'SIGKILL') {
      child.kill(signal);
      await ended;
    },
    ended,
  };
}
