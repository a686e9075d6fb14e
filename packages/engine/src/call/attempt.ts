import type { Actor } from '../actor.ts';
import type { AttemptState, BusinessId, CarrierCall, Outcome, RefusalClass, RunId, Seq } from '@carillon/contract';

/** The whole key of an attempt and its token, as callback URLs carry it: an event finds its row by primary key. */
export interface AttemptKey {
  business_id: BusinessId;
  run_id: RunId;
  seq: Seq;
  attempt_no: number;
  token: string;
}

/** A row of open_attempts. Times in microseconds of the database's clock. */
export interface OpenAttempt extends AttemptKey {
  revision: number;
  carrier_account_id: number;
  lead_id: number;
  state: AttemptState;
  worker_id: string;
  lease_epoch: number;
  control_epoch: number;
  from_number: string;
  to_number: string;
  intent_us: number;
  deadline_us: number;
  call_max_ms: number;
  call_id: string | null;
  placed_us: number | null;
  ringing_us: number | null;
  answered_us: number | null;
  unknown_us: number | null;
  cause: string | null;
  heard_us: number;
  asked_us: number;
  hang_up: 'run' | 'job' | null;
}

/**
 * Something that is known about an attempt. Fenced by the attempt's token alone and welcome from whoever has it, also
 * from a worker that has lost the run: throwing away a call id is how calls get lost.
 */
export type Evidence =
  | { kind: 'accepted'; call_id: string }
  | { kind: 'rejected'; code: string; class: RefusalClass }
  | { kind: 'not_dialed'; cause: string; unreachable: boolean }
  | { kind: 'unknown'; cause: string }
  | { kind: 'call'; call: CarrierCall }
  /** Asked in time and with every page read: the carrier has no such call. */
  | { kind: 'absent' }
  /**
   * Neither found nor proven absent, or its end can't be learned; and the call can no longer be live. Judged by an attempt
   * of which nothing had been heard since `heard_us`.
   */
  | { kind: 'review'; cause: string; heard_us: number };

export interface EvidenceItem {
  key: AttemptKey;
  evidence: Evidence;
  /** Who brings it: in the trail, if this is what ends the run. */
  actor: Actor;
}

/**
 * What became of a piece of evidence:
 * - `applied`, or `nothing` new in it;
 * - `unwanted`: it shows a call that nobody wants; the intent to hang it up is recorded;
 * - `unknown_attempt`: the database knows no such attempt. With a valid signature that means lost data.
 */
export type Recorded = 'applied' | 'nothing' | 'unwanted' | 'unknown_attempt';

/** How an attempt ended, and what that means for its job and its lane. */
export interface Closing {
  outcome: Outcome;
  cause: string | null;
  duration_s: number | null;
  /**
   * - `settle`: a call took place, or this number can't be called; the retry policy decides.
   * - `pool`: certainly no call; the same lead is called again without counting as a retry.
   * - `review`: nobody can say.
   */
  next: 'settle' | 'pool' | 'review';
  /** The account or the way to it was refused: the lane pauses. */
  lane_refused: boolean;
  /** What the carrier's refusal speaks of, where it refused. */
  refusal?: RefusalClass;
}

/**
 * What a piece of evidence makes of an open attempt: nothing new, a changed row, the end, or a second call under one
 * token, which nobody asked for and which must be hung up.
 */
export type Verdict =
  | { kind: 'nothing' }
  | { kind: 'changed'; attempt: OpenAttempt }
  | { kind: 'closed'; attempt: OpenAttempt; closing: Closing }
  | { kind: 'second_call'; call_id: string };

/** The cause of an attempt whose dialler never said what became of it: it died, or could not say it. */
export const NOBODY_SAID = 'no answer was recorded before the dial deadline';
/** The cause of an attempt that failed in our own code. */
export const OWN_ERROR = 'an error of ours';

const PROGRESS: Record<AttemptState, number> = { dialing: 0, unknown: 0, placed: 1, ringing: 2, in_call: 3 };

/**
 * Applies evidence in whatever order it arrives: an attempt only moves forward, so late and repeated evidence changes
 * nothing.
 */
export function applyEvidence(attempt: OpenAttempt, evidence: Evidence, now_us: number): Verdict {
  switch (evidence.kind) {
    case 'accepted':
      return attempt.call_id === evidence.call_id
        ? { kind: 'nothing' }
        : advance(attempt, { call_id: evidence.call_id, state: 'placed' }, now_us);
    case 'call':
      return applyCall(attempt, evidence.call, now_us);
    case 'unknown':
      if (attempt.state === 'dialing')
        return {
          kind: 'changed',
          attempt: { ...attempt, state: 'unknown', unknown_us: now_us, cause: evidence.cause },
        };
      // The reaper was quicker than a dialler that lives: what it says is the better cause.
      return attempt.state === 'unknown' && attempt.cause === NOBODY_SAID
        ? { kind: 'changed', attempt: { ...attempt, cause: evidence.cause } }
        : { kind: 'nothing' };
    case 'rejected':
      return close(attempt, {
        outcome: 'rejected',
        cause: evidence.code,
        next: evidence.class === 'contact' || evidence.class === 'unlisted' ? 'settle' : 'pool',
        lane_refused: evidence.class === 'again' || evidence.class === 'lane',
        refusal: evidence.class,
      });
    case 'not_dialed':
      return close(attempt, {
        outcome: 'not_dialed',
        cause: evidence.cause,
        next: 'pool',
        lane_refused: evidence.unreachable,
      });
    case 'absent':
      if (attempt.state !== 'unknown') return { kind: 'nothing' };
      return close(attempt, { outcome: 'absent', cause: attempt.cause, next: 'pool', lane_refused: false });
    case 'review':
      // Something was heard while the carrier was asked: the call may be live, and its line is not free.
      if (attempt.heard_us !== evidence.heard_us) return { kind: 'nothing' };
      return {
        kind: 'closed',
        attempt,
        closing: { outcome: 'unknown', cause: evidence.cause, duration_s: null, next: 'review', lane_refused: false },
      };
  }
}

/** No call exists, or nobody can say: only believed while no call id is known. */
function close(attempt: OpenAttempt, closing: Omit<Closing, 'duration_s'>): Verdict {
  if (attempt.call_id !== null) return { kind: 'nothing' };
  return { kind: 'closed', attempt, closing: { ...closing, duration_s: null } };
}

function applyCall(attempt: OpenAttempt, call: CarrierCall, now_us: number): Verdict {
  if (attempt.call_id !== null && attempt.call_id !== call.call_id)
    return { kind: 'second_call', call_id: call.call_id };
  if (call.phase !== 'ended') {
    const state = call.phase === 'queued' ? 'placed' : call.phase;
    return advance(attempt, { call_id: call.call_id, state }, now_us);
  }
  const latest = { ...attempt, call_id: call.call_id, placed_us: attempt.placed_us ?? now_us };
  return {
    kind: 'closed',
    attempt: latest,
    closing: {
      outcome: call.outcome ?? 'failed',
      cause: call.cause,
      duration_s: call.duration_s,
      next: 'settle',
      lane_refused: false,
    },
  };
}

function advance(attempt: OpenAttempt, to: { call_id: string; state: AttemptState }, now_us: number): Verdict {
  if (attempt.call_id !== null && attempt.call_id !== to.call_id) return { kind: 'second_call', call_id: to.call_id };
  const forward = PROGRESS[to.state] > PROGRESS[attempt.state];
  return {
    kind: 'changed',
    attempt: {
      ...attempt,
      call_id: to.call_id,
      state: forward ? to.state : attempt.state,
      placed_us: attempt.placed_us ?? now_us,
      ringing_us: attempt.ringing_us ?? (to.state === 'ringing' ? now_us : null),
      answered_us: attempt.answered_us ?? (to.state === 'in_call' ? now_us : null),
      heard_us: now_us,
    },
  };
}
