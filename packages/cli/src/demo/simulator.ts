import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { SimReady } from '../commands/carrier-sim.ts';
import { SIM_PORT } from '../commands/carrier-sim.ts';
import { freePort } from '../embedded/free-port.ts';
import { CliError } from '../errors.ts';
import type { Output } from '../output.ts';
import { isFree } from './ports.ts';

const MAIN = path.join(import.meta.dirname, '../main.ts');
const PORTS_TRIED = 20;
/** A simulator whose Carillon was killed ends by itself, and frees its port, within this. */
const PREDECESSOR_GONE_WITHIN_MS = 5_000;
const TRY_EVERY_MS = 100;
const RESTARTS_MAX = 5;
const STOP_WITHIN_MS = 3_000;

export interface Simulator {
  url: string;
  /** Rejects when the simulator has ended and can't be started again; never resolves. */
  failed: Promise<never>;
  stop(): Promise<void>;
}

/** A port for a simulator that has none yet: outside the range from which systems give away ports, if one is free. */
export async function chooseSimulatorPort(): Promise<number> {
  for (let port = SIM_PORT; port < SIM_PORT + PORTS_TRIED; port++) if (await isFree(port)) return port;
  return await freePort();
}

/**
 * The simulated carrier, a process of its own with its own memory: it remembers its calls in `ledger`, ends when this
 * process ends, however that is, and is started again should it end before.
 */
export async function startSimulator(port: number, ledger: string, output: Output): Promise<Simulator> {
  let restarts = 0;
  let stopping = false;
  let child = await startPatiently(port, ledger);
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
      startPatiently(port, ledger).then((next) => keepAlive((child = next)), fail);
    });
  };
  keepAlive(child);
  return {
    url: `http://127.0.0.1:${port}`,
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

async function startPatiently(port: number, ledger: string): Promise<ChildProcess> {
  for (let waited_ms = 0; ; waited_ms += TRY_EVERY_MS) {
    // Asked before the ledger is opened: two simulators must not write to it at once.
    if (await isFree(port)) return await startOnce(port, ledger);
    if (waited_ms >= PREDECESSOR_GONE_WITHIN_MS)
      throw new CliError(
        'port_in_use',
        `Port ${port}, at which the simulated carrier of this data directory listens, is in use by another program; stop that, or choose another data directory with --data`,
      );
    await pause(TRY_EVERY_MS);
  }
}

async function startOnce(port: number, ledger: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [MAIN, 'carrier-sim', '--port', String(port), '--ledger', ledger], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
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
