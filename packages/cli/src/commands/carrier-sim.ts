import { statSync } from 'node:fs';
import path from 'node:path';
import { startCarrierSim } from '@carillon/carrier-sim';
import { systemClock } from '@carillon/engine';
import type { CommandContext } from '../context.ts';
import { type FileLock, tryLock } from '../embedded/locks.ts';
import { CliError, messageOf } from '../errors.ts';
import { listenError } from '../installation.ts';
import { aborted, listenForStop } from '../signals.ts';

export const SIM_PORT = 8081;
const HOST = '127.0.0.1';

/** The first thing that a simulator which was started by another process tells that one. */
export interface SimReady {
  url: string;
  port: number;
}

/** The simulated carrier alone, until it is told to stop. */
export async function carrierSimCommand(
  { output }: CommandContext,
  options: { port?: number; ledger?: string; seed?: number },
): Promise<void> {
  const { port = SIM_PORT } = options;
  const stop = process.connected ? untilParentIsGone() : untilSignal();
  const lock = options.ledger ? holdLedger(options.ledger) : undefined;
  const sim = await startCarrierSim({ port, host: HOST, ledgerFile: options.ledger, seed: options.seed }).catch(
    (error: unknown) => {
      const listening = listenError(error, HOST, port, 'choose another with --port');
      if (listening !== error || !options.ledger) throw listening;
      throw new CliError('ledger_unusable', `The ledger ${options.ledger} can't be used: ${messageOf(error)}`, {
        cause: error,
      });
    },
  );
  output.say(`The simulated carrier listens at ${sim.url} (its page shows the live calls)`);
  process.send?.({ url: sim.url, port: sim.port } satisfies SimReady);
  await stop();
  await sim.close();
  lock?.release();
}

/**
 * Until this process ends, however that ends: two simulators that write to one ledger would be two carriers, each of
 * which knows half of the calls.
 */
function holdLedger(ledger: string): FileLock | undefined {
  const file = path.resolve(ledger);
  // What else is wrong with it is said by whoever opens it.
  if (statSync(file, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  try {
    const lock = tryLock(path.dirname(file), path.basename(file), 'exclusive');
    if (lock) return lock;
  } catch (error) {
    throw new CliError('ledger_unusable', `The ledger ${ledger} can't be used: ${messageOf(error)}`, { cause: error });
  }
  throw new CliError('ledger_in_use', `Another simulated carrier writes to ${ledger}; stop that one first`);
}

function untilSignal(): () => Promise<void> {
  const stop = listenForStop(systemClock, () => process.exit(1));
  return async () => await aborted(stop.signal);
}

/**
 * A simulator that "carillon start" has started ends with it, however that ends: the channel between them breaks. A
 * Ctrl-C in their terminal reaches both, and must not end the carrier before the worker has heard how its calls ended.
 */
function untilParentIsGone(): () => Promise<void> {
  const gone = new Promise<void>((resolve) => process.once('disconnect', () => resolve()));
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  return async () => await gone;
}
