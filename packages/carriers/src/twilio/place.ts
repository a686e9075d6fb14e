import type { CarrierCredentials, DialGate, PlaceRequest, PlaceResult } from '@carillon/contract';
import { z } from 'zod';
import { CALL_RESPONSE_BYTES, CALL_TIME_LIMIT_MAX_S, REFUSAL_MESSAGE_CHARS, RING_TIMEOUT_MAX_S } from '../limits.ts';
import { causeOf, isSuccess, parseJson, postRequest, readError, resourceUrl, scrub } from './api.ts';
import { CallId } from './call.ts';
import { type Exchange, exchange } from './exchange.ts';
import { NOT_REFUSALS, REFUSALS } from './refusals.ts';

export interface PlaceLimits {
  connect_timeout_ms: number;
  dial_response_timeout_ms: number;
}

/** Asks for one call, once. What each result promises stands at `PlaceResult`. */
export async function place(request: PlaceRequest, gate: DialGate, limits: PlaceLimits): Promise<PlaceResult> {
  const url = resourceUrl(request.credentials, 'Calls.json');
  if (url === null) return { kind: 'not_dialed', cause: 'base_url_invalid' };
  const outgoing = postRequest(request.credentials, url, createForm(request, url), request.expires_at_ms);
  const result = await exchange(
    outgoing,
    {
      connect_timeout_ms: limits.connect_timeout_ms,
      response_timeout_ms: limits.dial_response_timeout_ms,
      response_bytes: CALL_RESPONSE_BYTES,
    },
    gate,
  );
  return judge(result, request.credentials);
}

/** Exported for the tests: what a create asks for. */
export function createForm(request: PlaceRequest, url: URL): URLSearchParams {
  return new URLSearchParams([
    ['To', request.to],
    ['From', request.from],
    // Not inline TwiML: only a call that asks can be told to hang up.
    ['Url', callbackUrl(request.answer_url, url)],
    ['Method', 'POST'],
    ['StatusCallback', callbackUrl(request.status_url, url)],
    ['StatusCallbackMethod', 'POST'],
    ['StatusCallbackEvent', 'initiated'],
    ['StatusCallbackEvent', 'ringing'],
    ['StatusCallbackEvent', 'answered'],
    ['StatusCallbackEvent', 'completed'],
    ['Timeout', wholeSeconds(request.ring_timeout_ms, RING_TIMEOUT_MAX_S)],
    ['TimeLimit', wholeSeconds(request.call_max_ms, CALL_TIME_LIMIT_MAX_S)],
  ]);
}

/** Asks for five retries of a callback on any failure. Twilio reads the fragment and does not send it. */
export const RETRIES_FRAGMENT = '#rc=5&rp=all';

/** Only for Twilio itself: a compatible carrier may sign or send the fragment as a part of the address. */
function callbackUrl(callback: string, api: URL): string {
  return /(^|\.)twilio\.com$/.test(api.hostname) ? callback + RETRIES_FRAGMENT : callback;
}

/** Rounded down: nobody may still be in a call that counts as over. */
function wholeSeconds(ms: number, max_s: number): string {
  return String(Math.min(max_s, Math.max(1, Math.floor(ms / 1000))));
}

const Created = z.object({ sid: CallId });

function judge(result: Exchange, credentials: CarrierCredentials): PlaceResult {
  if (result.kind === 'held') return { kind: 'not_dialed', cause: causeOf(result) };
  if (result.kind === 'failed') {
    return result.body_sent ? { kind: 'unknown', cause: result.cause } : { kind: 'not_dialed', cause: result.cause };
  }
  return result.body_sent ? judgeAnswer(result, credentials) : judgeEarlyAnswer(result);
}

type Answered = Extract<Exchange, { kind: 'answered' }>;

/** In these a 4xx does not say that nothing happened, unless a known code says so. */
const AMBIGUOUS_STATUSES: ReadonlySet<number> = new Set([408, 409, 425, 429]);

function judgeAnswer(answer: Answered, credentials: CarrierCredentials): PlaceResult {
  const { status, text } = answer;
  if (isSuccess(status)) {
    const created = Created.safeParse(parseJson(text));
    return created.success
      ? { kind: 'accepted', call_id: created.data.sid }
      : { kind: 'unknown', cause: `http_${status}_unreadable` };
  }
  const error = status >= 400 && status <= 499 ? readError(status, text) : null;
  if (error === null || NOT_REFUSALS.has(error.code)) return { kind: 'unknown', cause: causeOf(answer) };
  const known = REFUSALS.get(error.code);
  const code = String(error.code);
  if (known) return { kind: 'rejected', code, class: known.class, message: known.meaning };
  if (AMBIGUOUS_STATUSES.has(status)) return { kind: 'unknown', cause: causeOf(answer) };
  return {
    kind: 'rejected',
    code,
    class: 'unlisted',
    message: scrub(error.message, credentials, REFUSAL_MESSAGE_CHARS),
  };
}

/**
 * An answer to the headers alone. The body never left, so whatever it says there is no call, and the attempt may be
 * made again. Only what headers can be refused for is taken as a refusal, so that wrong credentials stop the lane and
 * are not tried again and again; nothing can be said about a number that the carrier has not seen.
 */
function judgeEarlyAnswer(answer: Answered): PlaceResult {
  const error = answer.status >= 400 && answer.status <= 499 ? readError(answer.status, answer.text) : null;
  const known = error === null ? undefined : REFUSALS.get(error.code);
  if (error === null || known === undefined || known.class === 'contact') {
    return { kind: 'not_dialed', cause: `answered_early_${causeOf(answer)}` };
  }
  return { kind: 'rejected', code: String(error.code), class: known.class, message: known.meaning };
}
