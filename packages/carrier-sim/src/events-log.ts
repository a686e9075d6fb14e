import { rfc2822 } from './clock.ts';
import type { Clock } from './clock.ts';
import { limits } from './limits.ts';
import type { Webhook, WebhookResult } from './webhook.ts';

/** One request to the customer and its answer, as `Calls/{Sid}/Events.json` shows it. */
export interface EventRecord {
  request: { method: string; url: string; parameters: Record<string, string> };
  response: {
    response_code: number | null;
    request_duration: number;
    content_type: string | null;
    response_body: string;
    date_created: string;
  };
}

/** The webhooks of calls, kept while these live and for some time after; bounded, and gone with the process. */
export interface EventsLog {
  add(sid: string, webhook: Webhook, result: WebhookResult): void;
  of(sid: string): readonly EventRecord[];
  /** The call is over: its webhooks are forgotten after a while. */
  release(sid: string): void;
}

export function createEventsLog(now: Clock): EventsLog {
  // As they were made: many are kept and few are asked for, so they are brought into the API's form only then.
  const records = new Map<string, { webhook: Webhook; result: WebhookResult; at_us: number }[]>();
  /** Calls that are over, in the order in which they ended. */
  const released = new Map<string, number>();

  function forgetOld(): void {
    for (const [sid, at_us] of released) {
      const old = now() - at_us > limits.events_kept_ms * 1000;
      if (!old && released.size <= limits.events_kept_calls) return;
      released.delete(sid);
      records.delete(sid);
    }
  }

  return {
    add(sid, webhook, result) {
      const short =
        result.kind === 'answered' ? { ...result, body: result.body.slice(0, limits.event_body_bytes) } : result;
      const one = { webhook, result: short, at_us: now() };
      const of = records.get(sid);
      if (of) of.push(one);
      else records.set(sid, [one]);
    },
    of: (sid) => (records.get(sid) ?? []).map(({ webhook, result, at_us }) => eventRecord(webhook, result, at_us)),
    release(sid) {
      released.set(sid, now());
      forgetOld();
    },
  };
}

function eventRecord({ url, method, params }: Webhook, result: WebhookResult, at_us: number): EventRecord {
  const answered = result.kind === 'answered' ? result : null;
  return {
    request: { method, url, parameters: snakeCased(params) },
    response: {
      response_code: answered?.status ?? null,
      request_duration: result.duration_ms,
      content_type: answered?.content_type ?? null,
      response_body: answered?.body ?? '',
      date_created: rfc2822(at_us),
    },
  };
}

/** `CallSid` → `call_sid`, as the carrier shows parameters. */
function snakeCased(params: Record<string, string>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(params).map(([name, value]) => [name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '_').toLowerCase(), value]),
  );
}
