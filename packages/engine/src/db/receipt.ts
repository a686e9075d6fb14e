import { randomBytes } from 'node:crypto';
import { systemClock } from '../clock.ts';
import type { Tx } from './database.ts';

/**
 * What a transaction leaves in its own business's rows, to be told by whether it was committed: a connection that breaks
 * between COMMIT and its answer leaves nothing else that could. Drawn once for all tries of one transaction.
 */
export interface Receipt {
  readonly at_us: number;
  /** 53 random bits: the most that a number holds. */
  readonly nonce: number;
}

export function drawReceipt(): Receipt {
  return { at_us: systemClock.wallMs() * 1_000, nonce: Number(randomBytes(8).readBigUInt64BE() >> 11n) };
}

/**
 * A receipt is looked for within seconds (`database_wait_ms`, and what the server takes to end a broken connection). It
 * is kept for a day because the processes that write and remove them go by their own clocks: one that jumps, or that was
 * set to another time zone's, must not remove what another may yet ask for.
 */
const KEPT_US = 24 * 3_600 * 1_000_000;

/**
 * Nobody needs to sweep: each removes more than it adds. What is locked is being removed by somebody else, who is not
 * waited for; nothing else ever locks a receipt.
 */
const LEAVE = `
  WITH old AS MATERIALIZED (
    SELECT at_us, nonce FROM carillon.receipts WHERE business_id = $1 AND at_us < $4
    ORDER BY at_us, nonce LIMIT 10 FOR UPDATE SKIP LOCKED),
  removed AS (
    DELETE FROM carillon.receipts r USING old
    WHERE r.business_id = $1 AND r.at_us = old.at_us AND r.nonce = old.nonce)
  INSERT INTO carillon.receipts (business_id, at_us, nonce) VALUES ($1, $2, $3)
  ON CONFLICT DO NOTHING RETURNING nonce`;

/** Leaves it with what follows, without a round trip of its own. Where it lies already, somebody else has drawn the same. */
export function leaveReceipt(tx: Tx, { at_us, nonce }: Receipt): void {
  tx.send(LEAVE, [tx.business_id, at_us, nonce, at_us - KEPT_US], 1);
}

/**
 * After a COMMIT without an answer: whether it went through. If not, the receipt lies now in this transaction. A backend
 * that is still committing is waited for, by the key.
 */
export async function findReceipt(tx: Tx, { at_us, nonce }: Receipt): Promise<boolean> {
  const left = await tx.query(LEAVE, [tx.business_id, at_us, nonce, at_us - KEPT_US]);
  return left.length === 0;
}
