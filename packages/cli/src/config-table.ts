import path from 'node:path';
import { type ApiLimits, defaultApiLimits } from '@carillon/api';
import { REQUEST_TIMEOUT_MS } from '@carillon/carriers';
import { defaultLimits, type Limits } from '@carillon/engine';
import { z } from 'zod';
import { FAULT_FORM, faultText } from './faults.ts';

/**
 * Every environment variable that Carillon reads: what it means, in which unit, what is expected of it and what holds
 * without it. `carillon --help` prints this table, so what it says is what is done.
 */
export interface Setting<T> {
  name: string;
  about: string;
  /** As the help prints it. */
  unit: string;
  /** As the help prints it: what holds when the variable is unset or empty. */
  default: string;
  /** Completes "expected …" in an error. */
  expected: string;
  schema: z.ZodType<T, string>;
  /** Its value is never printed. */
  secret?: boolean;
}

const PORT_MAX = 65_535;
const HOUR_MS = 3_600_000;
const SECRET_BYTES = 32;

function whole(low: number, high: number): z.ZodType<number, string> {
  return z
    .string()
    .regex(/^\d{1,15}$/)
    .transform(Number)
    .pipe(z.number().min(low).max(high));
}

const databaseUrl = z.string().refine((text) => {
  const url = URL.parse(text);
  return !!url && /^postgres(ql)?:$/.test(url.protocol) && url.hostname !== '' && url.pathname.length > 1;
});

const publicUrl = z
  .string()
  .refine((text) => {
    const url = URL.parse(text);
    return !!url && /^https?:$/.test(url.protocol) && url.search === '' && url.hash === '' && url.username === '';
  })
  .transform((text) => text.replace(/\/+$/, ''));

const secret = z.string().transform((text, context): Buffer => {
  const hex = /^[0-9a-fA-F]{64}$/.test(text);
  const bytes = hex ? Buffer.from(text, 'hex') : Buffer.from(text, 'base64');
  // Buffer.from skips what is no base64 in silence.
  if (bytes.length === SECRET_BYTES && (hex || /^[A-Za-z0-9+/_-]{43}=?$/.test(text))) return bytes;
  context.addIssue('not 32 bytes');
  return z.NEVER;
});

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const DATABASE_URL_FORM = 'a URL such as postgres://user:password@host:5432/database';

export const SETTINGS = {
  database_url: setting({
    name: 'DATABASE_URL',
    about: "PostgreSQL 15 or later, as the application's login; its user with _discovery appended is the second login",
    unit: 'URL',
    default: 'embedded PostgreSQL in the data directory',
    expected: DATABASE_URL_FORM,
    schema: databaseUrl,
    secret: true,
  }),
  owner_database_url: setting({
    name: 'CARILLON_OWNER_DATABASE_URL',
    about: 'The same database as the login that owns the tables; only "migrate" and "start" use it',
    unit: 'URL',
    default: "the embedded one's",
    expected: DATABASE_URL_FORM,
    schema: databaseUrl,
    secret: true,
  }),
  data_dir: setting({
    name: 'CARILLON_DATA_DIR',
    about: "Where the embedded database, its passwords and the simulated carrier's ledger are kept",
    unit: 'directory',
    default: '.carillon',
    expected: 'a directory',
    schema: z.string().transform((text) => path.resolve(text)),
  }),
  host: setting({
    name: 'CARILLON_HOST',
    about: 'The address on which the API listens',
    unit: 'address',
    default: '127.0.0.1',
    expected: 'a host name or address such as 127.0.0.1 or 0.0.0.0',
    schema: z.string().regex(/^[A-Za-z0-9.:_-]+$/),
  }),
  port: setting({
    name: 'CARILLON_PORT',
    about: 'The port of the API; 0: any free one',
    unit: 'port',
    default: '8080; "start" takes another where that is in use',
    expected: `a whole number from 0 to ${PORT_MAX}`,
    schema: whole(0, PORT_MAX),
  }),
  public_url: setting({
    name: 'CARILLON_PUBLIC_URL',
    about:
      'Where carriers reach the API: what they are told to call back and what their signatures are checked against',
    unit: 'URL',
    default: 'http://HOST:PORT; required when CARILLON_HOST is not this machine alone',
    expected: 'a URL without query or password, such as https://calls.example.com',
    schema: publicUrl,
  }),
  secret: setting({
    name: 'CARILLON_SECRET',
    about: "Encrypts the carrier accounts' secrets in the database; the same for all processes",
    unit: '32 bytes',
    default: 'generated and kept in the data directory when embedded; required otherwise',
    expected: '32 bytes as base64 or hex; "openssl rand -base64 32" makes some',
    schema: secret,
    secret: true,
  }),
  metrics_port: setting({
    name: 'CARILLON_METRICS_PORT',
    about: "Where a worker serves its own metrics to Prometheus, at /metrics; the API's are at its own port",
    unit: 'port',
    default: 'none: it serves nothing',
    expected: `a whole number from 0 to ${PORT_MAX}`,
    schema: whole(0, PORT_MAX),
  }),
  log_level: setting({
    name: 'CARILLON_LOG_LEVEL',
    about: 'Logs go to standard error, one JSON object a line; "debug" also shows where errors come from',
    unit: LOG_LEVELS.join(', '),
    default: 'info; warn for "start"',
    expected: `one of ${LOG_LEVELS.join(', ')}`,
    schema: z.enum(LOG_LEVELS),
  }),
  migration_wait_ms: setting({
    name: 'CARILLON_MIGRATION_WAIT_MS',
    about: 'How long "api" and "worker" wait for a database that is not migrated yet before they end; 0: not at all',
    unit: 'ms',
    default: '60000',
    expected: `a whole number of milliseconds from 0 to ${HOUR_MS}`,
    schema: whole(0, HOUR_MS),
  }),
  carrier_request_timeout_ms: setting({
    name: 'CARILLON_CARRIER_REQUEST_TIMEOUT_MS',
    about: "A carrier's answer to any other request is waited for this long: what became of a call, or to hang it up",
    unit: 'ms',
    default: String(REQUEST_TIMEOUT_MS),
    expected: `a whole number of milliseconds from 10 to ${HOUR_MS}`,
    schema: whole(10, HOUR_MS),
  }),
  pool_connections: setting({
    name: 'CARILLON_POOL_CONNECTIONS',
    about: 'Connections in the pool of one process; a worker may open as many again, and a few more',
    unit: 'connections',
    default: '6',
    expected: 'a whole number from 2 to 100',
    schema: whole(2, 100),
  }),
  idle_in_transaction_timeout_ms: setting({
    name: 'CARILLON_IDLE_IN_TRANSACTION_TIMEOUT_MS',
    about: 'A process that stops inside a transaction loses its locks after this; must be below CARILLON_LEASE_TTL_MS',
    unit: 'ms',
    default: 'two thirds of CARILLON_LEASE_TTL_MS, at most 20000',
    expected: `a whole number of milliseconds from 10 to ${HOUR_MS}`,
    schema: whole(10, HOUR_MS),
  }),
  fault: setting({
    name: 'CARILLON_FAULT',
    about:
      'For tests only, never in production: kills, stops, delays or fails this process at a named point of its work',
    unit: 'POINT:kill|stop|fail[:PASSING] or POINT:delay:PASSING:MS',
    default: 'none',
    expected: FAULT_FORM,
    schema: faultText,
  }),
} as const;

interface LimitRow {
  about: string;
  low: number;
  high: number;
}

/** One row for each limit of the engine: a limit that is added there is missed here by the type checker. */
const LIMIT_ROWS: Record<keyof Limits, LimitRow> = {
  lease_ttl_ms: {
    about: 'A worker that shows no life for this long loses its runs to others',
    low: 100,
    high: HOUR_MS,
  },
  dial_deadline_ms: {
    about: 'From the decision to call to the last moment to ask the carrier',
    low: 100,
    high: 600_000,
  },
  claim_ahead_ms: {
    about: 'How far ahead calls are decided on; a stop has at most these to chase',
    low: 0,
    high: 10_000,
  },
  claim_batch_attempts: { about: 'Calls decided on in one transaction', low: 1, high: 10_000 },
  fill_batch_jobs: { about: 'Jobs made from a list in one transaction', low: 1, high: 100_000 },
  fill_ahead_jobs: { about: 'Jobs made ahead of those being called', low: 1, high: 1_000_000 },
  sweep_batch_jobs: {
    about: 'Jobs of a stopped run given their final state in one transaction',
    low: 1,
    high: 100_000,
  },
  ring_timeout_ms: { about: 'How long a phone rings; sent to the carrier with each call', low: 1, high: 600_000 },
  call_max_ms: { about: 'The longest call; sent to the carrier with each call', low: 1, high: 86_400_000 },
  carrier_effect_delay_ms: {
    about: 'How long after it was asked a carrier may still begin a call; absence is not believed before',
    low: 1,
    high: HOUR_MS,
  },
  carrier_listing_delay_ms: { about: "How long a call may be missing from the carrier's list", low: 1, high: HOUR_MS },
  reconcile_margin_ms: { about: 'Added to those two, for clocks that differ', low: 0, high: HOUR_MS },
  reconcile_every_ms: { about: 'Between two questions to a carrier about one unknown call', low: 10, high: HOUR_MS },
  poll_after_ms: { about: 'A live call that nothing is heard of for this long is asked about', low: 10, high: HOUR_MS },
  hang_up_every_ms: { about: 'Between two orders to hang up one call', low: 10, high: HOUR_MS },
  dial_response_timeout_ms: {
    about: "A carrier's answer to a new call is waited for this long",
    low: 10,
    high: HOUR_MS,
  },
  gather_ms: { about: 'What arrives within this time is recorded in one transaction', low: 0, high: 1_000 },
  gather_batch_items: { about: 'Events recorded in one transaction', low: 1, high: 10_000 },
  poll_work_ms: { about: 'A worker looks for work this often when nothing wakes it', low: 10, high: 2_000 },
  worker_runs: { about: 'Runs that one worker works on at once', low: 1, high: 10_000 },
  run_rest_ms: {
    about: 'A run that has nobody to call for longer than this takes no place of a worker until then',
    low: 1_000,
    high: HOUR_MS,
  },
  fruitless_leases: {
    about: 'A run whose workers die this many times in a row without a finished call fails',
    low: 1,
    high: 1_000,
  },
  fruitless_attempts: {
    about: 'A lead whose dials end this many times with their worker, or in an error of ours, is left to a person',
    low: 1,
    high: 1_000,
  },
  refused_attempts: {
    about: 'A lead at which the account is refused this many times, while others are called, is left to a person',
    low: 1,
    high: 1_000,
  },
  unlisted_refusals: {
    about: 'Refusals in a row with codes that nobody knows, before they are taken for refusals of the account',
    low: 1,
    high: 1_000,
  },
  lane_halt_first_ms: {
    about: 'First pause of a carrier account that refuses; doubles each time',
    low: 10,
    high: HOUR_MS,
  },
  lane_halt_longest_ms: { about: 'Longest such pause', low: 10, high: HOUR_MS },
};

/** The bounds of the API that differ from one installation to the other. */
const API_LIMIT_ROWS = {
  requests_per_minute: { about: 'Requests of one API key in a minute, for each API process', low: 1, high: 1_000_000 },
  database_wait_ms: {
    about: 'How long a request waits for a database that is away before it is answered with 503',
    low: 0,
    high: 600_000,
  },
  import_body_bytes: { about: 'The largest list that can be uploaded', low: 1_024, high: 1_099_511_627_776 },
  streams: { about: 'Event streams open at once in one API process', low: 1, high: 100_000 },
  streams_per_business: { about: 'The same, of one business', low: 1, high: 100_000 },
} as const satisfies Partial<Record<keyof ApiLimits, LimitRow>>;

export const LIMIT_SETTINGS = rowsOf(LIMIT_ROWS, defaultLimits);
export const API_LIMIT_SETTINGS = rowsOf<keyof typeof API_LIMIT_ROWS>(API_LIMIT_ROWS, defaultApiLimits);

function rowsOf<Key extends string>(rows: Readonly<Record<Key, LimitRow>>, defaults: Readonly<Record<Key, number>>) {
  return (Object.keys(rows) as Key[]).map((limit) => {
    const { about, low, high } = rows[limit];
    const unit = limit.includes('_per_') ? limit.replaceAll('_', ' ') : (limit.split('_').at(-1) ?? '');
    const whose = unit === 'ms' ? 'of milliseconds ' : '';
    return {
      limit,
      setting: setting({
        name: `CARILLON_${limit.toUpperCase()}`,
        about,
        unit,
        default: String(defaults[limit]),
        expected: `a whole number ${whose}from ${low} to ${high}`,
        schema: whole(low, high),
      }),
    };
  });
}

export const ALL_SETTINGS: readonly Setting<unknown>[] = [
  ...Object.values(SETTINGS),
  ...[...LIMIT_SETTINGS, ...API_LIMIT_SETTINGS].map(({ setting }) => setting),
];

function setting<T>(row: Setting<T>): Setting<T> {
  return row;
}
