import { LIMITS, TRIAL } from './limits.ts';
import { createRandom, type Random } from './random.ts';

interface Kind {
  weight: number;
  lasts_ms?: readonly [number, number];
  about: string;
}

/** What may happen, how often beside the others, and how long it lasts (milliseconds; absent: a moment). */
const KINDS = {
  /** kill -9, and another process in its place soon. */
  worker_killed: { weight: 12, about: 'a worker killed with SIGKILL' },
  worker_stopped: {
    weight: 9,
    lasts_ms: [LIMITS.lease_ttl_ms + 500, 2 * LIMITS.lease_ttl_ms],
    about: 'a worker stopped for longer than its lease, then woken',
  },
  worker_ended: { weight: 4, about: 'a worker told to end, as in an update' },
  api_killed: { weight: 7, about: 'an API killed with SIGKILL' },
  api_stopped: { weight: 3, lasts_ms: [1_000, 4_000], about: 'an API stopped, then woken' },
  apis_all_down: { weight: 5, lasts_ms: [1_500, 4_000], about: 'all APIs down while calls end' },
  database_restarted: { weight: 2, about: 'PostgreSQL restarted (fast shutdown)' },
  database_crashed: { weight: 2, about: 'PostgreSQL crashed (immediate shutdown, then recovery)' },
  backend_killed: { weight: 3, about: 'a PostgreSQL backend killed with SIGKILL' },
  database_cut: { weight: 16, about: 'connections to PostgreSQL cut in the middle of a statement' },
  database_stalled: { weight: 5, lasts_ms: [500, 4_500], about: 'the network to PostgreSQL stalled' },
  database_slow: { weight: 4, lasts_ms: [1_500, 4_000], about: 'the network to PostgreSQL slow' },
  carrier_down: { weight: 5, lasts_ms: [800, 4_000], about: 'the carrier down (connections reset)' },
  carrier_refuses: { weight: 4, lasts_ms: [800, 3_000], about: 'connections to the carrier refused' },
  carrier_cut: { weight: 8, about: 'connections to the carrier reset in the middle' },
  carrier_held: { weight: 4, lasts_ms: [1_000, 3_000], about: 'requests to the carrier held up on the way' },
  response_lost: { weight: 7, lasts_ms: [800, 3_000], about: 'responses lost after the call was accepted' },
  response_late: { weight: 6, lasts_ms: [800, 3_000], about: 'answers to new calls later than their time-out' },
  answers_held: {
    weight: 5,
    lasts_ms: [1_500, 4_000],
    about: 'answers to every kind of request to the carrier later than every time-out',
  },
  effect_late: { weight: 5, lasts_ms: [1_500, 4_000], about: 'calls begun late, within the declared delay' },
  carrier_errors: { weight: 6, lasts_ms: [800, 3_000], about: 'HTTP 500 and 503 for new calls, made or not' },
  carrier_unreadable: { weight: 3, lasts_ms: [800, 3_000], about: 'HTTP 503 for reading and changing calls' },
  callbacks_lost: { weight: 5, lasts_ms: [1_500, 4_000], about: 'callbacks lost' },
} as const satisfies Record<string, Kind>;

export type FaultKind = keyof typeof KINDS;
export const FAULT_KINDS = Object.keys(KINDS) as FaultKind[];
export const aboutFault = (kind: FaultKind): string => KINDS[kind].about;

export interface Fault {
  number: number;
  /** Since the first call. */
  at_ms: number;
  kind: FaultKind;
  /** 0 where it is over at once. */
  lasts_ms: number;
  /** What else is decided by chance when it happens: which process, which connections. */
  random: Random;
}

const WEIGHTS = Object.fromEntries(FAULT_KINDS.map((kind) => [kind, KINDS[kind].weight])) as Record<FaultKind, number>;

/**
 * The faults of a trial, each with its time: nothing but the seed decides. Its first faults are one of each kind, in an
 * order of the seed's, as far as there is time: a short trial should meet as much as a long one.
 */
export function planFaults(seed: number, minutes: number): Fault[] {
  const random = createRandom(seed, 'faults');
  const left = [...FAULT_KINDS];
  const faults: Fault[] = [];
  let at_ms: number = TRIAL.quiet_at_first_ms;
  while (at_ms < minutes * 60_000) {
    const kind = left.length > 0 ? random.pick(left) : random.weighted(WEIGHTS);
    if (left.includes(kind)) left.splice(left.indexOf(kind), 1);
    const drawn: Kind = KINDS[kind];
    const number = faults.length + 1;
    faults.push({
      number,
      at_ms: Math.round(at_ms),
      kind,
      lasts_ms: drawn.lasts_ms ? Math.round(random.between(...drawn.lasts_ms)) : 0,
      random: createRandom(seed, 'fault', number),
    });
    at_ms += random.between(TRIAL.fault_gap_least_ms, TRIAL.fault_gap_most_ms);
  }
  return faults;
}
