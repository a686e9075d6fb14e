import { closeSync, existsSync, mkdirSync, openSync, readSync, truncateSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { CallRequest, LedgerEntry, Plan } from './types.ts';

/**
 * The ledger on disk: one JSON object per line, only ever appended. A line is written, in full, before what it tells
 * of is shown to anybody, so that a ledger whose process was killed knows of every call that a customer may know of.
 * (Written, not flushed to the disk: it outlives the process, not the machine's power.)
 */

const status = z.enum([
  'queued',
  'initiated',
  'ringing',
  'in-progress',
  'completed',
  'busy',
  'no-answer',
  'canceled',
  'failed',
]);
const outcome = z.enum(['answered', 'no_answer', 'busy', 'voicemail', 'failed']);
const method = z.enum(['GET', 'POST']);

const request: z.ZodType<CallRequest> = z.object({
  to: z.string(),
  from: z.string(),
  url: z.string().nullable(),
  method,
  twiml: z.string().nullable(),
  status_callback: z.string().nullable(),
  status_callback_method: method,
  events: z.array(z.enum(['initiated', 'ringing', 'answered', 'completed'])),
  timeout_s: z.number(),
  time_limit_s: z.number(),
  machine_detection: z.enum(['Enable', 'DetectMessageEnd']).nullable(),
  async_amd_callback: z.string().nullable(),
});
const plan: z.ZodType<Plan> = z.object({ outcome, ring_ms: z.number(), talk_ms: z.number(), digits: z.string() });

const line = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ledger'), version: z.literal(1) }),
  z.object({ type: z.literal('token'), account: z.string(), auth_token: z.string() }),
  z.object({
    type: z.literal('call'),
    index: z.int(),
    sid: z.string(),
    account: z.string(),
    created_us: z.int(),
    nth: z.int(),
    request,
    plan,
  }),
  z.object({ type: z.literal('status'), sid: z.string(), status, at_us: z.int() }),
  z.object({ type: z.literal('response'), sid: z.string(), response: z.enum(['sent', 'lost', 'error_page']) }),
  z.object({ type: z.literal('answered_by'), sid: z.string(), answered_by: z.string() }),
  z.object({ type: z.literal('warning'), sid: z.string(), code: z.int(), message: z.string() }),
]);
export type LedgerLine = z.output<typeof line>;

export interface LedgerFile {
  append(entry: LedgerLine): void;
  close(): void;
}

/** The ledger of a simulator without a file. */
export const noFile: LedgerFile = { append() {}, close() {} };

const NEWLINE = 0x0a;
const PIECE_BYTES = 1 << 20;

/**
 * Opens or creates the file, handing each line that it holds to `restore`. A last line that a kill cut short is
 * dropped. Throws when another line can't be read: a ledger with a hole in it proves nothing.
 */
export function openLedgerFile(path: string, restore: (entry: LedgerLine) => void): LedgerFile {
  mkdirSync(dirname(path), { recursive: true });
  const old = existsSync(path) ? readLines(path, restore) : 0;
  // It holds the accounts' tokens, without which live calls could not be told of after a restart.
  const file = openSync(path, 'a', 0o600);
  let closed = false;

  function append(entry: LedgerLine): void {
    if (closed) return;
    const bytes = Buffer.from(`${JSON.stringify(entry)}\n`);
    for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
  }

  if (old === 0) append({ type: 'ledger', version: 1 });
  return {
    append,
    close() {
      if (!closed) closeSync(file);
      closed = true;
    },
  };
}

/** Returns the number of whole lines. Reads piece by piece: a ledger may be larger than what one string can hold. */
function readLines(path: string, restore: (entry: LedgerLine) => void): number {
  const file = openSync(path, 'r');
  const piece = Buffer.alloc(PIECE_BYTES);
  let rest = Buffer.alloc(0);
  let whole_bytes = 0;
  let lines = 0;
  try {
    for (let got = readSync(file, piece); got > 0; got = readSync(file, piece)) {
      const bytes = Buffer.concat([rest, piece.subarray(0, got)]);
      let from = 0;
      for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, from)) {
        lines += 1;
        restore(readLine(bytes.toString('utf8', from, end), path, lines));
        from = end + 1;
      }
      whole_bytes += from;
      rest = bytes.subarray(from);
    }
  } finally {
    closeSync(file);
  }
  if (rest.length > 0) truncateSync(path, whole_bytes);
  return lines;
}

function readLine(text: string, path: string, number: number): LedgerLine {
  let parsed: LedgerLine;
  try {
    parsed = line.parse(JSON.parse(text));
  } catch {
    throw new Error(
      `${path} is no ledger of the simulated carrier: line ${number} can't be read. Give another file with --ledger`,
    );
  }
  if ((parsed.type === 'ledger') !== (number === 1)) {
    throw new Error(`${path} is no ledger of the simulated carrier: its first line must say so, and only that one`);
  }
  return parsed;
}

/** What a restart finds of a call that was still live. */
export interface Unfinished {
  entry: LedgerEntry;
  request: CallRequest;
  plan: Plan;
  signing_key: string;
}
