import { AsyncLocalStorage } from 'node:async_hooks';
import type { Clock } from '@carillon/engine';
import { createRandom, type Random } from '../chaos/random.ts';

/** A simulated process: shipped code, running in this thread, with clocks and a fate of its own. */
export interface Process {
  readonly name: string;
  readonly clock: Clock;
  /** False once it was killed: nothing that it waited for ever comes. */
  alive: boolean;
  /** Stopped: whatever comes waits until this true time. */
  asleep_until_us: number;
  /** How far its wall clock is off. */
  wall_offset_ms: number;
  /** How long its machine was suspended so far: its monotonic clock stood still meanwhile. */
  suspended_us: number;
}

interface Happening {
  at_us: number;
  /** Decides between two at one time. */
  order: number;
  process: Process | null;
  what: string;
  run: () => void | Promise<void>;
}

/**
 * A discrete-event world: true time jumps from one happening to the next, and what happens next is decided by the seed
 * alone. Each happening runs until every process waits again.
 */
export interface World {
  readonly random: Random;
  /** True time in microseconds since 1970, which nobody in the world can read. */
  now_us(): number;
  /** Whatever is not anybody's (the carrier's work) has no process, and happens whoever dies. */
  after(delay_us: number, process: Process | null, what: string, run: () => void | Promise<void>): Happening;
  drop(happening: Happening): void;
  createProcess(name: string): Process;
  kill(process: Process): void;
  /** Stops a process; its machine as well, when `suspended`. */
  stop(process: Process, for_us: number, suspended: boolean): void;
  /** Runs what `process` is to do, as that process. */
  as<T>(process: Process, work: () => T): T;
  /** Resolves for `process` after a time, and never when it dies before. */
  sleep(process: Process, delay_us: number, what: string): Promise<void>;
  /** Looks at the real database, without a moment passing in the world. */
  observe<T>(look: () => Promise<T>): Promise<T>;
  /** Lets everything happen up to that time. */
  runUntil(at_us: number): Promise<void>;
  tell(what: string): void;
  /** For readers of the trace alone: it differs between two runs of a seed. */
  note(what: string): void;
  /** What happened, line by line; all of it when asked for, else a digest alone. */
  readonly trace: Trace;
}

export interface Trace {
  readonly lines: readonly string[];
  add(line: string): void;
  note(line: string): void;
  /** Of every line but the notes, whether it is kept or not. */
  digest(): string;
}

const running = new AsyncLocalStorage<Process>();
/** The process whose code runs now; undefined: the world itself. */
export const runningProcess = (): Process | undefined => running.getStore();
const worlds = new WeakMap<Process, World>();

/** The world of a process. */
export function worldOf(process: Process): World {
  const world = worlds.get(process);
  if (!world) throw new Error(`${process.name} lives in no world`);
  return world;
}

/** In microseconds. */
export const SECOND = 1_000_000;
/** 2033: far from any clock that somebody might read by mistake. */
const BEGINNING_US = 2_000_000_000_000_000;

const realSetImmediate = setImmediate;
/** Resolves when every process has run as far as it can without anything new. */
export async function everybodyWaits(): Promise<void> {
  await new Promise<void>((resolve) => realSetImmediate(resolve));
}

export function createWorld(seed: number, keep_trace: boolean): World {
  const random = createRandom(seed, 'world');
  const queue: Happening[] = [];
  const observations = new Set<Promise<unknown>>();
  const trace = createTrace(keep_trace);
  let now_us = BEGINNING_US;

  function insert(happening: Happening): void {
    let [low, high] = [0, queue.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = queue[middle] as Happening;
      // The soonest at the end.
      if (other.at_us > happening.at_us || (other.at_us === happening.at_us && other.order > happening.order))
        low = middle + 1;
      else high = middle;
    }
    queue.splice(low, 0, happening);
  }

  const stamp = () => ((now_us - BEGINNING_US) / SECOND).toFixed(6);
  const world: World = {
    random,
    trace,
    now_us: () => now_us,
    after(delay_us, process, what, run) {
      const happening = { at_us: now_us + Math.max(0, Math.round(delay_us)), order: random.next(), process, what, run };
      insert(happening);
      return happening;
    },
    drop(happening) {
      const at = queue.indexOf(happening);
      if (at >= 0) queue.splice(at, 1);
    },
    createProcess(name) {
      const born_us = now_us;
      const process: Process = {
        name,
        alive: true,
        asleep_until_us: 0,
        wall_offset_ms: 0,
        suspended_us: 0,
        clock: {
          monotonicMs: () => (now_us - born_us - process.suspended_us) / 1_000,
          wallMs: () => now_us / 1_000 + process.wall_offset_ms,
        },
      };
      worlds.set(process, world);
      return process;
    },
    kill(process) {
      process.alive = false;
      world.tell(`${process.name} is killed`);
    },
    stop(process, for_us, suspended) {
      process.asleep_until_us = Math.max(process.asleep_until_us, now_us + for_us);
      if (suspended) process.suspended_us += for_us;
      world.tell(`${process.name} is ${suspended ? 'suspended' : 'stopped'} for ${Math.round(for_us / 1_000)} ms`);
    },
    as: (process, work) => running.run(process, work),
    sleep: (process, delay_us, what) =>
      new Promise((resolve) => void world.after(delay_us, process, what, () => resolve())),
    observe(look) {
      const looking = look();
      observations.add(looking);
      return looking.finally(() => observations.delete(looking));
    },
    async runUntil(at_us) {
      for (let next = queue.at(-1); next && next.at_us <= at_us; next = queue.at(-1)) {
        queue.pop();
        const { process } = next;
        if (process?.alive === false) continue;
        if (process && process.asleep_until_us > next.at_us) {
          next.at_us = process.asleep_until_us;
          insert(next);
          continue;
        }
        now_us = next.at_us;
        if (next.what !== '') world.tell(process ? `${process.name}: ${next.what}` : next.what);
        await next.run();
        await everybodyWaits();
        while (observations.size > 0) {
          await Promise.all(observations);
          await everybodyWaits();
        }
      }
      now_us = Math.max(now_us, at_us);
    },
    tell: (what) => trace.add(`${stamp()} ${what}`),
    note: (what) => trace.note(`${stamp()} ${what}`),
  };
  return world;
}

/** FNV-1a, over every line: two traces with one digest are the same. */
function createTrace(keep: boolean): Trace {
  const lines: string[] = [];
  let low = 0x811c9dc5;
  let high = 0x01000193;
  return {
    lines,
    note(line) {
      if (keep) lines.push(line);
    },
    add(line) {
      if (keep) lines.push(line);
      for (let i = 0; i < line.length; i++) {
        low = Math.imul(low ^ line.charCodeAt(i), 0x01000193);
        high = Math.imul(high ^ line.charCodeAt(i), 0x85ebca6b);
      }
    },
    digest: () => (low >>> 0).toString(16).padStart(8, '0') + (high >>> 0).toString(16).padStart(8, '0'),
  };
}
