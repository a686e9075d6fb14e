import { cut } from '../lead/text.ts';
import type { Shape } from './shape.ts';

/** A row of the old tables: its id, and the row itself as the old database writes it in JSON. */
export interface OldRow {
  id: number;
  text: string;
}

export interface OldRun {
  id: number;
  text: string;
  /** As text; '' where the row names none. */
  business: string;
  /** Lower case, with underscores; null: none. */
  status: string | null;
  name: string | null;
  concurrency: number | null;
  last_error: string | null;
  created_at: string | null;
  created_by_user_id: string | null;
  started_at: string | null;
  ended_at: string | null;
  updated_at: string | null;
  cancel_requested: boolean;
  lock_ts: string | null;
}

export interface OldJob {
  id: number;
  text: string;
  business: string;
  run_id: number | null;
  lead_id: number | null;
  phone: string | null;
  name: string | null;
  status: string | null;
  outcome: string | null;
  errors: string[];
  /** Something in the row says that a call was made or begun. */
  called: boolean;
  /** The last of its times. */
  updated_at: string | null;
}

export interface OldLead {
  id: number;
  text: string;
  business: string;
  phone: string | null;
  name: string | null;
  external_id: string | null;
  time_zone: string | null;
  created_at: string | null;
  do_not_call: boolean;
  /** What else its row has, as text. */
  attributes: Record<string, string>;
}

const NAME_CHARS = 200;
const TEXT_CHARS = 2_000;
const CONCURRENCY_MAX = 10_000;

export function readOldRun(row: OldRow, shape: Shape['runs']): OldRun {
  const fields = fieldsOf(row);
  return {
    ...row,
    business: text(fields, shape.business) ?? '',
    status: word(text(fields, shape.status)),
    name: bounded(text(fields, shape.name), NAME_CHARS),
    concurrency: concurrency(number(fields, shape.concurrency)),
    last_error: bounded(text(fields, shape.last_error), TEXT_CHARS),
    created_at: time(fields, shape.created_at),
    created_by_user_id: bounded(text(fields, shape.created_by_user_id), NAME_CHARS),
    started_at: time(fields, shape.started_at),
    ended_at: time(fields, shape.ended_at),
    updated_at: time(fields, shape.updated_at),
    cancel_requested: truthy(text(fields, shape.cancel_requested)),
    lock_ts: time(fields, shape.lock_ts),
  };
}

export function readOldJob(row: OldRow, shape: Shape['jobs']): OldJob {
  const fields = fieldsOf(row);
  const ended_at = time(fields, shape.ended_at);
  const called_at = time(fields, shape.called_at);
  return {
    ...row,
    business: text(fields, shape.business) ?? '',
    run_id: number(fields, shape.run),
    lead_id: number(fields, shape.lead),
    phone: text(fields, shape.phone),
    name: bounded(text(fields, shape.name), NAME_CHARS),
    status: word(text(fields, shape.status)),
    outcome: word(text(fields, shape.outcome)),
    errors: shape.errors.flatMap((name) => bounded(text(fields, name), TEXT_CHARS) ?? []),
    called: (number(fields, shape.attempts) ?? 0) > 0 || text(fields, shape.call) !== null || called_at !== null,
    updated_at: ended_at ?? time(fields, shape.updated_at) ?? called_at ?? time(fields, shape.created_at),
  };
}

export function readOldLead(row: OldRow, shape: NonNullable<Shape['leads']>): OldLead {
  const fields = fieldsOf(row);
  const parts = [text(fields, shape.first_name), text(fields, shape.last_name)].filter((part) => part !== null);
  return {
    ...row,
    business: text(fields, shape.business) ?? '',
    phone: text(fields, shape.phone),
    name: bounded(text(fields, shape.name) ?? (parts.length > 0 ? parts.join(' ') : null), NAME_CHARS),
    external_id: bounded(text(fields, shape.external_id), NAME_CHARS),
    time_zone: text(fields, shape.time_zone),
    created_at: time(fields, shape.created_at),
    do_not_call: truthy(text(fields, shape.do_not_call)),
    attributes: attributesOf(fields, shape),
  };
}

function attributesOf(fields: Fields, shape: NonNullable<Shape['leads']>): Record<string, string> {
  // An opt-out stays readable with the lead, whatever becomes of its jobs.
  const taken = new Set<string | null>(Object.values({ ...shape, do_not_call: null }));
  return Object.fromEntries(
    Object.keys(fields)
      .filter((name) => !taken.has(name))
      .flatMap((name) => {
        const value = bounded(text(fields, name), TEXT_CHARS);
        return value === null ? [] : [[name, value] as const];
      }),
  );
}

type Fields = Readonly<Record<string, unknown>>;

function fieldsOf(row: OldRow): Fields {
  const fields: unknown = JSON.parse(row.text);
  if (typeof fields !== 'object' || fields === null) throw new TypeError('a row of the old tables is no object');
  return fields as Fields;
}

/** A scalar as text; null for what is absent, empty, or no scalar. */
function text(fields: Fields, name: string | null): string | null {
  const value = name === null ? null : fields[name];
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  const trimmed = typeof value === 'string' ? value.trim() : '';
  return trimmed === '' ? null : trimmed;
}

function number(fields: Fields, name: string | null): number | null {
  const value = Number(text(fields, name) ?? 'none');
  return Number.isSafeInteger(value) ? value : null;
}

const ISO =
  /^(\d{4})-(\d\d)-(\d\d)([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?( ?(Z|[+-](0\d|1[0-4])(:?[0-5]\d)?))?)?$/;

/** A time as the old database writes it, for PostgreSQL to read; null for `infinity` and for what is no time. */
function time(fields: Fields, name: string | null): string | null {
  const value = text(fields, name);
  const [, year, month, day] = ISO.exec(value ?? '')?.map(Number) ?? [];
  if (value === null || year === undefined || month === undefined || day === undefined || year === 0) return null;
  // The 30th of February rolls over into March.
  return new Date(Date.UTC(year, month - 1, day)).getUTCDate() === day && month <= 12 ? value : null;
}

/** `In Progress` and `in-progress` are `in_progress`. */
const word = (value: string | null) => value?.toLowerCase().replace(/[\s-]+/g, '_') ?? null;
const bounded = (value: string | null, chars: number) => (value === null ? null : cut(value, chars));
const truthy = (value: string | null) => value !== null && !/^(false|f|no|n|0)$/i.test(value);
const concurrency = (value: number | null) =>
  value === null || value < 1 ? null : Math.min(Math.trunc(value), CONCURRENCY_MAX);
