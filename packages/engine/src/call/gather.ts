import type { BusinessId, RunId } from '@carillon/contract';
import type { Database } from '../db/database.ts';
import { GuardError, sqlState } from '../db/database.ts';
import type { Waker } from '../db/wake.ts';
import type { Limits } from '../limits.ts';
import type { EvidenceItem, Recorded } from './attempt.ts';
import { recordEvidence } from './record.ts';

/** Takes evidence from wherever it comes in a process and records it, gathered: one transaction for what arrives within a few milliseconds. */
export interface Gatherer {
  /**
   * Resolves when the evidence is committed. A database that can't be reached is waited for: evidence is never dropped
   * while the process lives, and what dies with it is found again by the reapers.
   */
  record(item: EvidenceItem): Promise<Recorded>;
  /** Resolves when everything given so far is recorded. */
  drained(): Promise<void>;
  /** Gives up what can't be recorded: the process ends, and the reapers find what it knew. */
  close(): void;
}

interface Waiting extends EvidenceItem {
  resolve(recorded: Recorded): void;
  reject(error: unknown): void;
}

interface Group {
  business_id: BusinessId;
  run_id: RunId;
  waiting: Waiting[];
}

const RETRY_MS = 250;

export function createGatherer(
  db: Database,
  waker: Waker,
  limits: Limits,
  onRetry: (error: unknown) => void,
): Gatherer {
  const groups = new Map<string, Group>();
  const inFlight = new Set<Promise<unknown>>();
  let closed = false;

  /** One flush of a run at a time: what arrives meanwhile forms the next batch, in order. */
  async function flushUntilEmpty(name: string, group: Group): Promise<void> {
    await pause(limits.gather_ms);
    while (group.waiting.length > 0) {
      const batch = group.waiting.splice(0, limits.gather_batch_items);
      await flush(group, batch);
    }
    groups.delete(name);
  }

  async function flush(group: Group, batch: Waiting[]): Promise<void> {
    for (;;) {
      try {
        const recorded = await recordEvidence(db, group.business_id, group.run_id, batch, limits);
        batch.forEach((item, i) => item.resolve(recorded[i] ?? 'nothing'));
        waker.wake(group.business_id);
        return;
      } catch (error) {
        onRetry(error);
        if (closed || (batch.length === 1 && isOurFault(error))) return batch.forEach((item) => item.reject(error));
        if (!isOurFault(error)) await pause(RETRY_MS);
        else return await eachAlone(group, batch);
      }
    }
  }

  /** One broken item must not hold up the others. */
  async function eachAlone(group: Group, batch: Waiting[]): Promise<void> {
    for (const item of batch) await flush(group, [item]);
  }

  return {
    async record(item) {
      const name = `${item.key.business_id}/${item.key.run_id}`;
      return await new Promise<Recorded>((resolve, reject) => {
        const waiting = { ...item, resolve, reject };
        const group = groups.get(name);
        if (group) {
          group.waiting.push(waiting);
          return;
        }
        const fresh: Group = { business_id: item.key.business_id, run_id: item.key.run_id, waiting: [waiting] };
        groups.set(name, fresh);
        const flushing = flushUntilEmpty(name, fresh).finally(() => inFlight.delete(flushing));
        inFlight.add(flushing);
      });
    },
    async drained() {
      while (inFlight.size > 0) await Promise.all(inFlight);
    },
    close() {
      closed = true;
    },
  };
}

/** Wrong data or a broken guard, which trying again can't mend; anything else is a database out of reach. */
function isOurFault(error: unknown): boolean {
  if (error instanceof GuardError || error instanceof TypeError) return true;
  const state = sqlState(error);
  // Classes 22, 23 and 42: bad values, violated constraints, wrong statements.
  return state !== undefined && /^(22|23|42)/.test(state);
}

async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}
