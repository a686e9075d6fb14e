import { z } from 'zod';
import { CarrierAccountId, LeadId, ListId, RunId } from './ids.ts';
import { FOLLOW_UP_OUTCOMES, JOB_STATUSES, OUTCOMES, RUN_STATUSES, UNREACHED } from './states.ts';

/** What crosses the HTTP border. snake_case, ISO 8601 UTC times; every body and page is bounded. */

export const ROLES = ['owner', 'admin', 'agent', 'system_admin'] as const;
export type Role = (typeof ROLES)[number];

const RETRYABLE = ['busy', 'no_answer', 'voicemail', 'failed'] as const;

/** After which outcomes a lead is called again: at most `times` more calls, each `after_s` seconds after the last. */
export const Retry = z.strictObject({
  times: z.number().int().min(1).max(10),
  after_s: z.number().int().min(0).max(2_592_000),
});
export const Policy = z.strictObject({
  retry: z.partialRecord(z.enum(RETRYABLE), Retry).default({}),
  /** True: an unknown call is never called again by itself, even when the carrier shows that none exists. */
  review_always: z.boolean().default(false),
});
export type Policy = z.infer<typeof Policy>;

export const Answer = z.strictObject({
  say: z.string().trim().min(1).max(4_000),
  language: z
    .string()
    .regex(/^[a-z]{2}(-[A-Z]{2})?$/, 'a BCP 47 language such as he-IL')
    .default('he-IL'),
});

const instant = z.iso.datetime({ offset: true });

export const LEAD_IDS_MAX = 10_000;

/** The leads of an earlier run whose jobs ended in one of these ways, fixed when the new run starts. */
export const FromRun = z.strictObject({
  run_id: RunId,
  outcomes: z
    .array(z.enum(FOLLOW_UP_OUTCOMES))
    .min(1)
    .default([...UNREACHED]),
});
export type FromRun = z.infer<typeof FromRun>;

export const StartRun = z
  .strictObject({
    list_id: ListId.optional(),
    lead_ids: z.array(LeadId).min(1).max(LEAD_IDS_MAX).optional(),
    from_run: FromRun.optional(),
    name: z.string().trim().min(1).max(200).optional(),
    carrier_account_id: CarrierAccountId.optional(),
    concurrency: z.number().int().min(1).max(10_000).optional(),
    answer: Answer.optional(),
    policy: Policy.optional(),
    starts_at: instant.optional(),
    ends_at: instant.optional(),
    draft: z.boolean().optional(),
  })
  .refine(
    (body) => [body.list_id, body.lead_ids, body.from_run].filter((source) => source !== undefined).length === 1,
    {
      error: 'Give one of list_id, lead_ids and from_run.',
    },
  )
  .refine((body) => !body.starts_at || !body.ends_at || Date.parse(body.starts_at) < Date.parse(body.ends_at), {
    error: 'ends_at must be after starts_at.',
    path: ['ends_at'],
  });
export type StartRun = z.infer<typeof StartRun>;

export const LiveCalls = z.enum(['drain', 'hang_up']);
export type LiveCalls = z.infer<typeof LiveCalls>;
export const StopQueue = z.strictObject({ run_id: RunId, live_calls: LiveCalls.default('drain') });

const count = z.number().int().min(0);
const time = z.iso.datetime().nullable();

export const Reconcile = z.strictObject({ run_id: RunId.optional() });
/**
 * What workers now look into. `expired`: attempts past their dial deadline, found by this request; `unknown`: attempts
 * whose answer was lost, those among them; `live`: calls that the carrier is asked about.
 */
export const ReconcileReport = z.object({ expired: count, unknown: count, live: count });
export type ReconcileReport = z.infer<typeof ReconcileReport>;

export const Resolution = z.enum(['called', 'call_again']);
export type Resolution = z.infer<typeof Resolution>;
export const ResolveJob = z.strictObject({ as: Resolution });

export const Run = z.object({
  run_id: z.number(),
  name: z.string(),
  status: z.enum(RUN_STATUSES),
  total_leads: count,
  queued: count,
  waiting: count,
  in_progress: count,
  completed: count,
  failed: count,
  cancelled: count,
  skipped: count,
  needs_review: count,
  /** How many jobs are finished: the sum of the final counters. */
  cursor_position: count,
  concurrency: count,
  list_id: z.number().nullable(),
  /** The run whose unreached leads this one takes up. */
  from_run_id: z.number().nullable(),
  carrier_account_id: z.number(),
  last_error: z.string().nullable(),
  /** Why nothing is being called at the moment, as far as the run itself knows. */
  waiting_reason: z.string().nullable(),
  created_at: z.iso.datetime(),
  created_by_user_id: z.string().nullable(),
  created_by: z.string(),
  starts_at: time,
  ends_at: time,
  started_at: time,
  updated_at: z.iso.datetime(),
  ended_at: time,
  cancel_requested: z.boolean(),
  can_cancel: z.boolean(),
  locked_by_worker: z.string().nullable(),
  lock_ts: time,
  reclaim_count: count,
});
export type Run = z.infer<typeof Run>;

/** The answer to a stop or a pause. `in_flight`: attempts committed before it, which may still ring or talk. */
export const StoppedRun = Run.extend({ in_flight: count });
export type StoppedRun = z.infer<typeof StoppedRun>;

export const Job = z.object({
  job_id: z.string(),
  run_id: z.number(),
  lead_id: z.number(),
  /** Null once the lead is erased. */
  phone: z.string().nullable(),
  lead_name: z.string().nullable(),
  status: z.enum(JOB_STATUSES),
  attempts: count,
  last_outcome: z.enum(OUTCOMES).nullable(),
  reason: z.string().nullable(),
  due_at: time,
  updated_at: z.iso.datetime(),
});
export type Job = z.infer<typeof Job>;

export const Attempt = z.object({
  attempt_no: z.number(),
  /** A live attempt's state, or `closed`. */
  state: z.string(),
  outcome: z.enum(OUTCOMES).nullable(),
  cause: z.string().nullable(),
  call_id: z.string().nullable(),
  from: z.string(),
  intent_at: z.iso.datetime(),
  placed_at: time,
  answered_at: time,
  ended_at: time,
  duration_s: z.number().nullable(),
});
export type Attempt = z.infer<typeof Attempt>;

export const CreateList = z.strictObject({ name: z.string().trim().min(1).max(200) });
export const List = z.object({
  list_id: z.number(),
  name: z.string(),
  leads: count,
  created_at: z.iso.datetime(),
});
export type List = z.infer<typeof List>;

export const CreateLead = z.strictObject({
  phone: z.string().trim().min(1).max(64),
  country: z
    .string()
    .regex(/^[A-Za-z]{2}$/)
    .optional(),
  name: z.string().trim().max(200).optional(),
  external_id: z.string().trim().max(200).optional(),
  time_zone: z.string().trim().max(64).optional(),
  attributes: z.record(z.string().max(100), z.string().max(2_000)).optional(),
});
export type CreateLead = z.infer<typeof CreateLead>;
export const Lead = z.object({
  lead_id: z.number(),
  /** Null once the lead is erased, like everything else about the person. */
  phone: z.string().nullable(),
  name: z.string().nullable(),
  external_id: z.string().nullable(),
  time_zone: z.string().nullable(),
  attributes: z.record(z.string(), z.string()),
  erased_at: time,
});
export type Lead = z.infer<typeof Lead>;

/** What is left out stays; null clears a field, and an attribute. */
export const UpdateLead = z
  .strictObject({
    phone: z.string().trim().min(1).max(64),
    country: CreateLead.shape.country,
    name: z.string().trim().max(200).nullable(),
    external_id: z.string().trim().max(200).nullable(),
    time_zone: z.string().trim().max(64).nullable(),
    attributes: z.record(z.string().max(100), z.string().max(2_000).nullable()),
  })
  .partial()
  .refine(({ country: _country, ...fields }) => Object.values(fields).some((value) => value !== undefined), {
    error: 'Name at least one field to change.',
  });
export type UpdateLead = z.infer<typeof UpdateLead>;

/** What an erasure did: jobs that are now skipped, and kept lines of imports that are now empty. */
export const ErasedLead = z.object({
  lead_id: z.number(),
  erased_at: z.iso.datetime(),
  jobs_skipped: count,
  import_lines: count,
});
export type ErasedLead = z.infer<typeof ErasedLead>;

/** A lead's part in one run. */
export const LeadHistory = Job.extend({ run_name: z.string(), attempts_made: z.array(Attempt) });
export type LeadHistory = z.infer<typeof LeadHistory>;

const sid = z.string().trim().min(1).max(100);

/**
 * Public Key Client Validation: requests are signed with a private key of which the carrier has the public half, and
 * expire. A create that is held up on its way then makes no call, however late it arrives.
 */
export const ClientValidation = z.strictObject({
  /** Of the public key, as the carrier names it (CR…). */
  credential_sid: sid,
  /** Of the API key that signs (SK…). */
  signing_key_sid: sid,
  /** Where the carrier takes the API key with its secret in the place of the account's token. */
  signing_key_secret: z.string().min(1).max(500).optional(),
  /** RSA, unencrypted, at least 2048 bits. */
  private_key_pem: z
    .string()
    .max(10_000)
    .regex(/^\s*-----BEGIN (RSA )?PRIVATE KEY-----/, 'an unencrypted private key in PEM form'),
});
export type ClientValidation = z.infer<typeof ClientValidation>;

export const CreateCarrierAccount = z.strictObject({
  name: z.string().trim().min(1).max(200),
  driver: z.string().trim().min(1).max(40).default('twilio'),
  base_url: z.url({ protocol: /^https?$/ }).max(500),
  account_sid: z.string().trim().min(1).max(100),
  auth_token: z.string().min(1).max(500),
  from_numbers: z
    .array(z.string().regex(/^\+[1-9]\d{6,14}$/, 'an E.164 number such as +97231234567'))
    .min(1)
    .max(100),
  concurrency_limit: z.number().int().min(1).max(10_000),
  calls_per_second: z.number().positive().max(1_000),
  client_validation: ClientValidation.optional(),
});
export type CreateCarrierAccount = z.infer<typeof CreateCarrierAccount>;
export const CarrierAccount = CreateCarrierAccount.omit({ auth_token: true, client_validation: true }).extend({
  carrier_account_id: z.number(),
  /** Why the lane starts no calls now; null when it does. */
  halted_reason: z.string().nullable(),
  halted_until: time,
});
export type CarrierAccount = z.infer<typeof CarrierAccount>;

/** How a file was read. Columns are named by their headers. */
export const ImportedFile = z.object({
  format: z.enum(['csv', 'ndjson', 'xlsx']),
  /** Null for XLSX. */
  encoding: z.string().nullable(),
  /** Of CSV: what stands between two values. */
  separator: z.string().nullable(),
  /** Of XLSX. */
  sheet: z.string().nullable(),
  /** False: the file began with its first lead, and its columns are called "column 1" and so on. */
  header: z.boolean(),
  columns: z.object({
    phone: z.string(),
    name: z.array(z.string()),
    external_id: z.string().nullable(),
    time_zone: z.string().nullable(),
    consent: z.array(z.string()),
    attributes: count,
  }),
});
export type ImportedFile = z.infer<typeof ImportedFile>;

export const ImportReport = z.object({
  list_id: z.number(),
  import_id: z.number(),
  /** Data lines read, the header not counted: accepted + duplicates + rejected. */
  lines: count,
  accepted: count,
  duplicates: count,
  rejected: count,
  /** Leads that the business had before and that got a new value from the file. */
  updated: count,
  /** How many lines have which reason: the rejected, the duplicates, and the accepted ones with a note. */
  reasons: z.record(z.string(), count),
  file: ImportedFile.nullable(),
  rejected_url: z.string(),
});
export type ImportReport = z.infer<typeof ImportReport>;

/** An import as it stands. Until it is done, its leads are in no list. */
export const Import = ImportReport.extend({
  state: z.enum(['running', 'done', 'failed']),
  /** Of the upload. */
  bytes_read: count,
  /** Why it failed: a code, or `interrupted`, or `taken over` by another import. */
  error: z.string().nullable(),
  created_at: z.iso.datetime(),
  touched_at: z.iso.datetime(),
});
export type Import = z.infer<typeof Import>;

export const Counts = z.object({
  live: count,
  queued: count,
  finished_today: count,
  concurrency_limit: count,
});
export type Counts = z.infer<typeof Counts>;

export function page<T extends z.ZodType>(item: T) {
  return z.object({ items: z.array(item), next: z.string().nullable() });
}

export const ApiError = z.object({
  error: z.string(),
  code: z.string(),
  request_id: z.string(),
  details: z.unknown().optional(),
});
export type ApiError = z.infer<typeof ApiError>;
