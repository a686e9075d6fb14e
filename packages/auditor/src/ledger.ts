import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { CALLBACK_ROUTE, CallbackPath } from '@carillon/contract';
import { z } from 'zod';

/** A call in the simulated carrier's ledger. */
export interface LedgerCall {
  sid: string;
  account: string;
  to: string;
  from: string;
  created_us: number;
  /** Null: it lives. Undefined: this ledger does not say. */
  ended_us: number | null | undefined;
  /** Whose it is, by the addresses that it was given; null: by none of ours. */
  attempt: CallbackPath | null;
}

/** The ledger can't be read, so nothing can be said by it. */
export class LedgerError extends Error {
  override name = 'LedgerError';
}

const FINAL = ['completed', 'busy', 'no-answer', 'canceled', 'failed'];

/** A line of GET /_sim/ledger. */
const Entry = z.object({
  sid: z.string().min(1),
  account: z.string(),
  to: z.string(),
  from: z.string(),
  created_us: z.number(),
  url: z.string().nullable(),
  status_callback: z.string().nullable(),
  statuses: z.array(z.object({ status: z.string(), at_us: z.number() })),
});
/** A line of the simulator's own file, which tells of a call's creation and of its changes apart. */
const Written = z.object({
  type: z.literal('call'),
  sid: z.string().min(1),
  account: z.string(),
  created_us: z.number(),
  request: Entry.pick({ to: true, from: true, url: true, status_callback: true }),
});
const Other = z.object({ type: z.enum(['ledger', 'token', 'status', 'response', 'answered_by', 'warning']) });
const Line = z.union([Entry, Written, Other]);

/**
 * The simulated carrier's calls in the order in which it accepted them: from its address, from the answer of
 * GET /_sim/ledger in a file, or from the file that it keeps itself. Streamed; may be read several times. Throws
 * LedgerError.
 */
export async function* readLedger(source: string): AsyncGenerator<LedgerCall> {
  let number = 0;
  try {
    for await (const line of createInterface({ input: await open(source), crlfDelay: Number.POSITIVE_INFINITY })) {
      number += 1;
      if (line.trim() === '') continue;
      const call = readLine(line);
      if (call) yield call;
    }
  } catch (error) {
    if (error instanceof LedgerError) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new LedgerError(number === 0 ? why : `line ${number}: ${why}`, { cause: error });
  }
}

const CONNECT_MS = 10_000;

async function open(source: string): Promise<Readable> {
  if (!/^https?:\/\//.test(source)) return createReadStream(source);
  const url = new URL(source);
  if (url.pathname === '/') url.pathname = '/_sim/ledger';
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), CONNECT_MS);
  try {
    const response = await fetch(url, { signal: late.signal });
    if (!response.ok || !response.body) throw new LedgerError(`${url.origin} answers with HTTP ${response.status}`);
    return Readable.fromWeb(response.body);
  } catch (error) {
    if (error instanceof LedgerError) throw error;
    throw new LedgerError(`${url.origin} can't be reached`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

function readLine(text: string): LedgerCall | null {
  const line = Line.safeParse(JSON.parse(text));
  if (!line.success) throw new LedgerError('a line is none of the simulated carrier’s ledger');
  if ('request' in line.data) {
    const { sid, account, created_us, request } = line.data;
    const { to, from } = request;
    return { sid, account, to, from, created_us, ended_us: undefined, attempt: attemptOf(request) };
  }
  if ('type' in line.data) return null;
  const { sid, account, to, from, created_us, statuses } = line.data;
  const ended_us = statuses.find(({ status }) => FINAL.includes(status))?.at_us ?? null;
  return { sid, account, to, from, created_us, ended_us, attempt: attemptOf(line.data) };
}

const NAMES = [...CALLBACK_ROUTE.matchAll(/:(\w+)/g)].map(([, name = '']) => name);

function attemptOf(call: { url: string | null; status_callback: string | null }): CallbackPath | null {
  const parts = URL.parse(call.url ?? call.status_callback ?? '')?.pathname.split('/') ?? [];
  const first = parts.lastIndexOf('carriers') + 1;
  const named = Object.fromEntries(NAMES.map((name, index) => [name, parts[first + index]]));
  return CallbackPath.safeParse(named).data ?? null;
}
