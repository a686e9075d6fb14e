import { rfc2822 } from './clock.ts';
import type { Clock } from './clock.ts';
import type { BehaviourStore } from './behaviour.ts';
import type { EventsLog } from './events-log.ts';
import { drawFor, pickRange } from './fate.ts';
import type { Scheduler } from './scheduler.ts';
import type { CallEvent, CallRequest, CallStatus, LedgerEntry } from './types.ts';
import { isFinal, talkedSeconds } from './types.ts';
import type { Webhook, Webhooks } from './webhook.ts';

/** What the callbacks of one call need to know of those before. */
export interface CallbackTrack {
  /** Counts what was asked for and fired, from 0: dropped ones leave a gap, duplicates share a number. */
  sequence: number;
  /**
   * When the last one is sent: without reordering the next is sent no earlier. Both have connections of their own, so
   * that two sent at nearly the same time may still arrive the other way round, as a real carrier's do.
   */
  last_send_us: number;
  /** Held back until a later one has gone. */
  held: Webhook[];
}

export interface CallbackSubject {
  entry: LedgerEntry;
  request: CallRequest;
  signing_key: () => string;
  callbacks: CallbackTrack;
}

export interface Callbacks {
  /** Tells the customer of the status that the call now has, if that was asked for. */
  fire(subject: CallbackSubject): void;
  /** Tells what the machine detection found, where the answer did not wait for it. */
  fireMachineDetection(subject: CallbackSubject): void;
}

const EVENT_OF: Partial<Record<CallStatus, CallEvent>> = {
  initiated: 'initiated',
  ringing: 'ringing',
  'in-progress': 'answered',
};

/** The response that the called network gave, as the carrier passes it on. */
const SIP_RESPONSE: Partial<Record<CallStatus, string>> = {
  completed: '200',
  busy: '486',
  'no-answer': '487',
  canceled: '487',
  failed: '404',
};

export function eventOf(status: CallStatus): CallEvent | undefined {
  return isFinal(status) ? 'completed' : EVENT_OF[status];
}

/** What every request to the customer about a call carries. */
export function callParams({ entry, request }: Pick<CallbackSubject, 'entry' | 'request'>): Record<string, string> {
  const params: Record<string, string> = {
    CallSid: entry.sid,
    AccountSid: entry.account,
    From: entry.from,
    To: entry.to,
    Caller: entry.from,
    Called: entry.to,
    CallStatus: entry.status,
    ApiVersion: '2010-04-01',
    Direction: 'outbound-api',
  };
  // A detection that runs beside the answer is not known yet when the call is answered.
  const detected = request.async_amd_callback === null || isFinal(entry.status);
  if (entry.answered_by !== null && detected) params.AnsweredBy = entry.answered_by;
  return params;
}

/** Between a callback and its duplicate. */
const DUPLICATE_PAUSE_MS = 20;

interface Deps {
  behaviour: BehaviourStore;
  scheduler: Scheduler;
  webhooks: Webhooks;
  log: EventsLog;
  now: Clock;
  seed: number;
}

export function createCallbacks({ behaviour, scheduler, webhooks, log, now, seed }: Deps): Callbacks {
  function send(entry: LedgerEntry, webhook: Webhook): Promise<void> {
    return webhooks.send(webhook).then((result) => log.add(entry.sid, webhook, result));
  }

  /** Sends after the delay, and then what was held back for it. */
  function sendLater({ entry, callbacks }: CallbackSubject, webhook: Webhook, delay_ms: number): void {
    const at_us = now();
    const send_us = Math.max(at_us + delay_ms * 1000, callbacks.last_send_us);
    callbacks.last_send_us = send_us;
    const held = callbacks.held.splice(0);
    scheduler.after((send_us - at_us) / 1000, () => {
      void send(entry, webhook).then(async () => {
        for (const late of held) await send(entry, late);
      });
    });
  }

  function statusParams(subject: CallbackSubject, sequence: number): Record<string, string> {
    const { entry } = subject;
    const params = callParams(subject);
    params.Timestamp = rfc2822(entry.statuses.at(-1)?.at_us ?? entry.created_us);
    params.CallbackSource = 'call-progress-events';
    params.SequenceNumber = String(sequence);
    if (isFinal(entry.status)) {
      const duration_s = talkedSeconds(entry);
      params.CallDuration = String(duration_s);
      // What is billed: minutes begun.
      params.Duration = String(Math.ceil(duration_s / 60));
    }
    const sip = SIP_RESPONSE[entry.status];
    if (sip !== undefined) params.SipResponseCode = sip;
    return params;
  }

  function flush({ entry, callbacks }: CallbackSubject): void {
    for (const webhook of callbacks.held.splice(0)) void send(entry, webhook);
  }

  function fireAsked(subject: CallbackSubject, url: string): void {
    const { entry, request, callbacks } = subject;
    const sequence = callbacks.sequence;
    callbacks.sequence += 1;
    const faults = behaviour.forNumber(entry.account, entry.to).callback;
    const draw = drawFor(seed, entry.to, entry.nth);
    const chance = (what: string) => draw(`callback ${sequence} ${what}`);
    if (chance('drop') < faults.drop) return;
    const webhook: Webhook = {
      url,
      method: request.status_callback_method,
      params: statusParams(subject, sequence),
      signing_key: subject.signing_key(),
    };
    // The last one has none after it that it could wait for.
    if (!isFinal(entry.status) && chance('reorder') < faults.reorder) callbacks.held.push(webhook);
    else sendLater(subject, webhook, pickRange(faults.delay_ms, chance('delay')));
    if (chance('duplicate') < faults.duplicate) {
      const again_ms = DUPLICATE_PAUSE_MS + pickRange(faults.delay_ms, chance('duplicate delay'));
      scheduler.after(again_ms, () => void send(entry, webhook));
    }
  }

  return {
    fire(subject) {
      const { entry, request } = subject;
      const event = eventOf(entry.status);
      if (request.status_callback !== null && event !== undefined && request.events.includes(event)) {
        fireAsked(subject, request.status_callback);
      }
      // Still held where the end itself was dropped, or not to be told.
      if (isFinal(entry.status)) flush(subject);
    },
    fireMachineDetection({ entry, request, signing_key }) {
      if (request.async_amd_callback === null || entry.answered_by === null) return;
      const params = {
        CallSid: entry.sid,
        AccountSid: entry.account,
        AnsweredBy: entry.answered_by,
        MachineDetectionDuration: '0',
      };
      void send(entry, { url: request.async_amd_callback, method: 'POST', params, signing_key: signing_key() });
    },
  };
}
