import type { RunId } from '@carillon/contract';
import { type Canary, probeUniqueRunLead } from '@carillon/engine';
import type { Check } from '../options.ts';
import type { Finding } from '../prove.ts';

const DEFINITION = 'UNIQUE (business_id, run_id, lead_id)';

/** `unique_run_lead` is what it should be in the catalog, and the database refuses a second job by it. */
export async function proveConstraint({ db }: Check, canary: Canary, run_id: RunId): Promise<Finding> {
  const seen = await probeUniqueRunLead(db, canary, run_id);
  const wrong = [
    seen.definition === null && 'there is no constraint unique_run_lead on outbound_call_jobs',
    seen.definition !== null && seen.definition !== DEFINITION && `unique_run_lead is "${seen.definition}"`,
    seen.definition !== null && !seen.validated && 'unique_run_lead is not validated',
    seen.deferrable && 'unique_run_lead can be deferred to the end of a transaction',
    seen.definition !== null && !(seen.unique && seen.index_valid) && 'the index under unique_run_lead is not valid',
    seen.duplicate_refused_by === null && 'a second job for the same lead and run was taken',
    seen.duplicate_refused_by !== null &&
      seen.duplicate_refused_by !== 'unique_run_lead' &&
      `a second job was refused by ${seen.duplicate_refused_by}, not by unique_run_lead`,
  ].filter((problem) => problem !== false);
  if (wrong.length > 0)
    return { ok: false, sentence: `A lead could stand twice in a run: ${wrong.join('; ')}`, evidence: { ...seen } };
  return {
    ok: true,
    sentence: 'unique_run_lead is valid, and refused a second job for the same lead and run',
    evidence: { ...seen },
  };
}
