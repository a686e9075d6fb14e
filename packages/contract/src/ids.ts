import { z } from 'zod';

/**
 * Ids are branded so that a run's id can't be passed where a business's is wanted. On the wire they are plain JSON
 * numbers (PostgreSQL bigint below 2^53), but for a job's, which is the string `<run_id>-<seq>`.
 */
const id = whole(Number.MAX_SAFE_INTEGER);

/** A JSON number or its decimal digits. Plain coercion would read `true` as run 1 and stop it. */
function whole(max: number) {
  const digits = z.string().regex(/^[1-9]\d{0,15}$/, 'a whole number');
  return z.union([z.number(), digits.transform(Number)]).pipe(z.number().int().positive().max(max));
}

export const BusinessId = id.brand<'BusinessId'>();
export type BusinessId = z.infer<typeof BusinessId>;
export const RunId = id.brand<'RunId'>();
export type RunId = z.infer<typeof RunId>;
export const LeadId = id.brand<'LeadId'>();
export type LeadId = z.infer<typeof LeadId>;
export const ListId = id.brand<'ListId'>();
export type ListId = z.infer<typeof ListId>;
export const ImportId = id.brand<'ImportId'>();
export type ImportId = z.infer<typeof ImportId>;
export const KeyId = id.brand<'KeyId'>();
export type KeyId = z.infer<typeof KeyId>;
/** A system administrator's key; it belongs to no business. */
export const SystemKeyId = id.brand<'SystemKeyId'>();
export type SystemKeyId = z.infer<typeof SystemKeyId>;
export const CarrierAccountId = id.brand<'CarrierAccountId'>();
export type CarrierAccountId = z.infer<typeof CarrierAccountId>;

/** A job's number in its run, from 1. */
export const Seq = whole(2_147_483_647).brand<'Seq'>();
export type Seq = z.infer<typeof Seq>;

export interface JobKey {
  run_id: RunId;
  seq: Seq;
}

const JOB_ID = /^([1-9]\d{0,15})-([1-9]\d{0,9})$/;

/** Reads `"<run_id>-<seq>"`; null when the text is no job id (a bare number is a run's id, never a job's). */
export function parseJobId(text: string): JobKey | null {
  const match = JOB_ID.exec(text);
  if (!match) return null;
  const run = RunId.safeParse(match[1]);
  const seq = Seq.safeParse(match[2]);
  return run.success && seq.success ? { run_id: run.data, seq: seq.data } : null;
}

export function formatJobId(key: JobKey): string {
  return `${key.run_id}-${key.seq}`;
}
