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
  localActor,
  openDatabase,
  releaseLeases,
  restRuns,
  sweepOnce,
  tellWorkerClock,
  watchForRestore,
} from '@carillon/engine';
import type { Logger } from 'pino';
import { createAccounts, type WorkerContext } from './context.ts';
import { dial } from './dial.ts';
import { createPacer } from './pacer.ts';
import { createSettleState, settleRestore } from './restore.ts';
import { createTendState, tend } from './tend.ts';
import { createQueues, createSignal, createStop, type Signal, within } from './waiting.ts';

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
  /** Where what the worker remembers of the database outlives it; undefined: nowhere. */
  memory_dir?: string | undefined;
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
const LOOK_PAUSE_MS = 100;

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
  const actor = localActor(`worker:${worker_id}`);
  const log = options.log.child({ worker_id });
  const complain = (what: string) => (error: unknown) => log.warn({ err: error }, what);
  const waker = createWaker(db, limits.gather_ms, complain('a wake-up was not sent'));
  const gatherer = createGatherer(db, waker, limits, complain('evidence could not be recorded yet'));
  const pacer = createPacer(clock);
  const held = new Map<string, Held>();
  const dialing = new Set<Promise<void>>();
  const stopped = createStop();
  const lookForRuns = createSignal();
  const beatSoon = createSignal();
  // Leases are taken, renewed and given back on connections of their own, more of them than there can be claims that hold
  // a run's lock while they wait for a lane's: no claim, and no reaper, may keep a heartbeat or a dead worker's runs waiting.
  const pulse = openDatabase({
    app_url: options.app_url,
    pool_connections: db.connections_max + 3,
    application_name: 'carillon heartbeat',
    // Below the TTL, however short that is: a heartbeat that stops inside its transaction must not hold a run's lock.
    idle_in_transaction_timeout_ms: Math.ceil(limits.lease_ttl_ms / 2),
  });
  const beating = new Set<BusinessId>();
  const lanes = createQueues();
  const context: WorkerContext = {
    db,
    worker_id,
    actor,
    clock,
    limits,
    log,
    gatherer,
    public_url: options.public_url,
    account: createAccounts(options),
    stopping: () => stopped.is,
  };

  // Notices that the database has forgotten calls, and pauses every run.
  const watch = watchForRestore({
    db,
    witness_id: worker_id,
    actor,
    memory_dir: options.memory_dir,
    onNotice: (reason) => log.error({ reason }, 'the database may have forgotten calls; every run is paused'),
    onError: complain('could not look whether the database is the one that is known'),
  });

  // lease: give back what rests; take what nobody works on, up to a fair share; give back what is above it.
  async function lease(): Promise<void> {
    const leases = [...held.values()].map((one) => one.lease);
    for (const resting of await restRuns(pulse, leases, worker_id, limits, complain('a run was not given back')))
      drop(resting);
    const { taken, fair_share } = await leaseRuns(pulse, worker_id, held.size, limits, complain('a run was not taken'));
    for (const fresh of taken) hold(fresh);
    const excess = [...held.values()].slice(Math.max(1, fair_share));
    // Together: each waits for its claim, and none for another's.
    await Promise.all(excess.map(async ({ lease: mine }) => await letGo(mine)));
    // Every settlement wakes; looking for runs more often than this would find nothing and cost more than the calls.
    await stopped.signal.wait(LOOK_PAUSE_MS);
  }

  // claim → dial: one loop for each run held, until it is lost.
  async function work(mine: Lease, signal: Signal): Promise<void> {
    while (isHeld(mine) && !stopped.is) {
      const memory = watch.known();
      if (memory === null) {
        await signal.wait(limits.poll_work_ms);
        continue;
      }
      // One claim of a lane at a time: those behind it would only hold connections while they wait for its lock.
      const { state, attempts, unfilled, again_monotonic_ms } = await lanes.inTurn(
        `${mine.business_id}/${mine.carrier_account_id}`,
        async () => await claim(db, mine, worker_id, clock, limits, memory),
      );
      for (const attempt of attempts) track(dialing, dial(context, pacer, stopped.signal, attempt));
      if (state === 'lost') return drop(mine);
      if (unfilled && (await fillAhead(db, mine.business_id, mine.run_id, limits))) continue;
      if (state === 'more') continue;
      const wait_ms = again_monotonic_ms === null ? limits.poll_work_ms : again_monotonic_ms - clock.monotonicMs();
      const bounded_ms = Math.min(Math.max(wait_ms, 1), limits.poll_work_ms);
      // A lane's next start comes with time alone; a wake-up before it would find nothing.
      if (state === 'rate') await stopped.signal.wait(bounded_ms);
      else await signal.wait(bounded_ms);
    }
  }

  // settle: the gatherer, fed by dial and by the API's webhooks. reconcile → reclaim: the reapers.
  const tending = createTendState();
  const settling = createSettleState();
  const loops = [
    loop('lease', limits.poll_work_ms, lease, lookForRuns),
    loop('heartbeat', limits.lease_ttl_ms / 3, beat, beatSoon),
    loop('clock', limits.lease_ttl_ms / 3, async () => await tellWorkerClock(db, worker_id, clock.wallMs())),
    loop('tend', limits.poll_work_ms, async () => await tend(context, tending)),
    loop('sweep', limits.poll_work_ms, sweep),
    loop('restore', limits.poll_work_ms, async () => await settleRestore(context, settling, watch.suspected())),
  ];
  const unlisten = listenForWakes(options.app_url, (businesses) => {
    const woken = new Set<BusinessId>(businesses);
    for (const { lease: mine, signal } of held.values()) if (woken.has(mine.business_id)) signal.notify();
    lookForRuns.notify();
  });

  // Nobody waits for another business's: a run whose lock is held for long must not cost the others their leases.
  async function beat(): Promise<void> {
    const leases = [...held.values()].map(({ lease: mine }) => mine);
    for (const [business_id, mine] of Map.groupBy(leases, (one) => one.business_id))
      if (!beating.has(business_id)) {
        beating.add(business_id);
        void renew(mine).finally(() => beating.delete(business_id));
      }
  }

  async function renew(leases: Lease[]): Promise<void> {
    const { lost, failed } = await heartbeat(pulse, leases, worker_id, limits);
    for (const mine of lost) drop(mine);
    for (const { error } of failed) log.warn({ err: error }, 'a lease was not renewed; trying again');
    if (failed.length === 0) return;
    // Soon, but not at once: a database that refuses connections does so in no time.
    await stopped.signal.wait(limits.lease_ttl_ms / 10);
    beatSoon.notify();
  }

  async function sweep(): Promise<void> {
    await endOverdueRuns(db, actor, complain('a run past its end was not stopped'));
    while (!stopped.is && (await sweepOnce(db, limits, complain('a run was not swept'))));
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
    await releaseLeases(pulse, [mine], worker_id);
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
      unlisten();
      beatSoon.notify();
      await within(STOP_WAIT_MS, Promise.all([...loops, ...[...held.values()].map(({ working }) => working)]));
      await within(STOP_WAIT_MS, watch.close());
      await within(STOP_WAIT_MS, Promise.all(dialing));
      await within(STOP_WAIT_MS, gatherer.drained());
      gatherer.close();
      const leases = [...held.values()].map(({ lease: mine }) => mine);
      await within(
        STOP_WAIT_MS,
        Promise.all([releaseLeases(db, leases, worker_id), leaveWorkers(db, worker_id)]),
      ).catch(complain('leases were not given back; they expire by themselves'));
      await within(STOP_WAIT_MS, Promise.all([waker.close(), pulse.close()]));
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
