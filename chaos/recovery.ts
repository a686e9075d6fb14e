import { LIMITS } from './limits.ts';
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

interface Life {
  worker_id: string;
  from_us: number;
  /** From when on it takes no more runs, because it was told to end; and when it had ended. */
  leaving_us: number;
  left_us: number;
}

/** Keeps what is needed to say afterwards how soon runs were claimed again whose worker was gone. */
export interface RecoveryWatch {
  /** A worker looks for runs from now on. */
  here(worker_id: string): void;
  /** A worker was told to end just now. The returned function says that it has. */
  leaves(worker_id: string): { left(): void };
  /** A worker was killed or stopped just now. The returned function says that it was woken. */
  gone(worker_id: string): { back(): void };
  /** The database is out of reach, or slow. */
  begin(): Disturbance;
  lives: readonly Life[];
  gones: readonly Gone[];
  disturbances: readonly Disturbance[];
}

const NEVER_US = Number.POSITIVE_INFINITY;

export function watchRecovery(): RecoveryWatch {
  const lives: Life[] = [];
  const gones: Gone[] = [];
  const disturbances: Disturbance[] = [];
  return {
    lives,
    gones,
    disturbances,
    here: (worker_id) => void lives.push({ worker_id, from_us: nowUs(), leaving_us: NEVER_US, left_us: NEVER_US }),
    leaves(worker_id) {
      const life = lives.find((one) => one.worker_id === worker_id);
      if (life) life.leaving_us = nowUs();
      return { left: () => void (life && (life.left_us = nowUs())) };
    },
    gone(worker_id) {
      // One that is killed while it stands still was gone before.
      const open = gones.find((one) => one.worker_id === worker_id && one.back_us === NEVER_US);
      const gone = open ?? { worker_id, at_us: nowUs(), back_us: NEVER_US };
      if (!open) gones.push(gone);
      return { back: () => void (gone.back_us = nowUs()) };
    },
    begin() {
      const disturbance: Disturbance = {
        from_us: nowUs(),
        to_us: NEVER_US,
        end: () => void (disturbance.to_us = nowUs()),
      };
      disturbances.push(disturbance);
      return disturbance;
    },
  };
}

/** A change of a run, as the trail tells of it. */
interface RunEvent {
  business_id: number;
  run_id: number;
  status: string;
  /** Who holds it from then on; set where a worker took it. */
  worker_id: string | null;
  /** Who held it until then. */
  from_worker_id: string | null;
  at_us: number;
}

const EVENTS = `
  SELECT business_id, subject_id::bigint AS run_id, after->>'status' AS status,
    after->>'locked_by_worker' AS worker_id, before->>'locked_by_worker' AS from_worker_id,
    (extract(epoch FROM at) * 1000000)::bigint AS at_us
  FROM carillon.audit_events
  WHERE subject_type = 'run' AND after->>'status' IS NOT NULL ORDER BY business_id, subject_id, event_id`;

/** A run whose worker was gone. */
export interface Recovery {
  run_id: number;
  worker_id: string;
  /** Another worker took it; otherwise somebody stopped or paused it first, or its own worker woke. */
  taken_over: boolean;
  /** From its worker's end until then. */
  whole_ms: number;
  /** Nothing stood in the way of the next one in all that time. */
  undisturbed: boolean;
  /** The longest stretch of it in which nothing did. */
  undisturbed_ms: number;
}

interface Span {
  from_us: number;
  to_us: number;
}

/**
 * For each run that a worker held when it was killed or stopped, how long it waited: by the trail, in which stands who
 * took it and from whom. The end of any other worker is nothing to it, but where the time counts anew:
 * - the database was away or slow,
 * - whoever took it went too: from then on it is that one's lease that has to run out,
 * - those that were left had no room for it: each takes its share of the runs, and one that is gone has a share until
 *   its own time is over. Where nobody is left, nobody has room.
 */
export async function measureRecovery(postgres: Postgres, watch: RecoveryWatch): Promise<Recovery[]> {
  const events = await postgres.rows<RunEvent>(EVENTS);
  const runs = Map.groupBy(events, ({ business_id, run_id }) => `${business_id}/${run_id}`);
  const found: Recovery[] = [];
  for (const gone of watch.gones) {
    const no_room = findNoRoom(watch, gone, events);
    for (const trail of runs.values())
      for (const [i, { run_id, worker_id, at_us }] of trail.entries()) {
        if (worker_id !== gone.worker_id || gone.back_us <= at_us) continue;
        const next = trail.slice(i + 1).find((event) => event.worker_id !== null || event.status !== 'running');
        const until_us = next?.at_us ?? nowUs();
        if (gone.at_us >= until_us) continue;
        // It had given the run back; since when nobody held it then is not known.
        if (next && next.worker_id !== null && next.from_worker_id !== worker_id) continue;
        const waited = { from_us: Math.max(at_us, gone.at_us), to_us: Math.min(until_us, gone.back_us) };
        const expired_us = waited.from_us + EXPIRED_AFTER_US;
        const late = no_room.map((span) => ({ ...span, from_us: Math.max(span.from_us, expired_us) }));
        const free_us = longestFreeUs([...watch.disturbances, ...late], waited);
        const whole_us = waited.to_us - waited.from_us;
        found.push({
          run_id,
          worker_id,
          taken_over: waited.to_us === next?.at_us && next.worker_id !== null && next.worker_id !== worker_id,
          whole_ms: whole_us / 1_000,
          undisturbed: free_us === whole_us,
          undisturbed_ms: free_us / 1_000,
        });
      }
  }
  return found;
}

/** Its last heartbeat is a third of a TTL old at most: room that there is not before then is wanted by nobody. */
const EXPIRED_AFTER_US = (LIMITS.lease_ttl_ms * 1_000 * 2) / 3;

const OPEN = ['pending', 'running'];

/** When the workers that lived, each with its share, could not hold all runs that there were; whatever `but` has of them. */
function findNoRoom({ lives, gones }: RecoveryWatch, but: Gone, events: readonly RunEvent[]): Span[] {
  const changes: { at_us: number; living?: number; counted?: number; runs?: number }[] = [];
  for (const { from_us, leaving_us, left_us } of lives)
    changes.push(
      { at_us: from_us, living: 1, counted: 1 },
      { at_us: leaving_us, living: -1 },
      { at_us: left_us, counted: -1 },
    );
  for (const gone of gones) {
    const { at_us, back_us } = gone;
    // What it last said of itself holds for a TTL: as long as its lease, if it is the one of whose runs is asked.
    const counted_us = gone === but ? at_us : Math.min(back_us, at_us + LIMITS.lease_ttl_ms * 1_000);
    changes.push({ at_us, living: -1 }, { at_us: counted_us, counted: -1 }, { at_us: back_us, living: 1, counted: 1 });
  }
  const open = new Set<string>();
  for (const { business_id, run_id, status, at_us } of events.toSorted((a, b) => a.at_us - b.at_us)) {
    const run = `${business_id}/${run_id}`;
    const before = open.size;
    if (OPEN.includes(status)) open.add(run);
    else open.delete(run);
    changes.push({ at_us, runs: open.size - before });
  }
  changes.sort((a, b) => a.at_us - b.at_us);
  const spans: Span[] = [];
  const now = { living: 0, counted: 0, runs: 0 };
  for (const [i, { at_us, living = 0, counted = 0, runs = 0 }] of changes.entries()) {
    now.living += living;
    now.counted += counted;
    now.runs += runs;
    const share = Math.ceil(now.runs / Math.max(1, now.counted));
    const to_us = changes[i + 1]?.at_us ?? NEVER_US;
    if (now.living * share < now.runs) spans.push({ from_us: at_us, to_us });
  }
  return spans;
}

function longestFreeUs(obstacles: readonly Span[], { from_us, to_us }: Span): number {
  const cuts = obstacles
    .filter((cut) => cut.to_us > Math.max(from_us, cut.from_us) && cut.from_us < to_us)
    .toSorted((a, b) => a.from_us - b.from_us);
  let free_us = from_us;
  let longest_us = 0;
  for (const cut of cuts) {
    longest_us = Math.max(longest_us, cut.from_us - free_us);
    free_us = Math.max(free_us, cut.to_us);
  }
  return Math.max(longest_us, to_us - free_us);
}
