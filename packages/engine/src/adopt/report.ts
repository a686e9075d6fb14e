import type { AdoptingBusiness } from './businesses.ts';
import { describeShape } from './shape.ts';
import type { Source } from './source.ts';
import { addTallies, type Tally } from './tally.ts';

/** Rows of the old tables, and what became of them. `adds_up`: each one is accounted for, and none twice. */
export interface Sums {
  runs: { old: number; taken: number; adds_up: boolean };
  jobs: { old: number; taken: number; archived: number; adds_up: boolean };
  leads: { met: number; made: number; merged: number; refused: number; adds_up: boolean };
}

export interface AdoptReport extends Tally {
  /** Every old row is accounted for. */
  ok: boolean;
  dry_run: boolean;
  /** An adoption of this source had ended before, and nothing was left to be done. */
  nothing_new: boolean;
  source: { database: string; schema: string };
  /** Columns: what was recognised under which name, what is not there, and what is assumed for it. */
  found: Record<string, string>;
  missing: string[];
  assumed: string[];
  warnings: string[];
  /** business_id: null in a dry run for one that is yet to be made. */
  businesses: { old_business: string; business_id: number | null; made: boolean }[];
  sums: Sums;
}

export function makeReport(
  source: Source,
  businesses: readonly AdoptingBusiness[],
  facts: {
    dry_run: boolean;
    nothing_new: boolean;
    assumed: readonly string[];
    warnings: readonly string[];
    samples_ids: number;
  },
): AdoptReport {
  const ordered = businesses.toSorted((a, b) => a.old_business.localeCompare(b.old_business, 'en', { numeric: true }));
  const tally = addTallies(
    ordered.map((business) => business.tally),
    facts.samples_ids,
  );
  const sums = sumUp(source, tally);
  const shape = describeShape(source.shape);
  const warnings = [...facts.warnings];
  if (!sums.runs.adds_up || !sums.jobs.adds_up)
    warnings.push(
      'The old tables have changed since their adoption began, in rows that had been read: not every row is accounted for. Stop the old system before its data is taken over',
    );
  return {
    ok: sums.runs.adds_up && sums.jobs.adds_up && sums.leads.adds_up,
    dry_run: facts.dry_run,
    nothing_new: facts.nothing_new,
    source: { database: source.database, schema: source.schema },
    ...shape,
    assumed: [...shape.assumed, ...facts.assumed],
    warnings,
    businesses: ordered.map(({ old_business, business_id, made }) => ({ old_business, business_id, made })),
    ...tally,
    sums,
  };
}

function sumUp({ counts }: Source, { runs, jobs, leads }: Tally): Sums {
  const sum = (values: object) => Object.values(values).reduce((total: number, value: number) => total + value, 0);
  const archived = sum(jobs.archived);
  return {
    runs: {
      old: counts.runs,
      taken: sum(runs.became),
      adds_up: counts.runs === runs.read && runs.read === sum(runs.became),
    },
    jobs: {
      old: counts.jobs,
      taken: jobs.taken,
      archived,
      adds_up: counts.jobs === jobs.read && jobs.read === jobs.taken + archived && jobs.taken === sum(jobs.became),
    },
    leads: {
      met: leads.read,
      made: leads.made,
      merged: leads.merged,
      refused: leads.refused,
      adds_up: leads.read === leads.made + leads.merged + leads.refused,
    },
  };
}
