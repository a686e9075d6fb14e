import { type CarrierCall, CarillonError, faultPoint, type HangUpResult } from '@carillon/contract';
import {
  boundCallIds,
  CLOCK_SET_BACK_US,
  type Due,
  type Errand,
  type Evidence,
  expireDialing,
  findDue,
  type OpenAttempt,
  type TakenCall,
  takeTurn,
  takeUnwanted,
  unwantedIsOver,
} from '@carillon/engine';
import type { Account, WorkerContext } from './context.ts';
import { createFirstSeen, type FirstSeen } from './seen.ts';

/** Requests that may be under way to one account at once. */
const ASKED_AT_ONCE = 8;
/**
 * How far the carrier's clock and the database's may differ before a call could be overlooked in the list, and be made a
 * second time for it: a database's clock that was set by an hour, in either direction, and as much again.
 */
const CLOCK_SKEW_MS = 7_200_000;

/** How many times the longest call one may be overdue before it is hung up, and before a person is asked instead. */
const OVERDUE_HANG_UP = 2;
const OVERDUE_REVIEW = 5;

/** What a process remembers between two rounds of tending. */
export interface TendState {
  /** When this process first saw an attempt unknown, by its token, and what else it waits for on its own clock. */
  seen: FirstSeen;
  /** Accounts whose errands are being run: one that doesn't answer must not keep the others waiting. */
  busy: Map<string, Promise<void>>;
}

export function createTendState(): TendState {
  return { seen: createFirstSeen(), busy: new Map() };
}

/**
 * The reapers: tends what nobody else does. Any worker tends any business's attempts, whoever holds their runs; of
 * several that want the same one, the first to take its turn asks the carrier. Returns when the errands are given out,
 * account by account, not when they are done.
 */
export async function tend(context: WorkerContext, state: TendState): Promise<void> {
  state.seen.tidy(context.clock.monotonicMs());
  const due = await findDue(context.db, context.limits);
  await expireDialing(
    context.db,
    due.filter(({ errand }) => errand === 'expire'),
  );
  const errands = due.filter(({ errand }) => errand !== 'expire');
  for (const [account, items] of Map.groupBy(errands, accountOf))
    giveOut(context, state, account, items, async (item) => await run(context, state.seen, item));
  const unwanted = await takeUnwanted(context.db, context.limits);
  for (const [account, calls] of Map.groupBy(unwanted, accountOf))
    giveOut(context, state, `unwanted ${account}`, calls, async (call) => await end(context, state.seen, call));
}

function accountOf(item: { business_id: number; carrier_account_id: number }): string {
  return `${item.business_id}/${item.carrier_account_id}`;
}

function giveOut<T>(
  context: WorkerContext,
  { busy }: TendState,
  name: string,
  items: T[],
  work: (item: T) => Promise<void>,
): void {
  if (busy.has(name)) return;
  const queue = items.values();
  const line = async () => {
    for (const item of queue) if (!context.stopping()) await work(item);
  };
  const lines = Array.from({ length: Math.min(ASKED_AT_ONCE, items.length) }, line);
  const done = Promise.all(lines)
    .catch((error: unknown) => context.log.error({ err: error }, 'tending failed'))
    .then(() => void busy.delete(name));
  busy.set(name, done);
}

async function end(context: WorkerContext, seen: FirstSeen, call: TakenCall): Promise<void> {
  try {
    const account = await context.account(call.business_id, call.carrier_account_id);
    const result = await askToHangUp(account, call.call_id);
    if (result.kind === 'asked') return;
    if (result.kind === 'error') {
      const gone = canNotBeLive(context, seen, account, call);
      const { call_id } = call;
      if (gone) context.log.warn({ cause: result.cause, call_id }, 'an unwanted call is over by its longest; given up');
      else context.log.warn({ cause: result.cause }, 'an unwanted call was not hung up');
      if (!gone) return;
    }
    await unwantedIsOver(context.db, call);
  } catch (error) {
    context.log.error({ err: error }, 'an unwanted call was not hung up');
  }
}

/** Its carrier does not say that it is over; it is known for so long that it must be, by both clocks. */
function canNotBeLive({ limits, clock }: WorkerContext, seen: FirstSeen, account: Account, call: TakenCall): boolean {
  const { listing_delay_ms } = account.driver.capabilities(account.credentials);
  const live_ms = notLiveAfterMs(account, limits.call_max_ms, limits) + listing_delay_ms;
  const now_ms = clock.monotonicMs();
  const waited_ms = now_ms - seen.since_ms(`${accountOf(call)} ${call.call_id}`, now_ms);
  return isPast(call.seen_us, live_ms, call.now_us) && waited_ms > live_ms;
}

async function askToHangUp({ credentials, driver }: Account, call_id: string): Promise<HangUpResult> {
  faultPoint('hang_up', 'before_request');
  const result = await driver.hangUp(credentials, call_id);
  faultPoint('hang_up', 'answered');
  return result;
}

async function run(context: WorkerContext, seen: FirstSeen, due: Due): Promise<void> {
  const turn = await takeTurn(context.db, due, everyMs(context, due.errand));
  if (!turn) return;
  const { attempt, now_us } = turn;
  try {
    const account = await context.account(attempt.business_id, attempt.carrier_account_id);
    const evidence = await learn(context, seen, account, attempt, now_us);
    if (evidence) await context.gatherer.record({ key: attempt, evidence, actor: context.actor });
  } catch (error) {
    const level = error instanceof CarillonError ? 'warn' : 'error';
    context.log[level]({ err: error, run_id: attempt.run_id, seq: attempt.seq }, `${due.errand} failed`);
  }
}

function everyMs({ limits }: WorkerContext, errand: Errand): number {
  if (errand === 'hang_up') return limits.hang_up_every_ms;
  return errand === 'poll' ? limits.poll_after_ms : limits.reconcile_every_ms;
}

async function learn(
  context: WorkerContext,
  seen: FirstSeen,
  account: Account,
  attempt: OpenAttempt,
  now_us: number,
): Promise<Evidence | null> {
  if (attempt.call_id === null) return await reconcile(context, seen, account, attempt, now_us);
  seen.forget(attempt.token);
  if (attempt.hang_up) {
    const result = await askToHangUp(account, attempt.call_id);
    if (result.kind === 'error') context.log.warn({ cause: result.cause }, 'a call was not hung up; trying again');
  }
  return await ask(context, seen, account, attempt, attempt.call_id, now_us);
}

/**
 * Asks for a call whose id is known. One that the carrier can't tell of goes to review once it can't be live any more, by
 * the database's clock, since it was last heard of, and by this process's own, since it first asked in vain after that.
 */
async function ask(
  { limits, clock, log }: WorkerContext,
  seen: FirstSeen,
  account: Account,
  attempt: OpenAttempt,
  call_id: string,
  now_us: number,
): Promise<Evidence | null> {
  const { credentials, driver } = account;
  const { token, heard_us } = attempt;
  faultPoint('fetch_call', 'before_request');
  const result = await driver.fetchCall(credentials, call_id);
  faultPoint('fetch_call', 'answered');
  const placed_us = attempt.placed_us ?? attempt.intent_us;
  const live_ms = notLiveAfterMs(account, attempt.call_max_ms, limits);
  const now_ms = clock.monotonicMs();
  if (result.kind === 'call') {
    if (result.call.phase === 'ended' || !isPast(placed_us, live_ms, now_us))
      return { kind: 'call', call: result.call };
    // Longer than it was allowed to. The database's clock says so, which may have jumped: what follows, our own says.
    const overdue_ms = now_ms - seen.since_ms(`${token} overdue`, now_ms);
    if (overdue_ms > OVERDUE_HANG_UP * live_ms) {
      const ordered = await askToHangUp(account, call_id);
      log.warn({ run_id: attempt.run_id, seq: attempt.seq, ordered }, 'a call is live long after its longest');
    }
    if (overdue_ms <= OVERDUE_REVIEW * live_ms) return { kind: 'call', call: result.call };
    return { kind: 'review', cause: 'the carrier shows the call live long after its longest', heard_us };
  }
  // A call that is accepted may be answered late: whatever is heard of it begins the waiting anew.
  const in_vain_ms = now_ms - seen.since_ms(`${token} in vain since ${heard_us}`, now_ms);
  if (!isPast(Math.max(placed_us, heard_us), live_ms, now_us) || in_vain_ms < live_ms) return null;
  // Accepted, over by its own time limit, and the carrier can't or won't say how: a person decides.
  const cause = result.kind === 'error' ? result.cause : 'the carrier no longer knows the call';
  return { kind: 'review', cause, heard_us };
}

/** By the database's clock, which says nothing where it was set back since. */
function isPast(since_us: number, ms: number, now_us: number): boolean {
  return now_us >= since_us + ms * 1_000 || since_us > now_us + CLOCK_SET_BACK_US;
}

/** From the dial deadline on: after this a call that nobody has seen can't be live. */
function notLiveAfterMs(account: Account, call_max_ms: number, limits: WorkerContext['limits']): number {
  const { ring_timeout_ms, reconcile_margin_ms } = limits;
  return effectDelayMs(account, limits) + ring_timeout_ms + call_max_ms + reconcile_margin_ms;
}

/** As its driver declares it; where it knows none, what is assumed. */
function effectDelayMs({ credentials, driver }: Account, limits: WorkerContext['limits']): number {
  return driver.capabilities(credentials).effect_delay_ms ?? limits.carrier_effect_delay_ms;
}

/**
 * Finds out what became of an attempt whose answer was lost. One unbound call in the carrier's list is it; if it was made
 * at another time, once the list is whole. None means absence only when asked after the dial deadline plus everything that
 * could still be under way, on the database's clock and also on this process's own since it first saw the attempt unknown
 * (the database's clock may jump). Where neither can be shown, a person decides once the call can no longer be live; until
 * then it holds its line. A carrier that can't be asked at that moment is asked on for one more grace: after an outage of
 * hours the first question may well be the one that fails.
 */
async function reconcile(
  context: WorkerContext,
  seen: FirstSeen,
  account: Account,
  attempt: OpenAttempt,
  now_us: number,
): Promise<Evidence | null> {
  const { credentials, driver } = account;
  const { limits, clock } = context;
  const now_ms = clock.monotonicMs();
  const waited_ms = now_ms - seen.since_ms(attempt.token, now_ms);
  const capabilities = driver.capabilities(credentials);
  const grace_ms = effectDelayMs(account, limits) + capabilities.listing_delay_ms + limits.reconcile_margin_ms;
  // Seen unknown, it may still be dialled until its deadline by the clock of whoever claimed it.
  const own_ms = grace_ms + limits.dial_deadline_ms;
  // Where the database's clock was set back since the claim, its deadline says nothing; but this process's own waiting,
  // which began after the claim, is enough by itself.
  const set_back = attempt.intent_us > now_us + CLOCK_SET_BACK_US;
  const past_deadline_ms = set_back ? Number.POSITIVE_INFINITY : (now_us - attempt.deadline_us) / 1_000;
  // By then whatever call there is stands in the list.
  const list_is_whole = past_deadline_ms > grace_ms && waited_ms > own_ms;
  // A call that is bound to another attempt is left out anyway, so the window may be wide.
  const skew_ms = Math.max(limits.reconcile_margin_ms, CLOCK_SKEW_MS);

  faultPoint('find', 'before_request');
  const listed = await driver.find(credentials, {
    to: attempt.to_number,
    from: attempt.from_number,
    created_from_ms: attempt.intent_us / 1_000 - skew_ms,
    created_to_ms: now_us / 1_000 + skew_ms,
  });
  faultPoint('find', 'answered');
  let in_vain_ms = Number.POSITIVE_INFINITY;
  const not_listed = `${attempt.token} not listed`;
  if (listed.kind === 'listed') {
    seen.forget(not_listed);
    const listed_ids = listed.calls.map(({ call_id }) => call_id);
    const bound = await boundCallIds(context.db, attempt, listed_ids);
    const [call, other] = listed.calls.filter(({ call_id }) => !bound.has(call_id));
    // A call that is alone in the list may be a stranger's, while its own is not listed yet. One that was made when this
    // attempt's could be is believed at once, so that it is heard of while it is live; any other when the list is whole:
    // made at another time by a carrier's clock that differs from the database's, it is still likelier its own.
    if (call && !other && (list_is_whole || madeInTime(account, attempt, call, limits)))
      return settled(seen, attempt, { kind: 'call', call });
    const provable = !call && capabilities.effect_delay_ms !== null;
    if (provable && list_is_whole) return settled(seen, attempt, { kind: 'absent' });
    if (other) context.log.error({ run_id: attempt.run_id, seq: attempt.seq }, 'two calls fit one unknown attempt');
  } else {
    in_vain_ms = now_ms - seen.since_ms(not_listed, now_ms);
    context.log.warn({ cause: listed.cause }, 'the carrier did not list its calls');
  }

  const over_ms = Math.max(grace_ms, notLiveAfterMs(account, attempt.call_max_ms, limits));
  if (past_deadline_ms <= over_ms || waited_ms <= over_ms + limits.dial_deadline_ms) return null;
  if (in_vain_ms < grace_ms) return null;
  const cause = attempt.cause ?? 'the carrier’s answer was lost';
  return settled(seen, attempt, { kind: 'review', cause, heard_us: attempt.heard_us });
}

/** Between the intent and the last moment at which its request could take effect, by the carrier's clock. */
function madeInTime(
  account: Account,
  { intent_us, deadline_us }: OpenAttempt,
  { created_at_s }: CarrierCall,
  limits: WorkerContext['limits'],
): boolean {
  if (created_at_s === null) return false;
  const { created_at_resolution_ms } = account.driver.capabilities(account.credentials);
  const margin_ms = limits.reconcile_margin_ms;
  const last_ms = deadline_us / 1_000 + effectDelayMs(account, limits) + margin_ms;
  const made_ms = created_at_s * 1_000;
  return made_ms > intent_us / 1_000 - margin_ms - created_at_resolution_ms && made_ms < last_ms;
}

function settled(seen: FirstSeen, attempt: OpenAttempt, evidence: Evidence): Evidence {
  seen.forget(attempt.token);
  return evidence;
}
