import type { RunId } from '@carillon/contract';
import { type Database, queryGlobal, violatedConstraint } from '../db/database.ts';
import type { Canary } from './canary.ts';
import { rolledBack } from './roll-back.ts';

export interface ConstraintInCatalog {
  /** As pg_constraint has it; null: there is none of this name on the jobs. */
  definition: string | null;
  validated: boolean;
  deferrable: boolean;
  /** Of the index under it. */
  unique: boolean;
  index_valid: boolean;
}

export interface ConstraintProbe extends ConstraintInCatalog {
  /** Which constraint refused a second job for the same lead and run; null: the database took it. */
  duplicate_refused_by: string | null;
  /** What is wrong in the catalog. */
  wrong: string[];
}

const DEFINITION = 'UNIQUE (business_id, run_id, lead_id)';

/** What the catalog has of `unique_run_lead`, and what is wrong with that, in words. */
export async function readConstraint(
  db: Database,
): Promise<{ seen: ConstraintInCatalog; valid: boolean; wrong: string[] }> {
  const [seen] = await queryGlobal<ConstraintInCatalog>(
    db,
    `SELECT pg_get_constraintdef(c.oid) AS definition, coalesce(c.convalidated, false) AS validated,
            coalesce(c.condeferrable, false) AS deferrable,
            coalesce(i.indisunique AND i.indimmediate, false) AS unique,
            coalesce(i.indisvalid AND i.indisready, false) AS index_valid
     FROM (VALUES ('unique_run_lead')) AS wanted (name)
     LEFT JOIN pg_constraint c ON c.conname = wanted.name AND c.contype = 'u'
       AND c.conrelid = to_regclass('carillon.outbound_call_jobs')
     LEFT JOIN pg_index i ON i.indexrelid = c.conindid`,
  );
  if (!seen) throw new Error('the catalog gave no row');
  const wrong = faultsOf(seen);
  return { seen, valid: wrong.length === 0, wrong };
}

function faultsOf({ definition, validated, deferrable, unique, index_valid }: ConstraintInCatalog): string[] {
  if (definition === null) return ['there is no constraint unique_run_lead on outbound_call_jobs'];
  return [
    definition !== DEFINITION && `unique_run_lead is "${definition}"`,
    !validated && 'unique_run_lead is not validated',
    deferrable && 'unique_run_lead can be deferred to the end of a transaction',
    !deferrable && !unique && 'the index under unique_run_lead is not unique',
    !index_valid && 'the index under unique_run_lead is not valid',
  ].filter((fault) => fault !== false);
}

/**
 * Reads `unique_run_lead` from the catalog and tries it: a second job for the canary run's first lead, in a transaction
 * that is rolled back.
 */
export async function probeUniqueRunLead(db: Database, canary: Canary, run_id: RunId): Promise<ConstraintProbe> {
  const { seen, wrong } = await readConstraint(db);
  return { ...seen, wrong, duplicate_refused_by: await insertTwice(db, canary, run_id) };
}

/** The highest number there is: no job's. */
const NO_SEQ = 2_147_483_647;

async function insertTwice(db: Database, { business_id, lead_ids }: Canary, run_id: RunId): Promise<string | null> {
  try {
    await rolledBack(db, business_id, (tx) =>
      tx.query('INSERT INTO carillon.outbound_call_jobs (business_id, run_id, seq, lead_id) VALUES ($1, $2, $3, $4)', [
        business_id,
        run_id,
        NO_SEQ,
        lead_ids[0],
      ]),
    );
    return null;
  } catch (error) {
    const refused_by = violatedConstraint(error);
    if (refused_by === undefined) throw error;
    return refused_by;
  }
}
