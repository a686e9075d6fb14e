import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { BusinessId, CarrierDrivers } from '@carillon/contract';
import {
  type Clock,
  claim,
  createGatherer,
  createWaker,
  type Database,
  endOverdueRuns,
  fillAhead,
  heartbeat,
  type Lease,
  leaseRuns,
  leaveWorkers,
  type Limits,
  listenForWakes,
  releaseLeases,
  sweepOnce,
} from '@carillon/engine';
import type { Logger } from 'pino';
import { createAccounts, type WorkerContext } from './context.ts';
import { dial } from './dial.ts';
import { createPacer } from './pacer.ts';
import { type FirstSeen, tend } from './tend.ts';
import { createSignal, type Signal } from './waiting.ts';

export interface WorkerOptions {
  db: Database;
  app_url: string;
  drivers: CarrierDrivers;
  /** Opens the carrier accounts' secrets: 32 bytes. */
  secret: Buffer;
  public_url: string;
  limits: Limits;
  clock: Clock;
  log: Logger;
}

export interface Worker {
  worker_id: string;
  /** Stops claiming, marks what was not dialled, gives the leases back. Resolves within seconds. */
  stop(): Promise<void>;
}

interface Held {
  lease: Lease;
  /** Something moved in the run's business: a line may be free. */
  signal: Signal;
  working: Promise<void>;
}

const STOP_WAIT_MS = 5_000;

/**
 * One worker: lease → claim → dial → settle → reconcile → reclaim.
 *
 * The stages run beside each other, each in its own loop, so that a slow carrier or a slow statement in one never keeps
 * a heartbeat waiting. All that they share is in the database.
 */
export function startWorker(options: WorkerOptions): Worker {
  const { db, limits, clock } = options;
  // A new id for each process: a name that is reused after a restart would pass the fence of its predecessor's lease.
  const worker_id = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`;
  const log = options.log.child({ worker_id });
  const complain = (what: string) => (error: unknown) => log.warn({ err: error }, what);
  const waker = createWaker(db, limits.gather_ms, complain('a wake-up was not sent'));
  const gatherer = createGatherer(db, waker, limits, complain('evidence could not be recorded yet'));
  const pacer = createPacer(clock);
  const held = new Map<string, Held>();
  const dialing = new Set<Promise<void>>();
  const stopped = createStop();
  const lookForRuns = createSignal();
  const context: WorkerContext = {
    db,
    worker_id,
    clock,
    limits,
    log,
    gatherer,
    public_url: options.public_url,
    account: createAccounts(options),
    stopping: () => stopped.is,
  };

  // lease: take what nobody works on, up to a fair share; give back what is above it.
  async function lease(): Promise<void> {
    const { taken, fair_share } = await leaseRuns(db, worker_id, held.size, limits);
    for (const fresh of taken) hold(fresh);
    const excess = [...held.values()].slice(Math.max(1, fair_share));
    for (const { lease: mine } of excess) await letGo(mine);
  }

  // claim → dial: one loop for each run held, until it is lost.
  async function work(mine: Lease, signal: Signal): Promise<void> {
    while (isHeld(mine) && !stopped.is) {
      if (await fillAhead(db, mine.business_id, mine.run_id, limits)) signal.notify();
      const { state, attempts, again_monotonic_ms } = await claim(db, mine, worker_id, clock, limits);
      for (const attempt of attempts) track(dialing, dial(context, pacer, stopped.signal, attempt));
      if (state === 'lost') return drop(mine);
      if (state === 'more') continue;
      const wait_ms = again_monotonic_ms === null ? limits.poll_work_ms : again_monotonic_ms - clock.monotonicMs();
      const bounded_ms = Math.min(Math.max(wait_ms, 1), limits.poll_work_ms);
      // A lane's next start comes with time alone; a wake-up before it would find nothing.
      if (state === 'rate') await stopped.signal.wait(bounded_ms);
      else await signal.wait(bounded_ms);
    }
  }

  // settle: the gatherer, fed by dial and by the API's webhooks. reconcile → reclaim: the reapers.
  const seen: FirstSeen = new Map();
  const loops = [
    loop('lease', limits.poll_work_ms, lease, lookForRuns),
    loop('heartbeat', limits.lease_ttl_ms / 3, beat),
    loop('tend', limits.poll_work_ms, async () => await tend(context, seen)),
    loop('sweep', limits.poll_work_ms, sweep),
  ];
  const unlisten = listenForWakes(options.app_url, (businesses) => {
    const woken = new Set<BusinessId>(businesses);
    for (const { lease: mine, signal } of held.values()) if (woken.has(mine.business_id)) signal.notify();
    lookForRuns.notify();
  });

  async function beat(): Promise<void> {
    const leases = [...held.values()].map(({ lease: mine }) => mine);
    for (const lost of await heartbeat(db, leases, worker_id, limits)) drop(lost);
  }

  async function sweep(): Promise<void> {
    await endOverdueRuns(db);
    while (!stopped.is && (await sweepOnce(db, limits)));
  }

  function hold(mine: Lease): void {
    const fresh: Held = { lease: mine, signal: createSignal(), working: Promise.resolve() };
    held.set(nameOf(mine), fresh);
    fresh.working = retrying('claim', limits.poll_work_ms, async () => await work(mine, fresh.signal));
  }

  function isHeld(mine: Lease): boolean {
    return held.get(nameOf(mine))?.lease.lease_epoch === mine.lease_epoch;
  }

  function drop(mine: Lease): void {
    const known = held.get(nameOf(mine));
    if (known?.lease.lease_epoch !== mine.lease_epoch) return;
    held.delete(nameOf(mine));
    known.signal.notify();
  }

  async function letGo(mine: Lease): Promise<void> {
    const working = held.get(nameOf(mine))?.working;
    drop(mine);
    await working;
    await releaseLeases(db, [mine], worker_id);
  }

  /** Runs `step` again and again until it returns in peace; trouble with the database is waited out. */
  async function retrying(name: string, pause_ms: number, step: () => Promise<void>): Promise<void> {
    while (!stopped.is) {
      try {
        return await step();
      } catch (error) {
        log.warn({ err: error }, `${name} failed; trying again`);
        await stopped.signal.wait(pause_ms);
      }
    }
  }

  async function loop(name: string, every_ms: number, step: () => Promise<void>, wake = stopped.signal): Promise<void> {
    while (!stopped.is) {
      await retrying(name, every_ms, step);
      if (!stopped.is) await wake.wait(every_ms);
    }
  }

  log.info('worker started');
  return {
    worker_id,
    async stop() {
      if (stopped.is) return;
      stopped.now();
      lookForRuns.notify();
      for (const { signal } of held.values()) signal.notify();
      await unlisten();
      await within(STOP_WAIT_MS, Promise.all([...loops, ...[...held.values()].map(({ working }) => working)]));
      await within(STOP_WAIT_MS, Promise.all(dialing));
      await within(STOP_WAIT_MS, gatherer.drained());
      const leases = [...held.values()].map(({ lease: mine }) => mine);
      await within(
        STOP_WAIT_MS,
        Promise.all([releaseLeases(db, leases, worker_id), leaveWorkers(db, worker_id)]),
      ).catch(complain('leases were not given back; they expire by themselves'));
      await waker.close();
      log.info('worker stopped');
    },
  };
}

function nameOf(lease: Lease): string {
  return `${lease.business_id}/${lease.run_id}`;
}

function track(all: Set<Promise<void>>, one: Promise<void>): void {
  const tracked = one.finally(() => all.delete(tracked));
  all.add(tracked);
}

function createStop() {
  const signals = new Set<() => void>();
  const stop = {
    is: false,
    /** Waits end early when the worker stops, and never before. */
    signal: {
      async wait(ms: number) {
        if (stop.is) return;
        await new Promise<void>((resolve) => {
          const done = () => {
            clearTimeout(timer);
            signals.delete(done);
            resolve();
          };
          const timer = setTimeout(done, ms);
          signals.add(done);
        });
      },
      notify() {},
    } satisfies Signal,
    now() {
      stop.is = true;
      for (const done of signals) done();
    },
  };
  return stop;
}

/** Waits for `work`, but no longer than `ms`: a stop must end, and what is left is found by the reapers. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([work, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]).finally(() =>
    clearTimeout(timer),
  );
}
