import { parse } from 'node:querystring';
import { ApiError } from './errors.ts';
import type { CallEvent, CallRequest, HttpMethod } from './types.ts';

/** A form's fields; one that was sent several times has several values. */
export type Form = Record<string, string | string[] | undefined>;

export function readForm(body: unknown): Form {
  return typeof body === 'string' ? parse(body) : {};
}

/** The last value counts where a field that is single was sent twice. */
export function field(form: Form, name: string): string | undefined {
  const value = form[name];
  return (Array.isArray(value) ? value.at(-1) : value)?.trim();
}

const DEFAULT_RING_S = 60;
const LONGEST_RING_S = 600;
const DEFAULT_TALK_S = 14_400;
const EVENTS: ReadonlySet<string> = new Set(['initiated', 'ringing', 'answered', 'completed']);

/** Reads a create request as the carrier does. Throws ApiError with the carrier's code for what is missing or wrong. */
export function readCallRequest(form: Form): CallRequest {
  const to = readNumber(field(form, 'To'), 21201, 21211);
  const from = readNumber(field(form, 'From'), 21213, 21212);
  const url = readUrl(field(form, 'Url'), 21205);
  const twiml = field(form, 'Twiml') || null;
  if (url === null && twiml === null) throw new ApiError(21205, { message: 'Url parameter is required' });
  return {
    to,
    from,
    url,
    method: readMethod(form, 'Method'),
    twiml: url === null ? twiml : null,
    status_callback: readUrl(field(form, 'StatusCallback'), 21609),
    status_callback_method: readMethod(form, 'StatusCallbackMethod'),
    events: readEvents(form.StatusCallbackEvent),
    timeout_s: readSeconds(form, 'Timeout', DEFAULT_RING_S, LONGEST_RING_S),
    time_limit_s: readSeconds(form, 'TimeLimit', DEFAULT_TALK_S, DEFAULT_TALK_S),
    machine_detection: readMachineDetection(field(form, 'MachineDetection')),
    async_amd_callback:
      field(form, 'AsyncAmd') === 'true' ? readUrl(field(form, 'AsyncAmdStatusCallback'), 21609) : null,
  };
}

/** E.164, with the blanks and dashes that people write taken out; a SIP or client address as it is. */
export function normalNumber(text: string): string {
  return /^(sip|client):/.test(text) ? text : text.replaceAll(/[\s().-]/g, '');
}

function readNumber(text: string | undefined, missing: number, invalid: number): string {
  if (!text) throw new ApiError(missing);
  const number = normalNumber(text);
  if (!/^(\+[1-9]\d{6,14}|(sip|client):.+)$/.test(number)) {
    throw new ApiError(invalid, { message: `The phone number ${text} is not valid: expected E.164, +972501234567` });
  }
  return number;
}

export function readUrl(text: string | undefined, invalid: number): string | null {
  if (!text) return null;
  const url = URL.parse(text);
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return text;
  throw new ApiError(invalid, { message: `${text} is not a valid URL` });
}

export function readMethod(form: Form, name: string): HttpMethod {
  const method = (field(form, name) ?? 'POST').toUpperCase();
  if (method === 'GET' || method === 'POST') return method;
  throw new ApiError(20001, { message: `${name} must be GET or POST` });
}

/** Only the end of the call is told of where nothing else was asked for. Unknown names are only a warning to the carrier. */
function readEvents(value: string | string[] | undefined): CallEvent[] {
  const names = [value ?? 'completed'].flat().flatMap((text) => text.trim().split(/\s+/));
  return names.filter((name): name is CallEvent => EVENTS.has(name));
}

function readSeconds(form: Form, name: string, otherwise: number, longest: number): number {
  const text = field(form, name);
  if (!text) return otherwise;
  if (!/^\d{1,6}$/.test(text)) throw new ApiError(20001, { message: `${name} must be a whole number of seconds` });
  return Math.min(Number(text), longest);
}

function readMachineDetection(text: string | undefined): CallRequest['machine_detection'] {
  if (!text) return null;
  if (text === 'Enable' || text === 'DetectMessageEnd') return text;
  throw new ApiError(20001, { message: 'MachineDetection must be Enable or DetectMessageEnd' });
}
