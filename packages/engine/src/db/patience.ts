import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { systemClock } from '../clock.ts';

/**
 * How somebody waits for a database that is away for a moment: restarting, failing over, cut off. Whoever has none is
 * told at once: the loops of workers try again by themselves, and a claim must not wait until its calls are too late.
 */
export interface Patience {
  /** From the moment at which it was found to be away. */
  wait_ms: number;
  /** Nobody waits for the answer any more. Asked while waiting; true ends it. */
  isOver(): boolean;
  /** Doing it twice is like doing it once: a transaction whose COMMIT was sent and not answered is run again. */
  repeatable: boolean;
}

const patience = new AsyncLocalStorage<Patience>();

/** Whatever `work` asks of the database, and whatever follows from it, waits with this patience. */
export function withPatience<T>(mine: Patience, work: () => T): T {
  return patience.run(mine, work);
}

/** The connection broke between COMMIT and its answer: nobody can say whether what was asked for has been done. */
export class OutcomeUnknownError extends Error {
  constructor(cause: unknown) {
    super('the connection broke while the transaction was being committed', { cause });
    this.name = 'OutcomeUnknownError';
  }
}

const NO_WAY = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
]);
/** Class 08; a server that shuts down, crashes, starts, or ends idle sessions; one that has no room for a connection. */
const AWAY = /^(08...|57P0[1235]|53300)$/;
/** What the client library says without a code. */
const BROKEN = /^(Connection terminated|Client has encountered a connection error|Client was closed)/;
/** The answer to a statement that did arrive; what it has done is not known. */
const NO_ANSWER = /^Query read timeout/;

/** The server can't be reached or has ended the connection: an error of the way, not of what was asked. */
export function isConnectionLost(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return AWAY.test(error.code ?? '');
  if (!(error instanceof Error)) return false;
  if ('code' in error && typeof error.code === 'string') return NO_WAY.has(error.code);
  return BROKEN.test(error.message);
}

/** What was sent before a failure: of a transaction, whether its COMMIT was. */
export interface Sent {
  decisive: boolean;
}

/** A server that is there and falls over this very work must not be made to again and again. */
const AGAIN_MOST = 5;

/**
 * Does `work` until the database has answered it, as far as the patience in force goes. A connection that broke before
 * anything decisive was sent has done nothing, so `work` is run again.
 *
 * Throws what `work` throws; and OutcomeUnknownError where something decisive was sent that may not be sent again.
 */
export async function patiently<T>(pool: pg.Pool, work: (sent: Sent) => Promise<T>): Promise<T> {
  const mine = patience.getStore();
  if (!mine) return await work({ decisive: false });
  let until_ms: number | undefined;
  let unknown = false;
  for (let tries = 1; ; tries++) {
    const sent: Sent = { decisive: false };
    try {
      return await work(sent);
    } catch (error) {
      unknown ||= sent.decisive && isAnswerLost(error);
      if (unknown && !mine.repeatable) throw new OutcomeUnknownError(error);
      if (!isConnectionLost(error)) throw error;
      until_ms ??= systemClock.monotonicMs() + mine.wait_ms;
      const again = tries <= AGAIN_MOST && (await isBack(pool, mine, until_ms));
      if (!again) throw unknown ? new OutcomeUnknownError(error) : error;
    }
  }
}

function isAnswerLost(error: unknown): boolean {
  return isConnectionLost(error) || (error instanceof Error && NO_ANSWER.test(error.message));
}

/** One look at a database that is away for all who wait for it: it has to come back through no crowd at its door. */
interface Watch {
  waiting: number;
  back: boolean;
}

const watches = new WeakMap<pg.Pool, Watch>();
const LOOK_EVERY_MS = 100;
const ASK_EVERY_MS = 20;

async function isBack(pool: pg.Pool, mine: Patience, until_ms: number): Promise<boolean> {
  const watch = watches.get(pool) ?? startWatch(pool);
  watch.waiting++;
  while (!watch.back && !mine.isOver() && systemClock.monotonicMs() < until_ms) await pause(ASK_EVERY_MS);
  watch.waiting--;
  return watch.back;
}

function startWatch(pool: pg.Pool): Watch {
  const watch: Watch = { waiting: 0, back: false };
  watches.set(pool, watch);
  void look();
  return watch;

  async function look(): Promise<void> {
    do {
      watch.back = await pool.query('SELECT 1').then(
        () => true,
        // Anything else that goes wrong is told to whoever asks next.
        (error: unknown) => !isConnectionLost(error),
      );
      if (!watch.back) await pause(LOOK_EVERY_MS);
    } while (!watch.back && watch.waiting > 0);
    watches.delete(pool);
  }
}
