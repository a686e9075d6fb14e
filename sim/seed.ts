import { randomBytes } from 'node:crypto';
import { ListId } from '@carillon/contract';
import {
  createBusiness,
  createCarrierAccount,
  createList,
  type Database,
  guardErrors,
  importLeads,
  openDatabase,
} from '@carillon/engine';
import { createRandom } from '../chaos/random.ts';
import { createCarrier, type CreateFate } from './carrier.ts';
import { endListening, type Mishap, setDatabase } from './database.ts';
import { type BusinessKey, createInstallation } from './installation.ts';
import { findUnfinished, findViolations } from './judge.ts';
import { letPeopleWork } from './people.ts';
import { type Deed, type DeedOnProcess, makePlan, type Plan } from './plan.ts';
import type { SimulatedServer } from './server.ts';
import { createWorld, type Process, SECOND, type World } from './world.ts';

export interface Verdict {
  seed: number;
  /** What must never be; empty: nothing of it was. */
  violations: string[];
  /** What was not over in time. */
  unfinished: string[];
  /** Two runs of a seed have the same. */
  digest: string;
  trace: readonly string[];
  calls: number;
  mishaps: number;
  /** Simulated seconds until everything was over. */
  lasted_s: number;
}

/** Whatever is left when the faults are over is over this much later: waiting for proofs, leases, lanes and calls. */
const REST_WITHIN = 60 * SECOND;

/** Lives through one seed, on a database that nobody else uses meanwhile. */
export async function runSeed(seed: number, server: SimulatedServer, keep_trace = false): Promise<Verdict> {
  const plan = makePlan(seed);
  await server.reset();
  const guards_before = guardErrors.count;
  const secret = randomBytes(32);
  const keys = await settle(plan, server, secret);

  const world = createWorld(seed, keep_trace);
  const began_us = world.now_us();
  const trouble = createTrouble(world, plan, (process, for_us) => installation.kill(process, for_us));
  setDatabase(world, server, trouble.database);
  const carrier = createCarrier(world, createHabits(plan), trouble.carrier, {
    event: async (attempt, call) => await installation.callee.event(attempt, call),
    answer: async (attempt, call) => await installation.callee.answer(attempt, call),
  });
  const installation = createInstallation(world, {
    ...plan,
    secret,
    drivers: () => new Map([['simulated', carrier.driver]]),
    loud: keep_trace,
  });
  const people = letPeopleWork({ world, plan, installation, superuser: server.superuser, keys, limits: plan.limits });
  for (const deed of plan.deeds) world.after(deed.at_us, null, '', () => carryOutDeed(deed));

  function carryOutDeed(deed: Deed): void {
    if (deed.kind === 'database_clock') trouble.moveDatabaseClock(deed.by_us);
    else if (deed.kind === 'database_down') trouble.takeDatabaseDown(deed.for_us);
    else if (deed.kind === 'carrier_down') trouble.takeCarrierDown(deed.for_us);
    else if (deed.kind === 'carrier_mute') trouble.muteCarrier(deed.for_us);
    else carryOutOn(deed);
  }

  function carryOutOn(deed: DeedOnProcess): void {
    const { who } = deed;
    const whose = deed.kind.endsWith('api') ? installation.apis[who]?.process : installation.workers[who];
    if (!whose) return;
    if (deed.kind === 'wall_clock') {
      whose.wall_offset_ms += deed.by_ms;
      world.tell(`the clock of ${whose.name} is set by ${deed.by_ms} ms`);
    } else if (deed.kind === 'kill_worker' || deed.kind === 'kill_api') installation.kill(whose, deed.for_us);
    else world.stop(whose, deed.for_us, deed.kind === 'suspend_worker');
  }

  await world.runUntil(began_us + plan.calm_us);
  world.tell('the faults are over');
  trouble.end();
  const starts = plan.businesses.reduce((sum, { runs }) => sum + runs.length, 0);
  const asleep_us = [...installation.workers, ...installation.apis.map((api) => api?.process ?? null)].map(
    (process) => process?.asleep_until_us ?? 0,
  );
  const deadline_us = Math.max(world.now_us(), ...asleep_us) + REST_WITHIN;
  let unfinished: string[];
  do {
    await people.resumeAll();
    await people.look();
    await world.runUntil(world.now_us() + SECOND);
    unfinished = await findUnfinished(server.superuser, carrier.calls, starts);
  } while (unfinished.length > 0 && world.now_us() < deadline_us);
  const violations = await findViolations({
    calls: carrier.calls,
    people,
    superuser: server.superuser,
    forgotten: installation.forgotten,
    broken_guards: guardErrors.count - guards_before,
  });
  return {
    seed,
    violations,
    unfinished,
    digest: world.trace.digest(),
    trace: world.trace.lines,
    calls: carrier.calls.length,
    mishaps: trouble.count(),
    lasted_s: (world.now_us() - began_us) / SECOND,
  };
}

/** Businesses, accounts, lists and leads, before the world begins. */
async function settle(plan: Plan, server: SimulatedServer, secret: Buffer): Promise<BusinessKey[]> {
  const actor = { name: 'somebody', user_id: null };
  const db: Database = openDatabase({ app_url: server.appUrl, pool_connections: 1 });
  try {
    const keys: BusinessKey[] = [];
    for (const [index, { phones, accounts }] of plan.businesses.entries()) {
      const { business_id } = await createBusiness(db, { name: `Business ${index}` }, actor);
      const carrier_account_ids: number[] = [];
      for (const [place, { lines, calls_per_second }] of accounts.entries()) {
        const account = {
          name: `account ${place}`,
          driver: 'simulated',
          base_url: 'https://simulated.example',
          account_sid: `AC${index}${place}`.padEnd(34, '0'),
          auth_token: 'token',
          from_numbers: [`+9723111000${place}`],
          concurrency_limit: lines,
          calls_per_second,
        };
        const made = await createCarrierAccount(db, business_id, account, secret, actor);
        carrier_account_ids.push(made.carrier_account_id);
      }
      const list = await createList(db, business_id, { name: 'A list' }, actor);
      const list_id = ListId.parse(list.list_id);
      await importLeads(db, business_id, list_id, inOnePiece(['phone', ...phones].join('\n')), {
        actor,
        country: 'IL',
      });
      keys.push({ business_id, carrier_account_ids, list_id });
    }
    return keys;
  } finally {
    await db.close();
  }
}

async function* inOnePiece(text: string): AsyncGenerator<Buffer> {
  yield Buffer.from(text);
}

function createHabits({ seed, limits, businesses, expiring_create }: Plan) {
  const refused = new Set(businesses.flatMap((business) => business.refused));
  return {
    expiring_create,
    effect_delay_ms: limits.carrier_effect_delay_ms,
    listing_delay_ms: limits.carrier_listing_delay_ms,
    response_timeout_ms: limits.dial_response_timeout_ms,
    refuses: (to: string) => refused.has(to),
    behaviour(to: string, nth: number) {
      const random = createRandom(seed, 'lead', to, nth);
      return {
        outcome: random.weighted({ completed: 5, busy: 2, no_answer: 2, failed: 1 }),
        ring_us: random.whole(50_000, limits.ring_timeout_ms * 1_000 - 100_000),
        talk_us: random.whole(50_000, limits.call_max_ms * 1_000 - 100_000),
      };
    },
  };
}

/** Everything that goes wrong, until it is over. */
function createTrouble(
  world: World,
  { trouble, lying_clock, database_offset_us }: Plan,
  killFor: (process: Process, for_us: number) => void,
) {
  const { random } = world;
  let over = false;
  let count = 0;
  let offset_us = database_offset_us;
  let database_down = 0;
  let carrier_down = 0;
  let carrier_mute = 0;

  function weighted<Kind extends string>(chances: Partial<Record<Kind, number>>): Kind | null {
    if (over) return null;
    let left = random.next();
    for (const [kind, chance] of Object.entries<number | undefined>(chances)) {
      left -= chance ?? 0;
      if (left >= 0) continue;
      count++;
      return kind as Kind;
    }
    return null;
  }
  const happens = (chance: number): boolean => weighted({ it: chance }) !== null;
  const kill = (process: Process) => killFor(process, random.whole(10_000, 4 * SECOND));
  /** Often long enough for others to have proven an attempt absent and called its lead. */
  const nap_us = () => (random.chance(0.4) ? random.whole(10_000, 2 * SECOND) : random.whole(2 * SECOND, 20 * SECOND));
  const stop = (process: Process) => world.stop(process, nap_us(), false);

  function moveDatabaseClock(by_us: number): void {
    offset_us += by_us;
    world.tell(`the database’s clock is set by ${by_us / SECOND} s`);
  }

  function muteCarrier(for_us: number): void {
    carrier_mute++;
    world.tell(`the carrier answers nobody who asks, for ${for_us / 1_000} ms`);
    world.after(for_us, null, 'the carrier answers again', () => void carrier_mute--);
  }

  /** It stands still for a time of which one of its clocks knows nothing. */
  function lieTo(process: Process): void {
    const for_us = nap_us();
    world.stop(process, for_us, lying_clock === 'monotonic');
    if (lying_clock === 'wall') process.wall_offset_ms -= for_us / 1_000;
  }

  return {
    database: {
      isDown: () => database_down > 0,
      offset_us: () => offset_us,
      draw(): Mishap | null {
        const kind = weighted(trouble.database);
        return kind && { kind, at: random.whole(0, 8) };
      },
      kill,
      stop,
      losesNotice: () => happens(trouble.notice_lost),
    },
    carrier: {
      create: (): CreateFate => (carrier_down > 0 ? 'unreachable' : (weighted(trouble.create) ?? 'fine')),
      ask: () =>
        (carrier_down + carrier_mute > 0 ? 'error' : (weighted(trouble.ask) ?? 'fine')) as 'fine' | 'error' | 'lost',
      callback: () => ({
        copies: happens(trouble.callback.lost) ? 0 : happens(trouble.callback.doubled) ? 2 : 1,
        delay_us: happens(trouble.callback.late) ? random.whole(0, 6 * SECOND) : 0,
      }),
      onTheWay(process: Process) {
        const what = weighted(trouble.on_the_way);
        if (what === 'killed') kill(process);
        else if (what === 'stopped') stop(process);
        else if (what === 'lied_to') lieTo(process);
      },
      sent() {
        const what = weighted(trouble.meanwhile);
        if (what === 'hurried') moveDatabaseClock(random.pick([1, 20, 3_600]) * SECOND);
        else if (what === 'mute') muteCarrier(random.whole(SECOND, 12 * SECOND));
      },
    },
    moveDatabaseClock,
    takeDatabaseDown(for_us: number) {
      database_down++;
      world.tell(`the database is down for ${for_us / 1_000} ms`);
      endListening(world);
      world.after(for_us, null, 'the database is back', () => void database_down--);
    },
    takeCarrierDown(for_us: number) {
      carrier_down++;
      world.tell(`the carrier is down for ${for_us / 1_000} ms`);
      world.after(for_us, null, 'the carrier is back', () => void carrier_down--);
    },
    muteCarrier,
    end: () => void (over = true),
    count: () => count,
  };
}
