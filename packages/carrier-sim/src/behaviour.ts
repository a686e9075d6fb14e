import { createPublicKey } from 'node:crypto';
import { z } from 'zod';
import { limits } from './limits.ts';

/**
 * How the simulated carrier behaves: overall, for an account, for a called number; the most specific wins, field by
 * field. It may be changed while calls live: what is drawn once (outcome, ringing, talking, keys) is drawn when a call
 * is created, all else is looked up when it is needed.
 */

const ms = z.number().min(0).max(limits.day_ms);
const probability = z.number().min(0).max(1);

/** `[low, high]` in milliseconds; a single number stands for both. */
const range = z
  .union([z.tuple([ms, ms]), ms.transform((value): [number, number] => [value, value])], {
    error: `Expected milliseconds (0 to ${limits.day_ms}) or a range of them, [low, high]`,
  })
  .refine(([low, high]) => low <= high, 'The low end of the range is above its high end');
export type Range = [number, number];

const outcomes = z
  .strictObject({
    answered: z.number().min(0).default(0),
    no_answer: z.number().min(0).default(0),
    busy: z.number().min(0).default(0),
    voicemail: z.number().min(0).default(0),
    failed: z.number().min(0).default(0),
  })
  .refine((weights) => Object.values(weights).some((weight) => weight > 0), 'At least one weight must be above 0');

/** A status with a body that is not in the carrier's format, as proxies and gateways in front of it send. */
const errorPage = z.strictObject({ status: z.int().min(200).max(599), probability: probability.default(1) });

const callback = z.strictObject({
  delay_ms: range,
  /** Sent a second time, with the same sequence number. */
  duplicate: probability,
  /** Held back until a later one of its call has been sent. */
  reorder: probability,
  drop: probability,
});

const settings = z.strictObject({
  /** From the acceptance of a call to the answer that says so. */
  response_delay_ms: range,
  /** From the request to its effect: the call is created that much later, even if the customer has gone by then. */
  effect_delay_ms: range,
  /** The call is created; then the connection is reset instead of answered. */
  lose_response: probability,
  /** Refused in the carrier's format, no call is created. `status` and `message` default to the code's own. */
  refuse: z
    .strictObject({
      code: z.int().min(10000).max(99999),
      probability: probability.default(1),
      status: z.int().min(400).max(499).optional(),
      message: z.string().max(500).optional(),
    })
    .nullable(),
  /** A create is answered with an error page; `create` says whether the call exists all the same. */
  http_error: errorPage.extend({ create: z.boolean().default(false) }).nullable(),
  /** The same for reading calls (fetch, list), and for changing one (cancel, hang up). */
  read_error: errorPage.nullable(),
  update_error: errorPage.nullable(),
  ring_ms: range,
  talk_ms: range,
  outcomes,
  /** Keys that the called person presses when asked; empty: none. */
  digits: z.string().regex(/^[0-9*#]*$/, 'Expected keys of a telephone: 0 to 9, * and #'),
  callback,
  /** How long a new call stays invisible in lists. Reading it by its sid is not affected. */
  listing_lag_ms: ms,
  /** Connections are reset: nothing is read, nothing is created. Calls that live go on. */
  down: z.boolean(),
});

const laneSettings = settings.extend({
  /** Calls above this wait on the carrier's side, in state `queued`; null: no limit. */
  calls_per_second: z.number().positive().nullable(),
});

const publicKeyPem = z.string().refine((pem) => {
  try {
    return createPublicKey(pem).asymmetricKeyType === 'rsa';
  } catch {
    return false;
  }
}, 'Expected an RSA public key in PEM form');

const account = laneSettings.extend({
  /** The token that requests must bear and that callbacks are signed with. Unset: any, and each call's own creator's. */
  auth_token: z.string().min(1),
  /** Public Key Client Validation: a create needs a valid JWT that has not expired when the call is made. */
  client_validation: z.strictObject({ public_key_pem: publicKeyPem }),
});

/** Partial, and with partial callback settings: what is left out comes from the next wider layer. */
const loose = { callback: callback.partial() };
const behaviourSchema = z.strictObject({
  /** A request whose body has not come whole by then is dropped. */
  body_timeout_ms: ms.min(1).default(10_000),
  default: laneSettings.extend(loose).partial().default({}),
  accounts: z.record(z.string().min(1), account.extend(loose).partial()).default({}),
  numbers: z
    .record(z.string().regex(/^\+[1-9]\d{2,14}$/, 'Expected a number in E.164 form'), settings.extend(loose).partial())
    .default({}),
});

export type Settings = z.output<typeof settings>;
export type LaneSettings = z.output<typeof laneSettings>;
export type Behaviour = z.output<typeof behaviourSchema>;
export type BehaviourInput = z.input<typeof behaviourSchema>;

/**
 * A plausible afternoon, quick enough for a demonstration: 600 calls over 40 lines are through in about 20 seconds.
 * Every fault is off.
 */
export const defaultSettings: LaneSettings = {
  response_delay_ms: [5, 30],
  effect_delay_ms: [0, 0],
  lose_response: 0,
  refuse: null,
  http_error: null,
  read_error: null,
  update_error: null,
  calls_per_second: null,
  ring_ms: [100, 600],
  talk_ms: [100, 1500],
  outcomes: { answered: 65, no_answer: 14, busy: 8, voicemail: 10, failed: 3 },
  digits: '',
  callback: { delay_ms: [0, 20], duplicate: 0, reorder: 0, drop: 0 },
  listing_lag_ms: 0,
  down: false,
};

/** Thrown with one line for each mistake, each naming the field. */
export class BehaviourError extends Error {
  readonly issues: { path: string; message: string }[];
  constructor(issues: { path: string; message: string }[]) {
    super(`The behaviour is not valid: ${issues.map(({ path, message }) => `${path}: ${message}`).join('; ')}`);
    this.issues = issues;
  }
}

export function parseBehaviour(input: unknown): Behaviour {
  const parsed = behaviourSchema.safeParse(input);
  if (parsed.success) return parsed.data;
  throw new BehaviourError(
    parsed.error.issues.map((issue) => ({ path: issue.path.join('.') || '(the whole)', message: issue.message })),
  );
}

type Layer = Partial<Omit<LaneSettings, 'callback'>> & { callback?: Partial<Settings['callback']> | undefined };

function over(base: LaneSettings, layer: Layer | undefined): LaneSettings {
  if (layer === undefined) return base;
  return { ...base, ...layer, callback: { ...base.callback, ...layer.callback } };
}

export interface BehaviourStore {
  readonly current: Behaviour;
  /** Throws BehaviourError and changes nothing when the input is not valid. */
  replace(input: unknown): void;
  forAccount(account: string): LaneSettings;
  forNumber(account: string, to: string): Settings;
  /** What the account's requests have to bear; undefined where anything will do. */
  authToken(account: string): string | undefined;
  validationKeyPem(account: string): string | undefined;
  /** Called after each change. */
  onChange(listener: () => void): void;
}

/** Throws BehaviourError when `initial` is not valid. */
export function createBehaviour(initial: unknown): BehaviourStore {
  const listeners: (() => void)[] = [];
  let current: Behaviour;
  let overall: LaneSettings;
  // Maps, because an account's name comes from a URL and may be `constructor`.
  let accounts: Map<string, Behaviour['accounts'][string]>;
  let numbers: Map<string, Behaviour['numbers'][string]>;

  function replace(input: unknown): void {
    // Through JSON, so that a caller's later changes to its object, and fields set to undefined, do not come in.
    current = parseBehaviour(JSON.parse(JSON.stringify(input ?? {})));
    overall = over(defaultSettings, current.default);
    accounts = new Map(Object.entries(current.accounts));
    numbers = new Map(Object.entries(current.numbers));
    for (const listener of listeners) listener();
  }

  replace(initial);
  const forAccount = (account: string) => over(overall, accounts.get(account));
  return {
    get current() {
      return current;
    },
    replace,
    forAccount,
    forNumber: (account, to) => over(forAccount(account), numbers.get(to)),
    authToken: (account) => accounts.get(account)?.auth_token,
    validationKeyPem: (account) => accounts.get(account)?.client_validation?.public_key_pem,
    onChange: (listener) => void listeners.push(listener),
  };
}
