import type { ClientValidation } from './api.ts';
import type { CallOutcome } from './states.ts';

/**
 * The port that every carrier driver fills. The engine and the worker know carriers only through it and read the
 * declared capabilities, never a driver's name.
 */

/** The account that a call is placed through, its secret decrypted. Lives in memory only, never in a log. */
export interface CarrierCredentials {
  driver: string;
  base_url: string;
  account_sid: string;
  auth_token: string;
  /** Where the carrier takes requests that are signed and expire. */
  client_validation?: ClientValidation | undefined;
}

export interface PlaceRequest {
  credentials: CarrierCredentials;
  /** E.164. */
  to: string;
  from: string;
  /** Carries the attempt's whole key and token; asked for every status change. */
  status_url: string;
  /** Asked when the lead answers; `answer` is what it is told. */
  answer_url: string;
  ring_timeout_ms: number;
  call_max_ms: number;
  /** Milliseconds since 1970: a driver that declares `expiring_create` has the carrier refuse it from then on. */
  expires_at_ms: number;
}

/**
 * The last instants before a call. `pace` resolves when the attempt's start has come; it is awaited once the
 * connection stands and the headers are out. `mayStart` is then asked synchronously, in the same turn that writes the
 * body: false means that the deadline is past and the body must not be sent.
 */
export interface DialGate {
  pace(): Promise<void>;
  mayStart(): boolean;
}

/**
 * - `contact`: this number can't be called; the job fails.
 * - `unlisted`: with a code that the driver's table does not have. The job fails; of many in a row, without an accepted call
 *   in between, the further ones are taken for `lane`.
 * - `again`: certainly no call (rate, concurrency); the same lead waits and is tried again.
 * - `lane`: nothing can be called through this account now (credentials, suspension, caller id, callback URL).
 */
export type RefusalClass = 'contact' | 'unlisted' | 'again' | 'lane';

export type PlaceResult =
  | { kind: 'accepted'; call_id: string }
  /** The carrier refused, in its own format and with a code that its table calls a refusal: no call exists. */
  | { kind: 'rejected'; code: string; class: RefusalClass; message: string }
  /** The body certainly never left: no call exists. */
  | { kind: 'not_dialed'; cause: string }
  /** Asked, answer lost or unreadable. Never send it again. */
  | { kind: 'unknown'; cause: string };

/** A call as the carrier shows it, normalised. `outcome` is set exactly when the call is over. */
export interface CarrierCall {
  call_id: string;
  phase: 'queued' | 'ringing' | 'in_call' | 'ended';
  outcome: CallOutcome | null;
  /** Talking time, in whole seconds; null while unknown. */
  duration_s: number | null;
  /** Whole seconds since 1970, as carriers give it; null where they don't. */
  created_at_s: number | null;
  /** The carrier's own word or code for a failure (a SIP response, an error code). */
  cause: string | null;
}

/** A call of the carrier's list. */
export interface ListedCall {
  call_id: string;
  /** E.164. */
  to: string;
}

export type ListResult =
  /** `next`: where the list goes on; null: all calls of the span were shown. */
  | { kind: 'page'; calls: ListedCall[]; next: string | null }
  /** Never the end of the list. */
  | { kind: 'error'; cause: string };

export type FindResult =
  | { kind: 'listed'; calls: CarrierCall[] }
  /** An error is never absence. */
  | { kind: 'error'; cause: string };
export type FetchResult = { kind: 'call'; call: CarrierCall } | { kind: 'absent' } | { kind: 'error'; cause: string };
export type HangUpResult =
  /** The carrier took the order; the call's final status comes as an event or when asked. */
  | { kind: 'asked' }
  /** The call is over already. */
  | { kind: 'over' }
  | { kind: 'error'; cause: string };

/** An inbound HTTP request of the carrier, as it came in. `url` is the public one that the carrier was given. */
export interface CarrierRequest {
  url: string;
  headers: Record<string, string | string[] | undefined>;
  /** Decoded form fields. */
  form: Record<string, string>;
}

/** What the lead hears when answering. Later: key presses, audio, agents, bridging. */
export interface AnswerScript {
  say: string;
  /** BCP 47, such as he-IL. */
  language: string;
}

export interface CarrierCapabilities {
  /**
   * Longest time from the last byte of a create to its effect, and with an expiring create from its expiry, however long
   * the request was under way; null: not known, so absence is never believed.
   */
  effect_delay_ms: number | null;
  /** How long a created call may be missing from the list. */
  listing_delay_ms: number;
  /** A create that arrives after its expiry is refused, so a stopped request can't become a call. */
  expiring_create: boolean;
  hang_up_while_queued: boolean;
  /** Of `CarrierCall.created_at_s`. */
  created_at_resolution_ms: number;
}

export interface CarrierDriver {
  name: string;
  capabilities(credentials: CarrierCredentials): CarrierCapabilities;
  place(request: PlaceRequest, gate: DialGate): Promise<PlaceResult>;
  /** All calls from and to these numbers created in the span; every page, numbers compared normalised. */
  find(
    credentials: CarrierCredentials,
    wanted: { to: string; from: string; created_from_ms: number; created_to_ms: number },
  ): Promise<FindResult>;
  /**
   * All calls of the account created in the span, page by page; begins with `page` null. A driver whose carrier can't
   * list them leaves it out, and a person has to decide after a restore.
   */
  list?(
    credentials: CarrierCredentials,
    wanted: { created_from_ms: number; created_to_ms: number; page: string | null },
  ): Promise<ListResult>;
  fetchCall(credentials: CarrierCredentials, call_id: string): Promise<FetchResult>;
  hangUp(credentials: CarrierCredentials, call_id: string): Promise<HangUpResult>;
  /** True only for a request that bears this account's valid signature. */
  verify(credentials: CarrierCredentials, request: CarrierRequest): boolean;
  /** Reads a status callback; null when it is none. */
  readEvent(request: CarrierRequest): CarrierCall | null;
  answer(script: AnswerScript): { content_type: string; body: string };
  hangUpAnswer(): { content_type: string; body: string };
}

/** The drivers that an installation knows, by name. */
export type CarrierDrivers = ReadonlyMap<string, CarrierDriver>;

/** The driver that calls nobody: for the canaries of the readiness check, never for an ordinary business's account. */
export const CANARY_DRIVER = 'canary';

/** The names of the drivers that an account may be made with. */
export function offeredDrivers(drivers: CarrierDrivers): string[] {
  return [...drivers.keys()].filter((name) => name !== CANARY_DRIVER);
}
