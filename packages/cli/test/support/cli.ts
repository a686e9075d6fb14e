import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { Writable } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import type { Environment } from '../../src/config.ts';
import type { Stream } from '../../src/output.ts';
import { runProgram } from '../../src/program.ts';

/** A stream that keeps what is written to it. */
export function collector(terminal?: { columns: number }): Stream & { text(): string } {
  let text = '';
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      text += chunk;
      done();
    },
  });
  return Object.assign(stream, { text: () => text, ...(terminal && { isTTY: true, ...terminal }) });
}

export interface Answered {
  code: number;
  stdout: string;
  stderr: string;
  /** Standard output, which is one JSON object and nothing else. */
  json<T = Record<string, unknown>>(): T;
}

/** Runs a command in this process, with no environment but the one given. */
export async function carillon(args: readonly string[], env: Environment = {}): Promise<Answered> {
  const [stdout, stderr] = [collector(), collector()];
  const code = await runProgram(args, { stdout, stderr, env });
  return answered(code, stdout.text(), stderr.text());
}

function answered(code: number, stdout: string, stderr: string): Answered {
  return {
    code,
    stdout,
    stderr,
    json<T>() {
      const lines = stdout.split('\n');
      if (lines.length !== 2 || lines[1] !== '') throw new Error(`not one line: ${stdout}\n${stderr}`);
      return JSON.parse(stdout) as T;
    },
  };
}

const MAIN = path.join(import.meta.dirname, '../../src/main.ts');

export interface Running {
  child: ChildProcess;
  pid: number;
  /** What both streams have said so far, without colours. */
  said(): string;
  ended: Promise<Answered & { signal: NodeJS.Signals | null }>;
}

/** Starts a command in a process of its own. */
export function start(args: readonly string[], env: Environment = {}): Running {
  const programs = [path.dirname(process.execPath), '/usr/local/bin', '/usr/bin', '/bin', '/usr/sbin', '/sbin'];
  const child = spawn(process.execPath, [MAIN, ...args], {
    env: { PATH: programs.join(path.delimiter), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
  const ended = new Promise<Answered & { signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve({ ...answered(code ?? -1, said.stdout, said.stderr), signal });
    });
  });
  return {
    child,
    pid: child.pid ?? 0,
    said: () => stripVTControlCharacters(said.stdout + said.stderr),
    ended,
  };
}
