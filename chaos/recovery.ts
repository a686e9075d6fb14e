import type { Postgres } from './postgres.ts';
import { nowUs } from './wait.ts';

/** Something because of which a reclaim may have to wait; its end is known when it is over. */
export interface Disturbance {
  from_us: number;
  to_us: number;
  end(): void;
}

interface Gone {
  worker_id: string;
  at_us: number;
  /** When it was woken, if it was. */
  back_us: number;
}

/** Keeps what is needed to say afterwards how soon runs were claimed again whose worker was gone. */
export interface RecoveryWatch {
  /** A worker was killed or stopped just now. The returned function says that it was woken. */
  gone(worker_id: string): { back(): void };
  /** The database is out of reach, or slow. */
  begin(): Disturbance;
  gones: readonly Gone[];
  disturbances: readonly Disturbance[];
}

export function watchRecovery(): RecoveryWatch {
  const gones: Gone[] = [];
  const disturbances: Disturbance[] = [];
  return {
    gones,
    disturbances,
    gone(worker_id) {
      const gone = { worker_id, at_us: nowUs(), back_us: Number.POSITIVE_INFINITY };
      gones.push(gone);
      return { back: () => void (gone.back_us = nowUs()) };
    },
    begin() {
      const disturbance: Disturbance = {
        from_us: nowUs(),
        to_us: Number.POSITIVE_INFINITY,
        end: () => void (disturbance.to_us = nowUs()),
      };
      disturbances.push(disturbance);
      return disturbance;
    },
  };
}

/** A run's leases, as the trail tells of them. */
interface LeaseEvent {
  business_id: number;
  run_id: number;
  action: string;
  status: string;
  worker_id: string | null;
  lease_epoch: number | null;
  at_us: number;
}

const EVENTS = `
  SELECT business_id, subject_id::bigint AS run_id, action, after->>'status' AS status,
    after->>'locked_by_worker' AS worker_id, (after->>'lease_epoch')::int AS lease_epoch,
    (extract(epoch FROM at) * 1000000)::bigint AS at_us
  FROM carillon.audit_events
  WHERE subject_type = 'run' AND after->>'status' IS NOT NULL ORDER BY business_id, subject_id, event_id`;

/** A run whose worker was gone. */
export interface Recovery {
  run_id: number;
  worker_id: string;
  /** Another worker took it; otherwise somebody stopped or paused it first, or its own worker woke. */
  reclaimed: boolean;
  /** From the worker's end until then. */
  whole_ms: number;
  /** The longest stretch of it in which nothing else stood in the way. */
  undisturbed_ms: number;
}

/**
 * For each run that a worker held when it was killed or stopped: how long it waited. Where another worker goes, or the
 * database, the time counts anew: from then on it is that one's lease, or nobody's hands, that the run waits for.
 */
export async function measureRecovery(postgres: Postgres, watch: RecoveryWatch): Promise<Recovery[]> {
  const events = await postgres.rows<LeaseEvent>(EVENTS);
  const runs = Map.groupBy(events, ({ business_id, run_id }) => `${business_id}/${run_id}`);
  const found: Recovery[] = [];
  for (const gone of watch.gones)
    for (const trail of runs.values()) {
      const held = trail.findLast(({ at_us }) => at_us <= gone.at_us);
      if (held?.worker_id !== gone.worker_id || held.status !== 'running') continue;
      const next = trail.find(({ at_us }) => at_us > gone.at_us);
      const to_us = Math.min(next?.at_us ?? nowUs(), gone.back_us);
      found.push({
        run_id: held.run_id,
        worker_id: gone.worker_id,
        reclaimed: next?.action === 'run.reclaimed' && next.at_us === to_us,
        whole_ms: (to_us - gone.at_us) / 1_000,
        undisturbed_ms: longestGapUs(watch, gone.at_us, to_us) / 1_000,
      });
    }
  return found;
}

function longestGapUs({ gones, disturbances }: RecoveryWatch, from_us: number, to_us: number): number {
  const cuts = [
    ...gones.map(({ at_us }) => ({ from_us: at_us, to_us: at_us })),
    ...disturbances.map((one) => ({ from_us: one.from_us, to_us: one.to_us })),
  ]
    .filter((cut) => cut.to_us > from_us && cut.from_us < to_us)
    .sort((a, b) => a.from_us - b.from_us);
  let free_us = from_us;
  let longest_us = 0;
  for (const cut of cuts) {
    longest_us = Math.max(longest_us, cut.from_us - free_us);
    free_us = Math.max(free_us, cut.to_us);
  }
  return Math.max(longest_us, to_us - free_us);
}
