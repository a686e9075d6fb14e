import { CALL_OUTCOMES, type CallOutcome, type Job, type RunId } from '@carillon/contract';
import { z } from 'zod';
import { CliError } from '../errors.ts';

/** What is read here of a call in the simulated carrier's own ledger. */
const LedgerCall = z.object({ sid: z.string(), to: z.string(), url: z.string().nullable() });

/** A call that the carrier has in its books, and the job that it says it was made for. */
export interface LedgerCall {
  sid: string;
  to: string;
  seq: number;
}

/** The carrier's calls of one run: those whose callback address is one of that run's attempts. */
export async function readLedger(simulator_url: string, business_id: number, run_id: RunId): Promise<LedgerCall[]> {
  const response = await fetch(`${simulator_url}/_sim/ledger`);
  if (!response.ok)
    throw new CliError('ledger_unreadable', `The carrier does not show its ledger (HTTP ${response.status})`);
  const lines = (await response.text()).split('\n').filter((line) => line !== '');
  return lines.flatMap((line) => {
    const call = LedgerCall.parse(JSON.parse(line));
    const key = attemptOf(call.url ?? '');
    if (key?.business_id !== business_id || key.run_id !== run_id) return [];
    return [{ sid: call.sid, to: call.to, seq: key.seq }];
  });
}

/** The key in a callback address: …/carriers/driver/business/account/run/seq/attempt/token/answer. */
function attemptOf(url: string): { business_id: number; run_id: number; seq: number } | undefined {
  const parts = url.split('/');
  const [, business, , run, seq] = parts.slice(parts.lastIndexOf('carriers') + 1);
  return parts.includes('carriers')
    ? { business_id: Number(business), run_id: Number(run), seq: Number(seq) }
    : undefined;
}

export interface Comparison {
  calls: number;
  numbers: number;
  /** In what they differ, a sentence each; empty when the carrier's books and ours agree. */
  differences: string[];
}

/** Compares a finished run with the carrier's books, for a run whose policy calls nobody a second time. */
export function compareWithLedger(jobs: readonly Job[], calls: readonly LedgerCall[]): Comparison {
  const bySeq = Map.groupBy(calls, ({ seq }) => seq);
  const differences = jobs.flatMap((job) => {
    const seq = Number(job.job_id.split('-')[1]);
    const made = bySeq.get(seq) ?? [];
    bySeq.delete(seq);
    const wanted = tookPlace(job) ? 1 : 0;
    if (made.length !== wanted)
      return [`job ${job.job_id} (${job.status}) should have ${wanted} calls, and the carrier has ${made.length}`];
    return made
      .filter(({ to }) => to !== job.phone)
      .map(({ sid }) => `call ${sid} went to another number than job ${job.job_id}`);
  });
  for (const strangers of bySeq.values())
    differences.push(...strangers.map(({ sid }) => `call ${sid} belongs to no job of the run`));
  return { calls: calls.length, numbers: new Set(calls.map(({ to }) => to)).size, differences };
}

function tookPlace({ last_outcome }: Job): boolean {
  return last_outcome !== null && CALL_OUTCOMES.includes(last_outcome as CallOutcome);
}
