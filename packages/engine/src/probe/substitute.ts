import { randomBytes } from 'node:crypto';
import type { RunId } from '@carillon/contract';
import { type ClaimState, claim, type ClaimedAttempt } from '../call/claim.ts';
import { recordEvidence } from '../call/record.ts';
import type { Clock } from '../clock.ts';
import { type Database, inBusiness } from '../db/database.ts';
import type { Limits } from '../limits.ts';
import { leaseRun } from '../run/lease.ts';
import { type Canary, READINESS_ACTOR } from './canary.ts';

/** Claims a canary's run by the engine's own verbs where no worker does, so that a stop has somebody to obey it. */
export interface Substitute {
  /** What a claim gives now. */
  claim(): Promise<ClaimState>;
  /** Says of every attempt that it committed that it was not dialled. */
  giveBack(): Promise<void>;
}

/** Null when somebody else has the run by now. */
export async function substituteWorker(
  db: Database,
  { business_id }: Canary,
  run_id: RunId,
  clock: Clock,
  limits: Limits,
): Promise<Substitute | null> {
  const worker_id = `readiness-${randomBytes(4).toString('hex')}`;
  const lease = await inBusiness(db, business_id, (tx) => leaseRun(tx, run_id, worker_id, limits));
  if (!lease) return null;
  const committed: ClaimedAttempt[] = [];
  return {
    async claim() {
      const { state, attempts } = await claim(db, lease, worker_id, clock, limits);
      committed.push(...attempts);
      return state;
    },
    async giveBack() {
      if (committed.length === 0) return;
      const evidence = { kind: 'not_dialed', cause: 'a check of readiness', unreachable: false } as const;
      await recordEvidence(
        db,
        business_id,
        run_id,
        committed.splice(0).map((key) => ({ key, evidence, actor: READINESS_ACTOR })),
        limits,
      );
    },
  };
}
