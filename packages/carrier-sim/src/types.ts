import { US_PER_S } from './clock.ts';

/** A call's life. The order is the way of an answered one. */
export type CallStatus =
  | 'queued'
  | 'initiated'
  | 'ringing'
  | 'in-progress'
  | 'completed'
  | 'busy'
  | 'no-answer'
  | 'canceled'
  | 'failed';

const FINAL: ReadonlySet<CallStatus> = new Set<CallStatus>(['completed', 'busy', 'no-answer', 'canceled', 'failed']);

export function isFinal(status: CallStatus): boolean {
  return FINAL.has(status);
}

/** What a customer may ask to be told about; `completed` is any end, answered or not. */
export type CallEvent = 'initiated' | 'ringing' | 'answered' | 'completed';
export type HttpMethod = 'GET' | 'POST';

export type Outcome = 'answered' | 'no_answer' | 'busy' | 'voicemail' | 'failed';

/** What will happen to a call if nobody ends it before. Drawn once, when the call is created. */
export interface Plan {
  outcome: Outcome;
  ring_ms: number;
  talk_ms: number;
  /** Keys that the person presses; empty where nobody does. */
  digits: string;
}

/** The parts of a create request that the call needs while it lives. */
export interface CallRequest {
  to: string;
  from: string;
  url: string | null;
  method: HttpMethod;
  /** Inline instructions, where no `url` was given. */
  twiml: string | null;
  status_callback: string | null;
  status_callback_method: HttpMethod;
  events: CallEvent[];
  /** How long it may ring. */
  timeout_s: number;
  /** How long it may talk. */
  time_limit_s: number;
  machine_detection: 'Enable' | 'DetectMessageEnd' | null;
  /** Where the detection's result goes when the answer does not wait for it. */
  async_amd_callback: string | null;
}

/**
 * What became of the answer to the create request: `lost` means that the call exists and that the customer was never
 * told, `error_page` that it was told nonsense.
 */
export type ResponseFate = 'pending' | 'sent' | 'lost' | 'error_page';

/** One call that the carrier accepted. Entries are never removed, and their past never changes. */
export interface LedgerEntry {
  /** Position in the ledger, from 0, without gaps. */
  index: number;
  sid: string;
  account: string;
  to: string;
  from: string;
  /** The same instant twice: ISO with milliseconds, and microseconds since 1970. */
  created_at: string;
  created_us: number;
  url: string | null;
  status_callback: string | null;
  /** What was drawn for it; a call that was cancelled or hung up ended otherwise. */
  outcome: Outcome;
  /** How manyeth create request of this account for this number it was, from 1. */
  nth: number;
  status: CallStatus;
  /** Every status that it had, with its time. */
  statuses: { status: CallStatus; at_us: number }[];
  response: ResponseFate;
  answered_by: string | null;
  /** Why the customer's instructions could not be followed, with the carrier's debugger code. */
  warning: { code: number; message: string } | null;
}

/** Whole seconds from answer to end, the last one begun counted as one; 0 where nobody answered. */
export function talkedSeconds(entry: Pick<LedgerEntry, 'statuses'>): number {
  const answered_us = entry.statuses.find(({ status }) => status === 'in-progress')?.at_us;
  const ended_us = entry.statuses.at(-1)?.at_us;
  if (answered_us === undefined || ended_us === undefined) return 0;
  return Math.max(0, Math.ceil((ended_us - answered_us) / US_PER_S));
}
