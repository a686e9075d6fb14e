import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';
import { until } from '../../../test/support/wait.ts';
import { headIsHere, httpAnswer, isComplete, startWire, type Wire } from './support/wire.ts';

/** A process that is stopped (SIGSTOP) or killed between the headers and the body leaves an unfinished request. */

const script = fileURLToPath(new URL('./support/dial-and-wait.ts', import.meta.url));
let wire: Wire;
let child: ChildProcess;
afterEach(async () => {
  child.kill('SIGKILL');
  await wire.close();
});

async function startDialing(deadline_ms: number) {
  wire = await startWire(
    (connection) => isComplete(connection) && connection.socket.write(httpAnswer(201, '{"sid":"CA1"}')),
  );
  child = spawn(process.execPath, [script, wire.base_url, String(deadline_ms)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  expect((await lines.next()).value).toBe('ready');
  const connection = await wire.connection(0, headIsHere);
  return { connection, result: async () => JSON.parse((await lines.next()).value ?? 'null') };
}

test('killed: the headers are all that ever came', async () => {
  const { connection } = await startDialing(60_000);
  child.kill('SIGKILL');
  await connection.closed;
  expect(connection.body()).toBe('');
});

test.skipIf(process.platform === 'win32')('stopped beyond its deadline and woken: the body never leaves', async () => {
  const deadline_ms = 1_000;
  const { connection, result } = await startDialing(deadline_ms);
  // The process began to count before this.
  const started = performance.now();
  child.kill('SIGSTOP');
  // Its turn comes while it is stopped; a stopped process does nothing with it.
  child.stdin!.write('go\n');
  await until(() => performance.now() - started > deadline_ms, { deadline_ms: 10_000, what: 'its deadline' });
  expect(connection.body()).toBe('');
  child.kill('SIGCONT');
  expect(await result()).toEqual({ kind: 'not_dialed', cause: 'deadline_passed' });
  await connection.closed;
  expect(connection.body()).toBe('');
});

test.skipIf(process.platform === 'win32')('stopped and woken in time: the body leaves late, and once', async () => {
  const { connection, result } = await startDialing(60_000);
  child.kill('SIGSTOP');
  child.stdin!.write('go\n');
  child.kill('SIGCONT');
  expect(await result()).toEqual({ kind: 'accepted', call_id: 'CA1' });
  expect(isComplete(connection)).toBe(true);
});
