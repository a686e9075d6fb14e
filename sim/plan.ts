import type { LiveCalls, Resolution, StartRun } from '@carillon/contract';
import { defaultLimits, type Limits } from '@carillon/engine';
import { createRandom, type Random } from '../chaos/random.ts';
import type { CreateFate } from './carrier.ts';
import type { Mishap } from './database.ts';
import { SECOND } from './world.ts';

/** Everything that the seed decides beforehand. What is drawn while the world runs comes from its own chance. */
export interface Plan {
  seed: number;
  limits: Limits;
  workers: number;
  apis: number;
  /** The carrier's creates expire. */
  expiring_create: boolean;
  /**
   * Which of a process's clocks may lie: the monotonic one, which stands still with its machine, or the wall clock, which is
   * set. Where both do, no check of ours can help, and nobody promises that.
   */
  lying_clock: 'monotonic' | 'wall';
  /** How far the database's clock is off from the beginning. */
  database_offset_us: number;
  businesses: PlannedBusiness[];
  people: Wish[];
  deeds: Deed[];
  /** Chance of each kind of trouble while there is any. Each seed has some kinds and not others. */
  trouble: {
    database: Partial<Record<Mishap['kind'], number>>;
    create: Partial<Record<Exclude<CreateFate, 'fine'>, number>>;
    ask: { error: number; lost: number };
    callback: { lost: number; late: number; doubled: number };
    on_the_way: { killed: number; stopped: number; lied_to: number };
    /** Begun while the body of a create is under way: the database's clock is set forward, the carrier answers nobody. */
    meanwhile: { hurried: number; mute: number };
    notice_lost: number;
  };
  /** When the faults are over, from the beginning. */
  calm_us: number;
}

export interface PlannedBusiness {
  phones: string[];
  /** Refused by the carrier, always. */
  refused: string[];
  accounts: { lines: number; calls_per_second: number }[];
  /** `account`: the place of the one that is called through. */
  runs: { at_us: number; account: number; request: Pick<StartRun, 'concurrency' | 'policy'> }[];
}

/** What a person asks for: of the run made by the n-th start of that business. */
export type Wish = { at_us: number; business: number; run: number } & (
  | { kind: 'pause' | 'stop'; live_calls: LiveCalls }
  | { kind: 'resume' | 'reconcile' }
  | { kind: 'cancel_job'; seq: number }
  | { kind: 'resolve'; resolution: Resolution }
);

/** Trouble that comes at a time, not at a place. */
export type Deed =
  | DeedOnProcess
  | { at_us: number; kind: 'database_clock'; by_us: number }
  | { at_us: number; kind: 'database_down'; for_us: number }
  | { at_us: number; kind: 'carrier_down'; for_us: number }
  | { at_us: number; kind: 'carrier_mute'; for_us: number };
export type DeedOnProcess =
  | { at_us: number; kind: 'kill_worker' | 'kill_api'; who: number; for_us: number }
  | { at_us: number; kind: 'stop_worker' | 'suspend_worker' | 'stop_api'; who: number; for_us: number }
  | { at_us: number; kind: 'wall_clock'; who: number; by_ms: number };

/** The proportions of the real ones, and short: what matters is what comes before what. */
const LIMITS: Partial<Limits> = {
  lease_ttl_ms: 3_000,
  dial_deadline_ms: 700,
  claim_ahead_ms: 200,
  ring_timeout_ms: 1_500,
  call_max_ms: 3_000,
  carrier_listing_delay_ms: 600,
  reconcile_margin_ms: 300,
  reconcile_every_ms: 700,
  poll_after_ms: 1_500,
  hang_up_every_ms: 600,
  dial_response_timeout_ms: 400,
  poll_work_ms: 2_000,
  lane_halt_first_ms: 300,
  lane_halt_longest_ms: 1_500,
};

export function makePlan(seed: number): Plan {
  const random = createRandom(seed, 'plan');
  const limits: Limits = {
    ...defaultLimits,
    ...LIMITS,
    carrier_effect_delay_ms: random.pick([1_000, 2_500, 6_000]),
    claim_batch_attempts: random.pick([1, 3, 500]),
    fill_batch_jobs: random.pick([1, 3, 100]),
    fill_ahead_jobs: random.pick([1, 4, 100]),
    sweep_batch_jobs: random.pick([1, 3, 100]),
    gather_batch_items: random.pick([1, 500]),
    fruitless_leases: 50,
  };
  const calm_us = random.whole(5, 12) * SECOND;
  const businesses = Array.from({ length: random.weighted({ 1: 3, 2: 1 }) === '1' ? 1 : 2 }, (_, i) =>
    planBusiness(random, i),
  );
  const workers = random.whole(2, 3);
  const apis = random.whole(1, 2);
  const expiring_create = random.chance(0.25);
  // An expiry is told by our clocks and read by the carrier's: it needs clocks that are right.
  const lying_clock = expiring_create || random.chance(0.5) ? 'monotonic' : 'wall';
  return {
    seed,
    limits,
    workers,
    apis,
    expiring_create,
    lying_clock,
    database_offset_us: !expiring_create && random.chance(0.2) ? random.pick([-3_600, -20, 20, 3_600]) * SECOND : 0,
    businesses,
    people: planPeople(random, businesses, calm_us),
    deeds: planDeeds(random, { calm_us, workers, apis, expiring_create, lying_clock }),
    trouble: planTrouble(random, expiring_create),
    calm_us,
  };
}

function planBusiness(random: Random, index: number): PlannedBusiness {
  const phones = Array.from({ length: random.whole(1, 6) }, (_, i) => `+97252${3_000_000 + index * 1_000 + i}`);
  const accounts = Array.from({ length: random.chance(0.3) ? 2 : 1 }, () => ({
    lines: random.whole(1, 4),
    calls_per_second: random.pick([2, 10, 100]),
  }));
  return {
    phones,
    refused: phones.filter(() => random.chance(0.08)),
    accounts,
    runs: Array.from({ length: random.chance(0.3) ? 2 : 1 }, () => ({
      at_us: random.whole(0, SECOND),
      account: random.whole(0, accounts.length - 1),
      request: {
        concurrency: random.whole(1, 4),
        policy: {
          retry: random.chance(0.5)
            ? {
                busy: { times: random.whole(1, 2), after_s: random.whole(0, 2) },
                no_answer: { times: 1, after_s: random.whole(0, 2) },
              }
            : {},
          review_always: random.chance(0.15),
        },
      },
    })),
  };
}

function planPeople(random: Random, businesses: PlannedBusiness[], calm_us: number): Wish[] {
  const busy = random.pick([0, 2, 6]);
  const wishes = businesses.flatMap(({ runs, phones }, business) =>
    runs.flatMap((_, run) =>
      Array.from({ length: random.whole(0, busy) }, (): Wish => {
        const common = { at_us: random.whole(0, calm_us), business, run };
        const live_calls = random.pick<LiveCalls>(['drain', 'hang_up']);
        const resolution = random.pick<Resolution>(['called', 'call_again']);
        const kind = random.weighted({ pause: 3, resume: 3, stop: 1, cancel_job: 1, resolve: 2, reconcile: 1 });
        if (kind === 'pause' || kind === 'stop') return { ...common, kind, live_calls };
        if (kind === 'cancel_job') return { ...common, kind, seq: random.whole(1, phones.length) };
        return kind === 'resolve' ? { ...common, kind, resolution } : { ...common, kind };
      }),
    ),
  );
  return wishes.toSorted((a, b) => a.at_us - b.at_us);
}

function planDeeds(
  random: Random,
  plan: Pick<Plan, 'calm_us' | 'workers' | 'apis' | 'expiring_create' | 'lying_clock'>,
): Deed[] {
  const { calm_us, workers, apis } = plan;
  const many = random.pick([0, 2, 5]);
  const kinds = {
    kill_worker: random.whole(0, 3),
    kill_api: random.whole(0, 2),
    stop_worker: random.whole(0, 3),
    suspend_worker: plan.lying_clock === 'monotonic' ? random.whole(0, 2) : 0,
    stop_api: random.whole(0, 1),
    wall_clock: plan.lying_clock === 'wall' ? random.whole(0, 2) : 0,
    database_clock: !plan.expiring_create && random.chance(0.3) ? 1 : 0,
    database_down: random.whole(0, 1),
    carrier_down: random.whole(0, 1) + 0.1,
    carrier_mute: random.whole(0, 1),
  };
  return Array.from({ length: random.whole(0, many) }, (): Deed => {
    const at_us = random.whole(0, calm_us);
    const kind = random.weighted(kinds);
    const for_us = random.chance(0.5) ? random.whole(10_000, SECOND) : random.whole(1, 9) * SECOND;
    const who = random.whole(0, (kind.endsWith('api') ? apis : workers) - 1);
    if (kind === 'wall_clock') return { at_us, kind, who, by_ms: random.pick([-3_600_000, -500, 500, 3_600_000]) };
    if (kind === 'database_clock') return { at_us, kind, by_us: random.pick([-3_600, -20, -1, 1, 20, 3_600]) * SECOND };
    if (kind === 'carrier_mute') return { at_us, kind, for_us: random.whole(SECOND, 12 * SECOND) };
    if (kind === 'database_down' || kind === 'carrier_down')
      return { at_us, kind, for_us: random.whole(100_000, 3 * SECOND) };
    return { at_us, kind, who, for_us };
  }).toSorted((a, b) => a.at_us - b.at_us);
}

function planTrouble(random: Random, expiring_create: boolean): Plan['trouble'] {
  /** Half of the seeds go without a kind of trouble; the others have it now and then, or often. */
  const some = (often: number) => (random.chance(0.5) ? 0 : random.pick([often / 10, often / 3, often]));
  return {
    database: {
      serialization: some(0.02),
      cut: some(0.02),
      answer_lost: some(0.03),
      killed: some(0.01),
      stopped: some(0.01),
      killed_after: some(0.01),
      stopped_after: some(0.01),
    },
    create: {
      unreachable: some(0.2),
      held: some(0.4),
      answer_lost: some(0.4),
      request_lost: some(0.4),
      again: some(0.2),
      lane: some(0.2),
    },
    ask: { error: some(0.5), lost: some(0.3) },
    // In some worlds nothing is ever heard of a call but what is asked for.
    callback: { lost: random.chance(0.15) ? 1 : some(0.8), late: some(0.6), doubled: some(0.4) },
    on_the_way: { killed: some(0.08), stopped: some(0.08), lied_to: some(0.08) },
    meanwhile: { hurried: expiring_create ? 0 : some(0.2), mute: some(0.2) },
    notice_lost: some(0.9),
  };
}
