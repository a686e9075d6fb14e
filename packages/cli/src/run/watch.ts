import { setTimeout as pause } from 'node:timers/promises';
import { type BusinessId, isFinalRun, type Run, type RunId } from '@carillon/contract';
import { type Database, getRun, systemClock } from '@carillon/engine';
import { isUnreachable, messageOf } from '../errors.ts';
import type { Output } from '../output.ts';
import { createOutcomeReader, type Split } from './outcomes.ts';
import { createRunView } from './view.ts';

const LOOK_EVERY_MS = 250;
/** Where nothing moves, a line is said this often, if it says something new. */
const LINE_EVERY_MS = 2_000;
const COMPLAIN_EVERY_MS = 5_000;

export interface Watched {
  run: Run;
  split: Split;
}

/**
 * Shows a run until it is final, moving on a terminal and in plain lines elsewhere. Null when `stop` came first. While
 * the database can't be reached it says so and waits; everything else that goes wrong is thrown.
 */
export async function watchRun(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  output: Output,
  stop: AbortSignal,
): Promise<Watched | null> {
  const view = createRunView(output);
  const outcomes = createOutcomeReader(db, business_id, run_id);
  const lines = createLines(output);
  const end = output.display(view.frame);
  let complained_ms = Number.NEGATIVE_INFINITY;
  try {
    while (!stop.aborted) {
      const now_ms = systemClock.monotonicMs();
      try {
        const run = await getRun(db, business_id, run_id);
        const split = await outcomes.read();
        view.observe(run, split, now_ms);
        if (isFinalRun(run.status)) return { run, split };
        lines.offer(view.line(), now_ms);
      } catch (error) {
        if (!isUnreachable(error)) throw error;
        if (now_ms - complained_ms >= COMPLAIN_EVERY_MS) {
          complained_ms = now_ms;
          output.warn(`carillon: waiting for the database: ${messageOf(error)} [database_unavailable]`);
        }
      }
      await pause(LOOK_EVERY_MS, undefined, { signal: stop }).catch(() => {});
    }
    return null;
  } finally {
    end();
  }
}

/** Plain lines, for where a display can't move. */
function createLines(output: Output): { offer(line: string, now_ms: number): void } {
  let said = '';
  let said_ms = Number.NEGATIVE_INFINITY;
  return {
    offer(line, now_ms) {
      if (output.moves || line === said || now_ms - said_ms < LINE_EVERY_MS) return;
      said = line;
      said_ms = now_ms;
      output.say(line);
    },
  };
}
