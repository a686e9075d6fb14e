import type { CarrierCredentials } from '@carillon/contract';
import { z } from 'zod';
import { wallMs } from '../clock.ts';
import { ASK_EXPIRES_AFTER_MS } from '../limits.ts';
import { type SignedRequest, validationToken } from './client-validation.ts';
import type { Exchange, Outgoing } from './exchange.ts';

/** Addresses, requests and answers of the REST API 2010-04-01, as Twilio and its compatibles speak it. */

/**
 * The address of a resource under the account, such as `Calls.json`. Null when the base URL can't be used: it must be
 * http or https, and may have a path before the API's own.
 */
export function resourceUrl(credentials: CarrierCredentials, resource: string): URL | null {
  const base = URL.parse(credentials.base_url);
  if (base === null || !/^https?:$/.test(base.protocol)) return null;
  const prefix = base.pathname.replace(/\/+$/, '');
  return new URL(
    `${prefix}/2010-04-01/Accounts/${encodeURIComponent(credentials.account_sid)}/${resource}`,
    base.origin,
  );
}

export function callResource(call_id: string): string {
  return `Calls/${encodeURIComponent(call_id)}.json`;
}

export function getRequest(credentials: CarrierCredentials, url: URL): Outgoing {
  return withValidation(credentials, { method: 'GET', url, authorization: basic(credentials), body: null });
}

/** `expires_at_ms`: for what must not be done late, where the account signs its requests. */
export function postRequest(
  credentials: CarrierCredentials,
  url: URL,
  form: URLSearchParams,
  expires_at_ms?: number,
): Outgoing {
  const request = { method: 'POST', url, authorization: basic(credentials), body: form.toString() } as const;
  return withValidation(credentials, request, expires_at_ms);
}

function withValidation(
  credentials: CarrierCredentials,
  request: SignedRequest,
  expires_at_ms = wallMs() + ASK_EXPIRES_AFTER_MS,
): Outgoing {
  if (!credentials.client_validation) return request;
  return { ...request, validation: () => validationToken(request, credentials, expires_at_ms) };
}

function basic({ account_sid, auth_token, client_validation }: CarrierCredentials): string {
  const { signing_key_sid, signing_key_secret } = client_validation ?? {};
  const [user, password] =
    signing_key_secret === undefined ? [account_sid, auth_token] : [signing_key_sid, signing_key_secret];
  return `Basic ${Buffer.from(`${user}:${password}`, 'utf8').toString('base64')}`;
}

const whole = z.union([
  z.number().int(),
  z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number),
]);
const ErrorBody = z.object({ code: whole, message: z.string(), status: whole });

/**
 * The error that the carrier itself wrote, or null. A body whose status is not the response's came through something
 * else, and what that knows of the call is not known.
 */
export function readError(status: number, text: string): { code: number; message: string } | null {
  const body = ErrorBody.safeParse(parseJson(text));
  return body.success && body.data.status === status ? { code: body.data.code, message: body.data.message } : null;
}

/** The JSON in a text, or undefined. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function isSuccess(status: number): boolean {
  return status >= 200 && status <= 299;
}

/** A cause to keep, from anything but a success: codes only, no text of the other side. */
export function causeOf(result: Exchange): string {
  if (result.kind === 'held') return 'deadline_passed';
  if (result.kind === 'failed') return result.cause;
  const error = readError(result.status, result.text);
  return error === null ? `http_${result.status}` : `http_${result.status}_code_${error.code}`;
}

/** A carrier's sentence without what must not be kept: the account's secret, addresses, numbers, ids; and bounded. */
export function scrub(message: string, credentials: CarrierCredentials, chars_max: number): string {
  return message
    .replaceAll(credentials.auth_token || '\0', '[secret]')
    .replaceAll(credentials.client_validation?.signing_key_secret || '\0', '[secret]')
    .replace(/\b[a-z][a-z0-9+.-]*:\/\/\S+/gi, '[address]')
    .replace(/\b[A-Z]{2}[0-9a-f]{32}\b/g, '[id]')
    .replace(/\+?\d[\d\s().-]{4,}\d/g, '[number]')
    .replace(/\p{Cc}+/gu, ' ')
    .slice(0, chars_max)
    .trim();
}
