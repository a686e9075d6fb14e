import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { systemClock } from '../clock.ts';
import type { Receipt } from './receipt.ts';

/**
 * How somebody waits for a database that is away for a moment: restarting, failing over, cut off. Whoever has none is
 * told at once: the loops of workers try again by themselves, and a claim must not wait until its calls are too late.
 */
export interface Patience {
  /** From the moment at which it was found to be away. */
  wait_ms: number;
  /** Nobody waits for the answer any more. Asked while waiting; true ends it. */
  isOver(): boolean;
  /**
   * Each transaction leaves a receipt, so that one whose COMMIT was not answered is done once and no more. Without, it is
   * simply run again: for what only reads, and for what is the same when done twice.
   */
  receipts: boolean;
}

const patience = new AsyncLocalStorage<Patience>();

/** Whatever `work` asks of the database, and whatever follows from it, waits with this patience. */
export function withPatience<T>(mine: Patience, work: () => T): T {
  return patience.run(mine, work);
}

/** The part that writes of something that otherwise only reads: whatever `work` does leaves receipts. */
export function withReceipts<T>(work: () => T): T {
  const mine = patience.getStore();
  return mine ? patience.run({ ...mine, receipts: true }, work) : work();
}

/** Whether what is done now has to leave receipts. */
export function leavesReceipts(): boolean {
  return patience.getStore()?.receipts ?? false;
}

/**
 * The connection broke between COMMIT and its answer, and the database was not back in time to be asked what came of it:
 * nobody can say whether what was asked for has been done.
 */
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

/** One thing asked of the database, through all its tries. */
export interface Asked {
  /** What decides was sent in this try: of a transaction, its COMMIT. */
  decisive: boolean;
  /** It was sent in an earlier one, and its answer was lost: it may have been done. */
  unknown: boolean;
  /** Tells the next try whether it was. */
  readonly receipt: Receipt | null;
}

/** A server that is there and falls over this very work must not be made to again and again. */
const AGAIN_MOST = 5;

/**
 * Does `work` until the database has answered it, as far as the patience in force goes. A connection that broke before
 * anything decisive was sent has done nothing, so `work` is run again. If it broke later, `work` is run again as well,
 * and goes by the receipt: `asked.unknown` stays until it has looked.
 *
 * Throws what `work` throws; and OutcomeUnknownError where nothing has told what came of something decisive.
 */
export async function patiently<T>(pool: pg.Pool, asked: Asked, work: () => Promise<T>): Promise<T> {
  const mine = patience.getStore();
  if (!mine) return await work();
  let until_ms: number | undefined;
  for (let tries = 1; ; tries++) {
    asked.decisive = false;
    try {
      return await work();
    } catch (error) {
      asked.unknown ||= mine.receipts && asked.decisive && isAnswerLost(error);
      let again = isConnectionLost(error) && tries <= AGAIN_MOST && (!asked.unknown || asked.receipt !== null);
      if (again) {
        until_ms ??= systemClock.monotonicMs() + mine.wait_ms;
        again = await isBack(pool, mine, until_ms);
      }
      if (!again) throw asked.unknown ? new OutcomeUnknownError(error) : error;
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
