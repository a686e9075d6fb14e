import { setTimeout as pause } from 'node:timers/promises';
import type { Carrier } from './carrier.ts';
import type { Installation, Post } from './installation.ts';
import { LONGEST_TIMEOUT_MS, TRIAL } from './limits.ts';
import type { Fault, FaultKind } from './plan.ts';
import type { Random } from './random.ts';
import type { Disturbance, RecoveryWatch } from './recovery.ts';
import { until } from './wait.ts';

/** What the machinery of faults knows while they happen. */
export interface Scene {
  here: Installation;
  recovery: RecoveryWatch;
  /** One fault at a time restarts the database: it can't be stopped twice. */
  databaseBusy: boolean;
}

type Deed = (scene: Scene, fault: Fault) => Promise<void>;
type Lane = Parameters<Carrier['disturb']>[0];

const LATE_RESPONSE_MS: [number, number] = [3_000, 5_000];
/** No request waits that long. What they ask for arrives in time: more than what is declared would be a lie. */
export const ANSWERS_HELD_MS: readonly [number, number] = [LONGEST_TIMEOUT_MS + 500, LONGEST_TIMEOUT_MS + 3_000];
/** With what may hold a request up on its way, still below the declared delay. */
const LATE_EFFECT_MS: [number, number] = [300, 1_200];
const HELD_MS: readonly [number, number] = [100, 400];
const SLOW_MS: readonly [number, number] = [10, 60];
const CUT_TRIES = 8;
const CUT_PAUSE_MS = 40;

const DEEDS: Record<FaultKind, Deed> = {
  worker_killed: (scene, { random }) => replace(scene, choose(scene, 'worker', random), random),
  worker_stopped: (scene, { random, lasts_ms }) => stopAndWake(scene, choose(scene, 'worker', random), lasts_ms),
  worker_ended: (scene, { random }) => endInPeace(scene, choose(scene, 'worker', random)),
  api_killed: (scene, { random }) => replace(scene, choose(scene, 'api', random), random),
  api_stopped: (scene, { random, lasts_ms }) => stopAndWake(scene, choose(scene, 'api', random), lasts_ms),
  async apis_all_down(scene, { lasts_ms }) {
    const apis = scene.here.posts.filter(({ kind }) => kind === 'api');
    await Promise.all(apis.map((post) => scene.here.empty(post)));
    await pause(lasts_ms);
    await Promise.all(apis.map((post) => fillAgain(scene, post)));
  },
  database_restarted: (scene) => breakDatabase(scene, (postgres) => postgres.restart()),
  database_crashed: (scene) => breakDatabase(scene, (postgres) => postgres.crash()),
  backend_killed: (scene) =>
    breakDatabase(scene, async (postgres) => {
      await postgres.killBackend();
      await until(() => postgres.rows('SELECT 1'), { deadline_ms: 60_000, what: 'PostgreSQL has recovered' });
    }),
  async database_cut({ here }, { random }) {
    here.to_postgres.cut(random.pick([0.1, 0.3, 1]), random);
  },
  async database_stalled(scene, { lasts_ms }) {
    await during(scene.recovery.begin(), async () => {
      scene.here.to_postgres.stall(true);
      await pause(lasts_ms);
      scene.here.to_postgres.stall(false);
    });
  },
  async database_slow(scene, { random, lasts_ms }) {
    await during(scene.recovery.begin(), async () => {
      scene.here.to_postgres.delay(random.between(...SLOW_MS));
      await pause(lasts_ms);
      scene.here.to_postgres.delay(0);
    });
  },
  carrier_down: (scene, fault) => disturb(scene, fault, { down: true }),
  async carrier_refuses({ here }, { lasts_ms }) {
    await here.to_carrier.refuse(true);
    await pause(lasts_ms);
    await here.to_carrier.refuse(false);
  },
  async carrier_cut({ here }, { random }) {
    // A connection lives for one request, so that there are but few at any moment.
    for (let tries = 0; tries < CUT_TRIES; tries++) {
      here.to_carrier.cut(1, random);
      await pause(CUT_PAUSE_MS);
    }
  },
  async carrier_held({ here }, { random, lasts_ms }) {
    here.to_carrier.delay(random.between(...HELD_MS));
    await pause(lasts_ms);
    here.to_carrier.delay(0);
  },
  async answers_held({ here }, { random, lasts_ms }) {
    const release = here.to_carrier.holdAnswers(random.between(...ANSWERS_HELD_MS));
    await pause(lasts_ms);
    release();
  },
  response_lost: (scene, fault) => disturb(scene, fault, { lose_response: fault.random.pick([0.3, 0.6, 1]) }),
  response_late: (scene, fault) => disturb(scene, fault, { response_delay_ms: LATE_RESPONSE_MS }),
  effect_late: (scene, fault) => disturb(scene, fault, { effect_delay_ms: LATE_EFFECT_MS }),
  carrier_errors: (scene, fault) =>
    disturb(scene, fault, {
      http_error: { status: fault.random.pick([500, 503]), probability: 0.7, create: fault.random.chance(0.5) },
    }),
  carrier_unreadable: (scene, fault) =>
    disturb(scene, fault, { read_error: { status: 503 }, update_error: { status: 503 } }),
  callbacks_lost: (scene, fault) => disturb(scene, fault, { callback: { drop: 1 } }),
};

/**
 * Lets the faults happen, each at its time, several at once where they last. Resolves when the last is over and every
 * place is filled again; with how many there were of each kind.
 */
export async function injectFaults(scene: Scene, faults: readonly Fault[]): Promise<Map<FaultKind, number>> {
  const since_ms = performance.now();
  const injected = new Map<FaultKind, number>();
  const happening: Promise<void>[] = [];
  for (const fault of faults) {
    await pause(Math.max(0, fault.at_ms - (performance.now() - since_ms)));
    const { number, kind, lasts_ms } = fault;
    scene.here.log(`fault ${number}: ${kind}${lasts_ms > 0 ? ` for ${lasts_ms} ms` : ''}`);
    injected.set(kind, (injected.get(kind) ?? 0) + 1);
    happening.push(
      DEEDS[kind](scene, fault).catch((cause: unknown) => {
        throw new Error(`fault ${number} (${kind}) could not be carried out`, { cause });
      }),
    );
    // Told below; until then it must not end this process.
    happening.at(-1)?.catch(() => {});
  }
  await Promise.all(happening);
  for (const post of scene.here.posts) await fillAgain(scene, post);
  return injected;
}

/** One that works, if there is any: a place that is empty or stopped has its fault already. */
function choose({ here }: Scene, kind: Post['kind'], random: Random): Post {
  const all = here.posts.filter((post) => post.kind === kind);
  const working = all.filter(({ process, stopped }) => process && !stopped);
  return random.pick(working.length > 0 ? working : all);
}

async function replace(scene: Scene, post: Post, random: Random): Promise<void> {
  const { here, recovery } = scene;
  const { identity, process } = post;
  if (process) {
    here.log(`  kill -9 ${post.name} (${identity})`);
    await here.empty(post);
    if (post.kind === 'worker' && identity !== '') recovery.gone(identity);
  }
  await pause(random.between(TRIAL.dead_least_ms, TRIAL.dead_most_ms));
  await fillAgain(scene, post);
}

async function stopAndWake({ here, recovery }: Scene, post: Post, lasts_ms: number): Promise<void> {
  const { process } = post;
  if (!process || post.stopped) return;
  here.log(`  SIGSTOP ${post.name} (${post.identity})`);
  post.stopped = true;
  process.signal('SIGSTOP');
  const gone = post.kind === 'worker' && post.identity !== '' ? recovery.gone(post.identity) : null;
  await pause(lasts_ms);
  // Somebody may have killed it as it stood.
  if (post.process !== process) return;
  gone?.back();
  process.signal('SIGCONT');
  post.stopped = false;
}

async function endInPeace(scene: Scene, post: Post): Promise<void> {
  const { process } = post;
  if (!process || post.stopped) return;
  // From here on its end is no surprise.
  post.process = null;
  const leaving = post.kind === 'worker' ? scene.recovery.leaves(post.identity) : null;
  process.signal('SIGTERM');
  await process.ended;
  leaving?.left();
  await fillAgain(scene, post);
}

/** A process may be killed again while it starts. */
async function fillAgain({ here }: Scene, post: Post): Promise<void> {
  await until(
    async () => {
      await here.fill(post);
      return true;
    },
    { deadline_ms: TRIAL.process_start_ms, what: `${post.name} at work again` },
  );
}

async function breakDatabase(scene: Scene, how: (postgres: Installation['postgres']) => Promise<void>): Promise<void> {
  await until(() => !scene.databaseBusy, { deadline_ms: 120_000, what: 'the database is up again' });
  scene.databaseBusy = true;
  await during(scene.recovery.begin(), () => how(scene.here.postgres));
  scene.databaseBusy = false;
}

async function disturb({ here }: Scene, { lasts_ms }: Fault, lane: Lane): Promise<void> {
  const calm = await here.carrier.disturb(lane);
  await pause(lasts_ms);
  await calm();
}

async function during(disturbance: Disturbance, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } finally {
    disturbance.end();
  }
}
