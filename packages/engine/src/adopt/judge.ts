import type { Outcome } from '@carillon/contract';
import type { CountryCode } from 'libphonenumber-js/min';
import { isTimeZone } from '../business/time-zone.ts';
import { readPhone } from '../lead/phone.ts';
import type { OldJob, OldLead, OldRun } from './old-rows.ts';

/** Why an old job was not taken over. */
export const DROP_REASONS = {
  duplicate: 'another row of the same run and lead got further, or came first',
  same_number: 'another lead of the run has the same number, and got further or came first',
  no_run: 'its run is not there',
  no_lead: 'its lead is not there',
  other_business: 'its run belongs to another business',
  lead_of_other_business: 'its lead belongs to another business',
  bad_number: 'its number is none that can be called',
  late: 'it was added after its run had been taken over',
} as const;
export type DropReason = keyof typeof DROP_REASONS;

export type TakenStatus = 'queued' | 'completed' | 'failed' | 'cancelled' | 'skipped' | 'needs_review';

/** Of several rows for one lead the highest is kept: the one that got furthest, and never one that would call again. */
export const RANKS: Readonly<Record<TakenStatus, number>> = {
  queued: 1,
  skipped: 2,
  cancelled: 3,
  needs_review: 4,
  failed: 5,
  completed: 6,
};

/** What an old job becomes. */
export interface Verdict {
  status: TakenStatus;
  last_outcome: Outcome | null;
  reason: string | null;
  /** The old status, where nobody knows what it means. */
  unknown_status: string | null;
}

export interface TakenJob extends Verdict {
  drop: null;
  id: number;
  text: string;
  run_id: number;
  old_lead_id: number | null;
  /** E.164. */
  phone: string;
  lead: LeadFacts;
  updated_at: string | null;
}

export interface LeadFacts {
  name: string | null;
  external_id: string | null;
  time_zone: string | null;
  created_at: string | null;
  attributes: Record<string, string>;
  /** The old lead's row; null where there is none. */
  text: string | null;
}

export interface DroppedJob {
  drop: DropReason;
  id: number;
  text: string;
  detail: string | null;
  /** For bad_number: the old lead whose number it is. */
  bad_lead: { id: number; text: string } | null;
}

export type JudgedJob = TakenJob | DroppedJob;

/** Of which business's rows a job is one: its run's, or else what it says itself. */
export function businessOf(job: OldJob, run: OldRun | undefined, lead: OldLead | undefined): string {
  if (run && (job.business === '' || job.business === run.business)) return run.business;
  return job.business !== '' ? job.business : (lead?.business ?? '');
}

/** Judges one old job by itself; duplicates are found later, in `decide`. */
export function judgeJob(
  job: OldJob,
  run: OldRun | undefined,
  lead: OldLead | undefined,
  options: { has_leads: boolean; country: CountryCode },
): JudgedJob {
  const drop = (reason: DropReason, detail: string | null = null): DroppedJob => ({
    drop: reason,
    id: job.id,
    text: job.text,
    detail,
    bad_lead: null,
  });
  if (!run) return drop('no_run', job.run_id === null ? null : `run ${job.run_id}`);
  if (job.business !== '' && job.business !== run.business) return drop('other_business', `run ${run.id}`);
  if (options.has_leads && !lead) return drop('no_lead', job.lead_id === null ? null : `lead ${job.lead_id}`);
  if (!options.has_leads && job.phone === null && job.lead_id === null) return drop('no_lead');
  if (lead && lead.business !== '' && run.business !== '' && lead.business !== run.business)
    return drop('lead_of_other_business', `lead ${lead.id}`);
  const number = readPhone(lead?.phone ?? job.phone ?? '', options.country);
  if (!number.ok)
    return { ...drop('bad_number', number.reason), bad_lead: lead ? { id: lead.id, text: lead.text } : null };
  return {
    drop: null,
    id: job.id,
    text: job.text,
    run_id: run.id,
    old_lead_id: job.lead_id,
    phone: number.phone,
    lead: factsOf(job, lead),
    updated_at: job.updated_at,
    ...judgeStatus(job, lead?.do_not_call ?? false),
  };
}

function factsOf(job: OldJob, lead: OldLead | undefined): LeadFacts {
  if (!lead)
    return { name: job.name, external_id: null, time_zone: null, created_at: null, attributes: {}, text: null };
  return {
    name: lead.name ?? job.name,
    external_id: lead.external_id,
    time_zone: lead.time_zone !== null && isTimeZone(lead.time_zone) ? lead.time_zone : null,
    created_at: lead.created_at,
    attributes: lead.attributes,
    text: lead.text,
  };
}

const words = (list: string) => new Set(list.split(' '));
const QUEUED = words('queued pending new waiting ready scheduled created');
const IN_FLIGHT = words(
  'in_progress inprogress running processing claimed locked active started dialing dialling calling initiated ringing in_call on_call',
);
const COMPLETED = words('completed complete done finished success succeeded answered called');
const FAILED = words(
  'failed failure error busy no_answer noanswer voicemail machine unreachable rejected not_answered',
);
const CANCELLED = words('cancelled canceled stopped aborted');
const SKIPPED = words('skipped blocked dnc do_not_call opted_out');

/** What the old system wrote into a job that a person cancelled, and that it then called failed. */
const CANCELLED_BY_USER = /\bcancell?ed by (the )?user\b/i;

const OUTCOMES: Readonly<Record<string, Outcome>> = {
  busy: 'busy',
  no_answer: 'no_answer',
  noanswer: 'no_answer',
  not_answered: 'no_answer',
  voicemail: 'voicemail',
  machine: 'voicemail',
  answering_machine: 'voicemail',
  rejected: 'rejected',
};

function judgeStatus(job: OldJob, do_not_call: boolean): Verdict {
  const { status } = job;
  const verdict = (became: TakenStatus, last_outcome: Outcome | null, reason: string | null): Verdict => ({
    status: became,
    last_outcome,
    reason,
    unknown_status: null,
  });
  const review = (reason: string) => verdict('needs_review', 'unknown', reason);
  if (status === null) return { ...review('it had no status when it was adopted'), unknown_status: '' };
  if (QUEUED.has(status)) {
    // Put back into the queue after a call that nobody knows the end of, or for a second one.
    if (job.called) return review('it was queued again after a call when it was adopted');
    return do_not_call ? verdict('skipped', null, 'do not call') : verdict('queued', null, null);
  }
  if (IN_FLIGHT.has(status)) return review('its call was in flight when it was adopted');
  if (COMPLETED.has(status)) return verdict('completed', 'completed', null);
  const error = job.errors[0] ?? null;
  if (FAILED.has(status)) {
    if (job.errors.some((text) => CANCELLED_BY_USER.test(text))) return verdict('cancelled', null, error);
    return verdict('failed', OUTCOMES[job.outcome ?? ''] ?? OUTCOMES[status] ?? 'failed', error);
  }
  if (CANCELLED.has(status)) return verdict('cancelled', null, error);
  if (SKIPPED.has(status)) return verdict('skipped', null, error ?? status);
  return { ...review(`its status "${status}" was not known when it was adopted`), unknown_status: status };
}
