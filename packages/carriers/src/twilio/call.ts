import type { CallOutcome, CarrierCall } from '@carillon/contract';
import { z } from 'zod';

/** The call resource and its statuses, as they stand in answers and callbacks alike. */

export const CallId = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/);

const STATUSES = {
  queued: { phase: 'queued', outcome: null },
  // The carrier has begun to dial; nothing rings yet.
  initiated: { phase: 'queued', outcome: null },
  ringing: { phase: 'ringing', outcome: null },
  'in-progress': { phase: 'in_call', outcome: null },
  completed: { phase: 'ended', outcome: 'completed' },
  busy: { phase: 'ended', outcome: 'busy' },
  'no-answer': { phase: 'ended', outcome: 'no_answer' },
  canceled: { phase: 'ended', outcome: 'cancelled' },
  failed: { phase: 'ended', outcome: 'failed' },
} as const satisfies Record<string, Pick<CarrierCall, 'phase' | 'outcome'>>;

const Status = z.enum(Object.keys(STATUSES) as (keyof typeof STATUSES)[]);
const Seconds = z
  .union([
    z.number(),
    z
      .string()
      .regex(/^\d{1,7}$/)
      .transform(Number),
  ])
  .pipe(z.number().int().min(0));
const Word = z.string().max(40).nullish();

const CallBody = z.object({
  sid: CallId,
  status: Status,
  date_created: z.string().max(60).nullish(),
  duration: Seconds.nullish().catch(null),
  answered_by: Word,
});

/** A call as an answer shows it; null when it can't be read. */
export function readCall(body: unknown): CarrierCall | null {
  const call = CallBody.safeParse(body);
  if (!call.success) return null;
  const { sid, status, date_created, duration, answered_by } = call.data;
  return {
    call_id: sid,
    ...stateOf(status, answered_by, duration),
    created_at_s: date_created ? parseDate_s(date_created) : null,
    cause: null,
  };
}

const StatusForm = z.object({
  CallSid: CallId,
  CallStatus: Status,
  CallDuration: Seconds.nullish().catch(null),
  AnsweredBy: Word,
  SipResponseCode: z
    .string()
    .regex(/^\d{3}$/)
    .nullish()
    .catch(null),
  ErrorCode: z
    .string()
    .regex(/^\d{1,6}$/)
    .nullish()
    .catch(null),
});

/** A status callback's call; null when the form is none. */
export function readStatusForm(form: Record<string, string>): CarrierCall | null {
  const event = StatusForm.safeParse(form);
  if (!event.success) return null;
  const { CallSid, CallStatus, CallDuration, AnsweredBy, SipResponseCode, ErrorCode } = event.data;
  const state = stateOf(CallStatus, AnsweredBy, CallDuration);
  const went_wrong = state.phase === 'ended' && CallStatus !== 'completed';
  const cause = ErrorCode ? `code_${ErrorCode}` : SipResponseCode ? `sip_${SipResponseCode}` : null;
  return { call_id: CallSid, ...state, created_at_s: null, cause: went_wrong ? cause : null };
}

function stateOf(
  status: keyof typeof STATUSES,
  answered_by: string | null | undefined,
  duration_s: number | null | undefined,
) {
  const { phase, outcome } = STATUSES[status];
  const by_machine: CallOutcome | null = outcome === 'completed' && isMachine(answered_by) ? 'voicemail' : null;
  return { phase, outcome: by_machine ?? outcome, duration_s: phase === 'ended' ? (duration_s ?? null) : null };
}

function isMachine(answered_by: string | null | undefined): boolean {
  return /^(machine|fax)/.test(answered_by ?? '');
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const RFC_2822 =
  /^(?:[A-Z][a-z]{2}, )?(\d{1,2}) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) (?:GMT|UTC|([+-])(\d\d)(\d\d))$/;
const ISO_8601 = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)$/;

/**
 * Whole seconds since 1970 of `Tue, 10 Aug 2010 08:02:17 +0000`, or of an ISO 8601 time with its zone, which some
 * compatible carriers write. Null for anything else: a time whose zone must be guessed is no time.
 */
export function parseDate_s(text: string): number | null {
  if (ISO_8601.test(text)) {
    const ms = Date.parse(text);
    return Number.isNaN(ms) ? null : Math.floor(ms / 1000);
  }
  const [, day, month, year, hour, minute, second, sign, zone_hours, zone_minutes] = RFC_2822.exec(text) ?? [];
  const month_index = MONTHS.indexOf(month ?? '');
  if (month_index < 0) return null;
  const utc_ms = Date.UTC(Number(year), month_index, Number(day), Number(hour), Number(minute), Number(second));
  const zone_s = sign ? (sign === '-' ? -1 : 1) * (Number(zone_hours) * 3600 + Number(zone_minutes) * 60) : 0;
  return utc_ms / 1000 - zone_s;
}
