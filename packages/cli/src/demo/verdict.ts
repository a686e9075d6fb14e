import type { ImportReport, Job, Run } from '@carillon/contract';
import { compareWithLedger, type LedgerCall } from './ledger.ts';

/** What "carillon start --exit --json" prints. */
export interface Verdict {
  ok: boolean;
  lines: number;
  accepted: number;
  duplicates: number;
  rejected: number;
  run: Run;
  carrier: { calls: number; numbers: number };
}

/**
 * Whether every line of the file, every lead of the run and every call of the carrier is accounted for; where not, each
 * thing that is missing in a sentence.
 */
export function judge(
  report: ImportReport,
  run: Run,
  jobs: readonly Job[],
  calls: readonly LedgerCall[],
): { verdict: Verdict; problems: string[] } {
  const { lines, accepted, duplicates, rejected } = report;
  const { differences, ...carrier } = compareWithLedger(jobs, calls);
  const problems: string[] = [];
  const expect = (holds: boolean, problem: string) => void (holds || problems.push(problem));
  expect(
    lines === accepted + duplicates + rejected,
    `${lines} lines were read, and ${accepted + duplicates + rejected} are accounted for`,
  );
  expect(
    run.status === 'completed',
    `run ${run.run_id} is ${run.status}${run.last_error ? `: ${run.last_error}` : ''}`,
  );
  expect(run.total_leads === accepted, `${accepted} leads were accepted, and the run has ${run.total_leads}`);
  expect(sumOf(run) === run.total_leads, `the run's counters add up to ${sumOf(run)} of ${run.total_leads} leads`);
  expect(jobs.length === run.total_leads, `the run has ${jobs.length} jobs for ${run.total_leads} leads`);
  expect(run.needs_review === 0, `of ${run.needs_review} leads nobody can say whether they were called`);
  problems.push(...differences);
  return { verdict: { ok: problems.length === 0, lines, accepted, duplicates, rejected, run, carrier }, problems };
}

function sumOf(run: Run): number {
  const { queued, waiting, in_progress, completed, failed, cancelled, skipped, needs_review } = run;
  return queued + waiting + in_progress + completed + failed + cancelled + skipped + needs_review;
}
