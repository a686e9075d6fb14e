import type { RunId } from '@carillon/contract';
import { type Canary, probeUniqueRunLead } from '@carillon/engine';
import type { Check } from '../options.ts';
import type { Finding } from '../prove.ts';

/** `unique_run_lead` is what it should be in the catalog, and the database refuses a second job by it. */
export async function proveConstraint({ db }: Check, canary: Canary, run_id: RunId): Promise<Finding> {
  const { wrong: wrong_in_catalog, ...evidence } = await probeUniqueRunLead(db, canary, run_id);
  const refused_by = evidence.duplicate_refused_by;
  const wrong = [
    ...wrong_in_catalog,
    refused_by === null && 'a second job for the same lead and run was taken',
    refused_by !== null && refused_by !== 'unique_run_lead' && `a second job was refused by ${refused_by} instead`,
  ].filter((fault) => fault !== false);
  if (wrong.length > 0)
    return { ok: false, sentence: `A lead could stand twice in a run: ${wrong.join('; ')}`, evidence: { ...evidence } };
  return {
    ok: true,
    sentence: 'unique_run_lead is valid, and refused a second job for the same lead and run',
    evidence: { ...evidence },
  };
}
