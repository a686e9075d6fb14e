import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { SimReady } from '../commands/carrier-sim.ts';
import { SIM_PORT } from '../commands/carrier-sim.ts';
import { freePort } from '../embedded/free-port.ts';
import { tryLock } from '../embedded/locks.ts';
import { CliError } from '../errors.ts';
import type { Output } from '../output.ts';
import { isFree } from './ports.ts';

const MAIN = path.join(import.meta.dirname, '../main.ts');
const PORTS_TRIED = 20;
/** A simulator whose Carillon was killed ends by itself, and frees its ledger and its port, within this. */
const PREDECESSOR_GONE_WITHIN_MS = 5_000;
const TRY_EVERY_MS = 100;
const RESTARTS_MAX = 5;
const STOP_WITHIN_MS = 3_000;

export interface Simulator {
  url: string;
  port: number;
  /** Rejects when the simulator has ended and can't be started again; never resolves. */
  failed: Promise<never>;
  stop(): Promise<void>;
}

/** A port outside the range from which systems give them away, if one is free. */
async function choosePort(): Promise<number> {
  for (let port = SIM_PORT; port < SIM_PORT + PORTS_TRIED; port++) if (await isFree(port)) return port;
  return await freePort();
}

/**
 * The simulated carrier, a process of its own with its own memory: it remembers its calls in `ledger`, ends when this
 * process ends, however that is, and is started again should it end before.
 *
 * It listens where it did before (`usual`), or elsewhere if another program does there now: what makes it the same
 * carrier is its ledger, which is never opened while an earlier simulator still has it. Throws AbortError when `stop`
 * came first.
 */
export async function startSimulator(
  usual: number | undefined,
  ledger: string,
  output: Output,
  stop: AbortSignal,
): Promise<Simulator> {
  let restarts = 0;
  let stopping = false;
  const port = await settlePort(usual, ledger, output, stop);
  let child = await startOnce(port, ledger);
  const { promise: failed, reject: fail } = Promise.withResolvers<never>();
  failed.catch(() => {});
  const keepAlive = (running: ChildProcess) => {
    running.once('exit', (code, signal) => {
      if (stopping) return;
      restarts += 1;
      if (restarts > RESTARTS_MAX)
        return fail(
          new CliError('simulator_failed', `The simulated carrier ended ${restarts} times (${signal ?? code})`),
        );
      output.warn(`carillon: the simulated carrier ended (${signal ?? code}); starting it again`);
      startOnce(port, ledger).then((next) => keepAlive((child = next)), fail);
    });
  };
  keepAlive(child);
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    failed,
    async stop() {
      stopping = true;
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.disconnect();
      const late = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
      await ended;
      clearTimeout(late);
    },
  };
}

async function settlePort(
  usual: number | undefined,
  ledger: string,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  const free = async () => isLedgerFree(ledger) && (usual === undefined || (await isFree(usual)));
  for (let waited_ms = 0; waited_ms < PREDECESSOR_GONE_WITHIN_MS && !(await free()); waited_ms += TRY_EVERY_MS)
    await pause(TRY_EVERY_MS, undefined, { signal: stop });
  if (!isLedgerFree(ledger))
    throw new CliError(
      'simulator_still_runs',
      `The simulated carrier of an earlier "carillon start" still runs and has ${ledger}; end it ("carrier-sim" in the list of processes), or choose another data directory with --data`,
    );
  if (usual !== undefined && (await isFree(usual))) return usual;
  const port = await choosePort();
  if (usual !== undefined)
    output.say(`Port ${usual} is in use by another program: the simulated carrier takes ${port}.`);
  return port;
}

function isLedgerFree(ledger: string): boolean {
  const lock = tryLock(path.dirname(ledger), path.basename(ledger), 'exclusive');
  lock?.release();
  return lock !== undefined;
}

async function startOnce(port: number, ledger: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [MAIN, 'carrier-sim', '--port', String(port), '--ledger', ledger], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    // Not in the terminal's group: a Ctrl-C is ours to answer, and may come before the child could refuse to hear it.
    detached: true,
  });
  let said = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-2_000)));
  await new Promise<SimReady>((resolve, reject) => {
    child.once('message', (ready) => resolve(ready as SimReady));
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      const why = said.trim().split('\n').at(-1) || `it ended (${signal ?? code})`;
      reject(
        new CliError('simulator_failed', `The simulated carrier did not start: ${why.replace(/^carillon: /, '')}`),
      );
    });
  });
  return child;
}
