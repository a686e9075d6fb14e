import { setTimeout as pause } from 'node:timers/promises';
import { type Database, ping } from '@carillon/engine';
import { connectEmbedded, type Embedded } from '../embedded/embedded.ts';
import { CliError, isUnreachable } from '../errors.ts';
import type { Output } from '../output.ts';

const LOOK_EVERY_MS = 1_000;

export interface DatabaseKeeper {
  /** Rejects when the database has ended and can't be started again; never resolves. */
  failed: Promise<never>;
  /** Ends the watch, and gives up what it has started. */
  stop(): Promise<void>;
}

/** Starts the embedded database again when it ends under us (killed, out of memory); everybody else just waits for it. */
export function keepDatabase(db: Database, dataDir: string, app_url: string, output: Output): DatabaseKeeper {
  const { promise: failed, reject: fail } = Promise.withResolvers<never>();
  failed.catch(() => {});
  const end = new AbortController();
  const started: Embedded[] = [];

  async function look(): Promise<void> {
    try {
      await ping(db);
    } catch (error) {
      if (!isUnreachable(error) || end.signal.aborted) return;
      output.warn('carillon: the embedded database does not answer; starting it again [database_unavailable]');
      const again = await connectEmbedded({ dataDir });
      started.push(again);
      if (again.appUrl !== app_url)
        throw new CliError('port_in_use', 'The port of the embedded database was taken meanwhile; start again');
    }
  }

  async function watch(): Promise<void> {
    while (!end.signal.aborted) {
      await pause(LOOK_EVERY_MS, undefined, { signal: end.signal }).catch(() => {});
      if (!end.signal.aborted) await look();
    }
  }

  const watching = watch().catch(fail);
  return {
    failed,
    async stop() {
      end.abort();
      await watching;
      for (const embedded of started) await embedded.stop();
    },
  };
}
