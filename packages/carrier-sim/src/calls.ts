import { US_PER_MS } from './clock.ts';
import type { Clock } from './clock.ts';
import type { BehaviourStore } from './behaviour.ts';
import { callParams, createCallbacks, eventOf } from './callbacks.ts';
import type { CallbackSubject } from './callbacks.ts';
import { createDialQueue } from './dial-queue.ts';
import { createEventsLog } from './events-log.ts';
import type { EventRecord } from './events-log.ts';
import type { Ledger, NewCall } from './ledger.ts';
import type { Unfinished } from './ledger-file.ts';
import { limits } from './limits.ts';
import type { Scheduler } from './scheduler.ts';
import { parseTwiml, playScript, ScriptFailure } from './twiml.ts';
import type { DocumentRequest, Verb } from './twiml.ts';
import { isFinal } from './types.ts';
import type { CallStatus, HttpMethod, LedgerEntry, Plan } from './types.ts';
import type { Webhooks } from './webhook.ts';

/**
 * The life of calls. Each status, who leaves it, and what ends it if nothing else does:
 *
 * | status | leaves by | ends at the latest |
 * |---|---|---|
 * | queued | the dial queue, a cancel | when its turn comes |
 * | initiated, ringing | the plan, a cancel | at the Timeout that the customer sent |
 * | in-progress | the script's end, a hang-up | at the TimeLimit that the customer sent |
 */
export interface Calls {
  /** Creates the call in the ledger, and starts it. */
  place(call: NewCall & { signing_key: string }): LedgerEntry;
  /** Ends a call that nobody has answered yet; false where that is too late. */
  cancel(entry: LedgerEntry): boolean;
  /** Ends a call whatever it is doing; false where it is over already. */
  hangUp(entry: LedgerEntry): boolean;
  /** Gives a call in progress other instructions; false where it is not in progress. */
  redirect(entry: LedgerEntry, instructions: Instructions): boolean;
  /** Takes up a call that was live when the simulator stopped. */
  resume(unfinished: Unfinished): void;
  events(sid: string): readonly EventRecord[];
  live(): LedgerEntry[];
}

export type Instructions = { url: string; method: HttpMethod } | { twiml: string };

interface LiveCall extends CallbackSubject {
  plan: Plan;
  cancelTimer: () => void;
  cancelLimit: () => void;
  /** Raised by each new set of instructions, so that the player of the old ones stops. */
  script: number;
}

/** A fifth of the ringing time, but not more than a tenth of a second, goes by before the far telephone rings. */
function setupMs({ ring_ms }: Plan): number {
  return Math.min(ring_ms / 5, 100);
}

interface Deps {
  ledger: Ledger;
  behaviour: BehaviourStore;
  scheduler: Scheduler;
  webhooks: Webhooks;
  now: Clock;
  seed: number;
}

export function createCalls({ ledger, behaviour, scheduler, webhooks, now, seed }: Deps): Calls {
  const live = new Map<string, LiveCall>();
  const log = createEventsLog(now);
  const callbacks = createCallbacks({ behaviour, scheduler, webhooks, log, now, seed });
  const queue = createDialQueue(scheduler, now, (account) => behaviour.forAccount(account).calls_per_second);
  behaviour.onChange(() => queue.refresh());

  function move(call: LiveCall, status: CallStatus): void {
    const queued = call.entry.status === 'queued';
    ledger.status(call.entry, status);
    if (isFinal(status)) {
      live.delete(call.entry.sid);
      call.cancelTimer();
      call.cancelLimit();
      log.release(call.entry.sid);
    }
    // The carrier never dialled a call that was cancelled in its queue, and says nothing about it.
    if (!(queued && status === 'canceled')) callbacks.fire(call);
  }

  function dial(call: LiveCall): boolean {
    if (call.entry.status !== 'queued') return false;
    move(call, 'initiated');
    setUp(call, 0);
    return true;
  }

  /** `since_ms`: how long it has been in this status, which is more than nothing after a restart. */
  function setUp(call: LiveCall, since_ms: number): void {
    call.cancelTimer = scheduler.after(setupMs(call.plan) - since_ms, () => {
      // A number that can't be reached does not ring.
      if (call.plan.outcome === 'failed') return move(call, 'failed');
      move(call, 'ringing');
      ring(call, 0);
    });
  }

  function ring(call: LiveCall, since_ms: number): void {
    const { outcome, ring_ms } = call.plan;
    const timeout_ms = call.request.timeout_s * 1000;
    const rings_ms = ring_ms - setupMs(call.plan);
    call.cancelTimer = scheduler.after(Math.min(rings_ms, timeout_ms) - since_ms, () => {
      if (rings_ms >= timeout_ms || outcome === 'no_answer') move(call, 'no-answer');
      else if (outcome === 'busy') move(call, 'busy');
      else answer(call);
    });
  }

  function answer(call: LiveCall): void {
    const { request, plan, entry } = call;
    if (request.machine_detection !== null) ledger.answeredBy(entry, detected(plan, request.machine_detection));
    move(call, 'in-progress');
    call.cancelLimit = scheduler.after(request.time_limit_s * 1000, () => move(call, 'completed'));
    callbacks.fireMachineDetection(call);
    if (request.url !== null) play(call, { url: request.url, method: request.method });
    else play(call, { twiml: request.twiml ?? '' });
  }

  /** Plays the script and ends the call with it; a script that fails ends it as the carrier does: said sorry, hung up. */
  function play(call: LiveCall, instructions: Instructions): void {
    call.script += 1;
    const script = call.script;
    const over = () => isFinal(call.entry.status) || call.script !== script;
    const stage = {
      documents: limits.documents_per_call,
      talk_ms: call.plan.talk_ms,
      digits: call.plan.digits,
      over,
      talk: (duration_ms: number) =>
        new Promise<void>((resolve) => {
          call.cancelTimer = scheduler.after(duration_ms, resolve);
        }),
      fetch: (request: DocumentRequest) => fetchDocument(call, request),
    };
    const first = async () =>
      'twiml' in instructions
        ? { verbs: parseTwiml(instructions.twiml), url: '' }
        : { url: instructions.url, method: instructions.method, params: {} };
    first()
      .then((document) => playScript(stage, document))
      .catch((error: unknown) => {
        const { code, message } = error instanceof ScriptFailure ? error : new ScriptFailure(11200, String(error));
        if (!over()) ledger.warn(call.entry, code, message);
      })
      .then(() => {
        if (!over()) move(call, 'completed');
      });
  }

  async function fetchDocument(call: LiveCall, { url, method, params }: DocumentRequest): Promise<Verb[]> {
    const webhook = { url, method, params: { ...callParams(call), ...params }, signing_key: call.signing_key() };
    const result = await webhooks.send(webhook);
    log.add(call.entry.sid, webhook, result);
    if (result.kind !== 'answered') throw new ScriptFailure(11200, `HTTP retrieval failure: ${result.cause}`);
    // Redirects count as failures: nothing that is written to be called back by a carrier answers with one.
    if (result.status < 200 || result.status > 299) {
      throw new ScriptFailure(11200, `HTTP retrieval failure: ${url} answered ${result.status}`);
    }
    if (!/^(text|application)\/(xml|html)\b/.test(result.content_type)) {
      throw new ScriptFailure(12300, `Invalid Content-Type: ${result.content_type || 'none'}`);
    }
    return parseTwiml(result.body);
  }

  function take(call: Unfinished, sequence: number): LiveCall {
    const { entry, request, plan, signing_key } = call;
    const taken: LiveCall = {
      entry,
      request,
      plan,
      // An account's token may be changed while its calls live, and the carrier signs with the one that holds now.
      signing_key: () => behaviour.authToken(entry.account) ?? signing_key,
      callbacks: { sequence, last_send_us: 0, held: [] },
      cancelTimer: () => {},
      cancelLimit: () => {},
      script: 0,
    };
    live.set(call.entry.sid, taken);
    return taken;
  }

  function end(entry: LedgerEntry, from: (status: CallStatus) => boolean): boolean {
    const call = live.get(entry.sid);
    if (!call || !from(entry.status)) return false;
    // `completed` says that somebody answered, whatever the customer asked for.
    move(call, entry.status === 'in-progress' ? 'completed' : 'canceled');
    return true;
  }

  /** Goes on with what was left of each stage. Where the script stood is not known: the person just talks on. */
  function resume(unfinished: Unfinished): void {
    const { entry, plan, request } = unfinished;
    const fired = entry.statuses.map(({ status }) => eventOf(status));
    const asked = fired.filter((event) => event !== undefined && request.events.includes(event));
    const call = take(unfinished, asked.length);
    const since_ms = (now() - (entry.statuses.at(-1)?.at_us ?? 0)) / US_PER_MS;
    if (entry.status === 'queued') queue.add(entry.account, () => dial(call));
    else if (entry.status === 'initiated') setUp(call, since_ms);
    else if (entry.status === 'ringing') ring(call, since_ms);
    else {
      const left_ms = Math.min(plan.talk_ms, request.time_limit_s * 1000) - since_ms;
      call.cancelTimer = scheduler.after(left_ms, () => move(call, 'completed'));
    }
  }

  return {
    place({ signing_key, ...call }) {
      const entry = ledger.create(call);
      const taken = take({ entry, request: call.request, plan: call.plan, signing_key }, 0);
      // In a turn of its own: the answer to the create request shows the call as it was created, not yet dialled.
      taken.cancelTimer = scheduler.after(0, () => queue.add(entry.account, () => dial(taken)));
      return entry;
    },
    cancel: (entry) => end(entry, (status) => status !== 'in-progress'),
    hangUp: (entry) => end(entry, () => true),
    redirect(entry, instructions) {
      const call = live.get(entry.sid);
      if (!call || entry.status !== 'in-progress') return false;
      call.cancelTimer();
      play(call, instructions);
      return true;
    },
    resume,
    events: (sid) => log.of(sid),
    live: () => [...live.values()].map(({ entry }) => entry),
  };
}

function detected(plan: Plan, mode: 'Enable' | 'DetectMessageEnd'): string {
  if (plan.outcome !== 'voicemail') return 'human';
  return mode === 'Enable' ? 'machine_start' : 'machine_end_beep';
}
