import {
  type BusinessId,
  CarillonError,
  type CarrierCall,
  type CallbackPath,
  type CarrierDrivers,
} from '@carillon/contract';
import {
  createGatherer,
  createWaker,
  type Database,
  type Gatherer,
  type Limits,
  openDatabase,
  type Recorded,
  readAnswer,
  reportForgottenCall,
  type Waker,
} from '@carillon/engine';
import { startWorker } from '@carillon/worker';
import { pino } from 'pino';
import type { Callee } from './carrier.ts';
import { type Process, SECOND, type World } from './world.ts';

/** A process of the API, as far as calls depend on it: what routes and webhooks hand to the engine. */
export interface Api {
  process: Process;
  db: Database;
  gatherer: Gatherer;
  waker: Waker;
}

/** What came back from a process that was asked: its answer, its error, or nothing in time. */
export type Heard<T> = { kind: 'answer'; value: T } | { kind: 'refusal'; code: string } | { kind: 'nothing' };

/** Workers and APIs in their places; a place whose process was killed is empty until it is filled again. */
export interface Installation {
  workers: (Process | null)[];
  apis: (Api | null)[];
  /** Kills whoever this is, and fills the place again after a time. */
  kill(process: Process, for_us: number): void;
  /** Has some process of the API do something, as a request would. */
  ask<T>(work: (api: Api) => Promise<T>): Promise<Heard<T>>;
  callee: Callee;
  /** Calls that told of themselves to a database that did not know them. */
  forgotten: string[];
}

/** Any address will do: nobody connects to it. What counts is who it says one is. */
const APP_URL = 'postgres://app:secret@simulated/simulated';
/** A person or a carrier hangs up the line after this. */
const PATIENCE_US = 4 * SECOND;

export function createInstallation(
  world: World,
  options: {
    workers: number;
    apis: number;
    limits: Limits;
    secret: Buffer;
    drivers: () => CarrierDrivers;
    loud: boolean;
  },
): Installation {
  const { limits } = options;
  const forgotten: string[] = [];
  const log = pino(
    { level: options.loud ? 'debug' : 'silent', base: null, timestamp: false },
    { write: (line: string) => world.note(`log ${line.trim()}`) },
  );

  function startWorkerProcess(place: number, times: number): Process {
    const process = world.createProcess(`worker ${place}.${times}`);
    world.as(process, () =>
      startWorker({
        db: openDatabase({ app_url: APP_URL }),
        app_url: APP_URL,
        drivers: options.drivers(),
        secret: options.secret,
        public_url: 'https://simulated.example',
        limits,
        clock: process.clock,
        log,
      }),
    );
    return process;
  }

  function startApi(place: number, times: number): Api {
    const process = world.createProcess(`api ${place}.${times}`);
    return world.as(process, () => {
      const db = openDatabase({ app_url: APP_URL });
      const waker = createWaker(db, limits.gather_ms, () => {});
      return { process, db, waker, gatherer: createGatherer(db, waker, limits, () => {}) };
    });
  }

  const workers: (Process | null)[] = [];
  const apis: (Api | null)[] = [];
  const times = new Map<string, number>();
  function fill(kind: 'worker' | 'api', place: number): void {
    const name = `${kind} ${place}`;
    const nth = (times.get(name) ?? 0) + 1;
    times.set(name, nth);
    if (kind === 'worker') workers[place] = startWorkerProcess(place, nth);
    else apis[place] = startApi(place, nth);
    world.tell(`${name}.${nth} starts`);
  }
  for (let place = 0; place < options.apis; place++) fill('api', place);
  for (let place = 0; place < options.workers; place++) fill('worker', place);

  async function ask<T>(work: (api: Api) => Promise<T>): Promise<Heard<T>> {
    const there = apis.filter((api) => api !== null);
    if (there.length === 0) return { kind: 'nothing' };
    const api = world.random.pick(there);
    return await new Promise((resolve) => {
      const late = world.after(PATIENCE_US, null, '', () => resolve({ kind: 'nothing' }));
      const hear = (heard: Heard<T>) => {
        world.drop(late);
        resolve(heard);
      };
      world.after(world.random.whole(200, 20_000), api.process, '', () =>
        world.as(api.process, () => {
          work(api).then(
            (value) => hear({ kind: 'answer', value }),
            (error: unknown) =>
              hear(error instanceof CarillonError ? { kind: 'refusal', code: error.code } : { kind: 'nothing' }),
          );
        }),
      );
    });
  }

  const actor = { name: 'carrier', user_id: null };
  async function record(api: Api, attempt: CallbackPath, call: CarrierCall): Promise<Recorded> {
    const recorded = await api.gatherer.record({ key: attempt, evidence: { kind: 'call', call }, actor });
    if (recorded === 'unknown_attempt') {
      forgotten.push(`call ${call.call_id} of run ${attempt.run_id}, lead ${attempt.seq}`);
      await reportForgottenCall(api.db, attempt.business_id, attempt.carrier_account_id, call.call_id, actor);
    }
    return recorded;
  }

  return {
    workers,
    apis,
    forgotten,
    kill(process, for_us) {
      world.kill(process);
      for (const [place, worker] of workers.entries())
        if (worker === process) {
          workers[place] = null;
          world.after(for_us, null, '', () => fill('worker', place));
        }
      for (const [place, api] of apis.entries())
        if (api?.process === process) {
          apis[place] = null;
          world.after(for_us, null, '', () => fill('api', place));
        }
    },
    ask,
    callee: {
      async event(attempt, call) {
        return (await ask((api) => record(api, attempt, call))).kind === 'answer';
      },
      async answer(attempt, call) {
        const heard = await ask(async (api) => {
          const recorded = await record(api, attempt, call);
          if (recorded === 'unwanted' || recorded === 'unknown_attempt') return null;
          return await readAnswer(api.db, attempt);
        });
        if (heard.kind !== 'answer') return null;
        return heard.value?.carrier_account_id === attempt.carrier_account_id ? 'talk' : 'hang_up';
      },
    },
  };
}

/** The ids that a business has for the numbers of a plan. */
export type BusinessKey = { business_id: BusinessId; carrier_account_ids: number[]; list_id: number };
