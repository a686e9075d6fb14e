import { z } from 'zod';
import { ROLES } from './api.ts';

/** Keys, businesses and entries into them: what owners and system administrators handle. */

const time = z.iso.datetime().nullable();

/** The roles that a key can be given. `system_admin` is had by entering a business alone. */
export const KEY_ROLES = ['owner', 'admin', 'agent'] as const;
export type KeyRole = (typeof KEY_ROLES)[number];

const label = z.string().trim().max(200);

export const CreateKey = z.strictObject({
  role: z.enum(KEY_ROLES),
  /** What it is for; shown beside it, never checked. */
  label: label.optional(),
  /** Never, when left out. */
  expires_at: z.iso.datetime({ offset: true }).optional(),
});
export type CreateKey = z.infer<typeof CreateKey>;

/** A key without its secret, which nobody can read again. */
export const ApiKey = z.object({
  key_id: z.number(),
  role: z.enum(ROLES),
  label: z.string(),
  state: z.enum(['valid', 'expired', 'revoked']),
  created_at: z.iso.datetime(),
  expires_at: time,
  revoked_at: time,
  /** The system administrator's key, where it comes from an entry into the business. */
  entered_by: z.number().nullable(),
});
export type ApiKey = z.infer<typeof ApiKey>;

/** The one answer in which a key stands. */
export const CreatedKey = ApiKey.extend({ key: z.string() });
export type CreatedKey = z.infer<typeof CreatedKey>;

/** A system administrator's key, without its secret. */
export const SystemKey = ApiKey.omit({ role: true, entered_by: true });
export type SystemKey = z.infer<typeof SystemKey>;

export const CreateBusiness = z.strictObject({
  name: z.string().trim().min(1).max(200),
  country: z
    .string()
    .regex(/^[A-Za-z]{2}$/, 'two letters such as IL')
    .optional(),
  language: z.enum(['en', 'he']).optional(),
  time_zone: z.string().trim().max(64).optional(),
});

/** A business as it is seen from outside: that it exists, and what it is called. */
export const BusinessName = z.object({ business_id: z.number(), name: z.string() });
export type BusinessName = z.infer<typeof BusinessName>;
/** With its owner's first key, which is told here once. */
export const CreatedBusiness = z.object({ business_id: z.number(), key_id: z.number(), key: z.string() });

export const ENTRY_MINUTES_MAX = 480;
export const EnterBusiness = z.strictObject({
  /** Why; the business reads it in its trail. */
  reason: z.string().trim().min(5).max(500),
  minutes: z.number().int().min(1).max(ENTRY_MINUTES_MAX).default(60),
});
export type EnterBusiness = z.infer<typeof EnterBusiness>;
export const Entry = z.object({
  business_id: z.number(),
  key_id: z.number(),
  key: z.string(),
  expires_at: z.iso.datetime(),
});
export type Entry = z.infer<typeof Entry>;

export const SecurityEvent = z.object({
  event_id: z.number(),
  action: z.string(),
  at: z.iso.datetime(),
  /** How many alike were gathered into it; of a business's, its own trail says so. */
  times: z.number().nullable(),
  /** Whose key it was; null for strangers. */
  business_id: z.number().nullable(),
  actor: z.string(),
  source: z.string().nullable(),
  request_id: z.string().nullable(),
  subject: z.object({ type: z.string(), id: z.string() }).nullable(),
  /**
   * Of an id that was refused: `foreign` when it was another business's by then, `absent` when it was nobody's. The
   * answer that was given does not tell the two apart. Null for other events.
   */
  subject_was: z.enum(['foreign', 'absent']).nullable(),
  /** Whose a foreign id is. */
  subject_business_id: z.number().nullable(),
});
export type SecurityEvent = z.infer<typeof SecurityEvent>;

/** A run of some business. */
const RunOfBusiness = z.object({ business_id: z.number(), run_id: z.number() });

/** Whether the database may have forgotten calls, and what has to be done before the installation goes on. */
export const RestoreReport = z.object({
  /** Null, and the reason too: it is not suspected. */
  suspected_at: z.iso.datetime().nullable(),
  reason: z.string().nullable(),
  /** How many restores were noticed so far. */
  restores: z.number(),
  /** Accounts whose carrier's list has not been compared yet, and what stood in the way last. */
  unsettled: z.array(
    z.object({ business_id: z.number(), carrier_account_id: z.number(), problem: z.string().nullable() }),
  ),
  /** A person has just said that the installation may go on. */
  acknowledged: z.boolean(),
  /** Runs that are still paused for a restore; `compared`: with their carrier's list, so that they may be resumed. */
  paused_runs: z.array(RunOfBusiness.extend({ compared: z.boolean() })),
  /** Runs that have just been resumed. */
  resumed_runs: z.array(RunOfBusiness),
});
export type RestoreReport = z.infer<typeof RestoreReport>;

/** One number of one account at a carrier that several businesses call from: their calls can be taken for each other's. */
export const SharedNumber = z.object({
  base_url: z.string(),
  account_sid: z.string(),
  from_number: z.string(),
  accounts: z.array(z.object({ business_id: z.number(), carrier_account_id: z.number() })),
});
export type SharedNumber = z.infer<typeof SharedNumber>;
export const SHARED_NUMBERS_MAX = 500;

export const SecurityReport = z.object({
  items: z.array(SecurityEvent),
  next: z.string().nullable(),
  /** As they are now, with every page; the first 500. */
  shared_numbers: z.array(SharedNumber),
});
export type SecurityReport = z.infer<typeof SecurityReport>;
