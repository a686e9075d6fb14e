import type {
  CallOutcome,
  CarrierCall,
  CarrierDriver,
  DialGate,
  FetchResult,
  FindResult,
  HangUpResult,
  PlaceRequest,
  PlaceResult,
} from '@carillon/contract';
import { CALLBACK_ROUTE, CallbackPath } from '@carillon/contract';
import { type Process, runningProcess, type World } from './world.ts';

/** A call in the carrier's books, which judge everybody else. Times are true ones. */
export interface BookedCall {
  call_id: string;
  /** Whose it is, by the address that it was given. */
  attempt: CallbackPath;
  to: string;
  from: string;
  created_us: number;
  /** From when on it is in the list. */
  listed_us: number;
  phase: CarrierCall['phase'];
  ended_us: number | null;
  outcome: CallOutcome | null;
  answered: boolean;
  /** Told to end by an order of ours, or by the answer to whoever picked up. */
  hung_up: boolean;
}

export interface CarrierHabits {
  /** Creates carry their expiry and are refused from then on: so one may be under way for as long as it likes. */
  expiring_create: boolean;
  effect_delay_ms: number;
  listing_delay_ms: number;
  response_timeout_ms: number;
  /** What this lead does with its n-th call. */
  behaviour(
    to: string,
    nth: number,
  ): { outcome: 'completed' | 'busy' | 'no_answer' | 'failed'; ring_us: number; talk_us: number };
  /** Numbers that are refused, always. */
  refuses(to: string): boolean;
}

/** What the seed has the carrier and the way to it do; asked at each request. All `fine` once the faults are over. */
export interface CarrierFate {
  create(): CreateFate;
  ask(): 'fine' | 'error' | 'lost';
  callback(): { copies: number; delay_us: number };
  /** Kills or stops the process at this place on the way of its create. */
  onTheWay(process: Process): void;
  /** The body is under way. */
  sent(): void;
}

/**
 * - `unreachable`: no connection. - `held`: the body is under way for as long as the carrier has declared, or longer where
 * it expires. - `answer_lost`: the call is made. - `request_lost`: it is not, and nobody says so. - `again`, `lane`:
 * refusals.
 */
export type CreateFate = 'fine' | 'unreachable' | 'held' | 'answer_lost' | 'request_lost' | 'again' | 'lane';

/** Where the carrier's requests go: to whichever of the API's processes is there. False: nobody took it. */
export interface Callee {
  event(attempt: CallbackPath, call: CarrierCall): Promise<boolean>;
  /** What whoever picks up is told; null: nobody answered the carrier. */
  answer(attempt: CallbackPath, call: CarrierCall): Promise<'talk' | 'hang_up' | null>;
}

export interface Carrier {
  driver: CarrierDriver;
  calls: readonly BookedCall[];
}

const NAMES = [...CALLBACK_ROUTE.matchAll(/:(\w+)/g)].map(([, name = '']) => name);

function readAddress(url: string): CallbackPath {
  const parts = new URL(url).pathname.split('/');
  const first = parts.lastIndexOf('carriers') + 1;
  return CallbackPath.parse(Object.fromEntries(NAMES.map((name, index) => [name, parts[first + index]])));
}

/** How often a callback that nobody took comes again. */
const CALLBACK_RETRIES = 3;
const CALLBACK_AGAIN_US = 1_500_000;
/** A kernel or a network may hold a request that was given to it for long; and so may whoever stops a process there. */
const LONG_UNDER_WAY_US = 15_000_000;

export function createCarrier(world: World, habits: CarrierHabits, fate: CarrierFate, callee: Callee): Carrier {
  const calls: BookedCall[] = [];
  const { random } = world;
  const way_us = () => random.whole(200, 40_000);

  function shown(call: BookedCall): CarrierCall {
    const { call_id, phase, outcome } = call;
    const duration_s = outcome === 'completed' ? 1 : null;
    return { call_id, phase, outcome, duration_s, created_at_s: Math.floor(call.created_us / 1_000_000), cause: null };
  }

  function begin(request: PlaceRequest): BookedCall {
    const lag_us = random.chance(0.5) ? random.whole(0, habits.listing_delay_ms * 1_000) : 0;
    const call: BookedCall = {
      call_id: `CA${String(calls.length + 1).padStart(32, '0')}`,
      attempt: readAddress(request.status_url),
      to: request.to,
      from: request.from,
      created_us: world.now_us(),
      listed_us: world.now_us() + lag_us,
      phase: 'queued',
      ended_us: null,
      outcome: null,
      answered: false,
      hung_up: false,
    };
    const nth = calls.filter(({ to }) => to === call.to).length;
    calls.push(call);
    world.tell(`carrier: ${call.call_id.slice(-4)} to ${call.to} for ${nameOf(call.attempt)}`);
    tellEvent(call);
    const { outcome, ring_us, talk_us } = habits.behaviour(call.to, nth);
    world.after(random.whole(1_000, 50_000), null, '', () => void move(call, 'ringing'));
    world.after(50_000 + ring_us, null, '', async () => {
      if (outcome !== 'completed') return end(call, outcome);
      if (!move(call, 'in_call')) return;
      call.answered = true;
      void greet(call);
      world.after(talk_us, null, '', () => end(call, 'completed'));
    });
    return call;
  }

  function move(call: BookedCall, phase: 'ringing' | 'in_call'): boolean {
    if (call.phase === 'ended') return false;
    call.phase = phase;
    tellEvent(call);
    return true;
  }

  function end(call: BookedCall, outcome: CallOutcome): void {
    if (call.phase === 'ended') return;
    Object.assign(call, { phase: 'ended', outcome, ended_us: world.now_us() });
    world.tell(`carrier: ${call.call_id.slice(-4)} ends ${outcome}`);
    tellEvent(call);
  }

  async function greet(call: BookedCall): Promise<void> {
    const told = await callee.answer(call.attempt, shown(call));
    if (told !== 'hang_up' || call.phase === 'ended') return;
    call.hung_up = true;
    end(call, 'completed');
  }

  /** As it is now, however late it arrives. */
  function tellEvent(call: BookedCall): void {
    const event = shown(call);
    const { copies, delay_us } = fate.callback();
    for (let copy = 0; copy < copies; copy++) deliver(call, event, delay_us * (copy + 1), CALLBACK_RETRIES);
  }

  function deliver(call: BookedCall, event: CarrierCall, delay_us: number, retries: number): void {
    world.after(delay_us + way_us(), null, '', async () => {
      // Not waited for: the world goes on while somebody works on it.
      void callee.event(call.attempt, event).then((taken) => {
        if (!taken && retries > 0) deliver(call, event, CALLBACK_AGAIN_US, retries - 1);
      });
    });
  }

  /** The process that asks; whoever else may be running. */
  function asker(): Process {
    const process = runningProcess();
    if (!process) throw new Error('the carrier is asked by nobody');
    return process;
  }

  async function place(request: PlaceRequest, gate: DialGate): Promise<PlaceResult> {
    const me = asker();
    const fated = fate.create();
    await world.sleep(me, way_us(), '');
    if (fated === 'unreachable') return { kind: 'not_dialed', cause: 'ECONNREFUSED' };
    fate.onTheWay(me);
    await world.sleep(me, 0, 'headers are out');
    await gate.pace();
    fate.onTheWay(me);
    await world.sleep(me, 0, '');
    // In one turn, as the real driver: T1 of the model.
    if (!gate.mayStart()) {
      world.tell(`${me.name}: the gate is closed`);
      return { kind: 'not_dialed', cause: 'the gate is closed' };
    }
    const { answer, heard_us } = receive(request, fated);
    fate.sent();
    fate.onTheWay(me);
    const too_late_us = habits.response_timeout_ms * 1_000;
    await world.sleep(me, Math.min(heard_us, too_late_us), '');
    const result: PlaceResult = heard_us > too_late_us ? { kind: 'unknown', cause: 'response_timeout' } : answer();
    world.tell(`${me.name}: the carrier’s answer is ${result.kind}`);
    return result;
  }

  /** Any time, or just about the longest: what is believed too soon shows there. */
  function heldFor(longest_us: number): number {
    return random.whole(random.chance(0.5) ? Math.floor(longest_us * 0.8) : 0, longest_us);
  }

  /** The body is with the carrier, or on its way: what comes of it no longer depends on who sent it. */
  function receive(request: PlaceRequest, fated: CreateFate) {
    const longest_us = habits.expiring_create ? LONG_UNDER_WAY_US : habits.effect_delay_ms * 1_000 - 1;
    const arrives_us = fated === 'held' ? heldFor(longest_us) : way_us();
    const answered = (result: PlaceResult) => ({ answer: () => result, heard_us: arrives_us + way_us() });
    const unknown = answered({ kind: 'unknown', cause: 'connection_closed' });
    if (fated === 'request_lost') return unknown;
    if (fated === 'again') return answered({ kind: 'rejected', code: '20429', class: 'again', message: '' });
    if (fated === 'lane') return answered({ kind: 'rejected', code: '20003', class: 'lane', message: '' });
    if (habits.refuses(request.to)) return answered({ kind: 'rejected', code: '21211', class: 'contact', message: '' });
    let result: PlaceResult = { kind: 'unknown', cause: 'response_timeout' };
    world.after(arrives_us, null, '', () => {
      if (habits.expiring_create && world.now_us() / 1_000 >= request.expires_at_ms)
        result = { kind: 'rejected', code: '20156', class: 'again', message: '' };
      else result = { kind: 'accepted', call_id: begin(request).call_id };
    });
    if (fated === 'answer_lost') return unknown;
    return { answer: () => result, heard_us: arrives_us + way_us() };
  }

  /** A request that may be repeated: sent, looked at half-way, answered. */
  async function ask<T>(what: string, look: () => T): Promise<T | { kind: 'error'; cause: string }> {
    const me = asker();
    const fated = fate.ask();
    await world.sleep(me, way_us(), '');
    const seen = fated === 'error' ? null : look();
    await world.sleep(me, way_us(), `the carrier has answered ${what}`);
    return seen === null || fated === 'lost' ? { kind: 'error', cause: 'http_503' } : seen;
  }

  const driver: CarrierDriver = {
    name: 'simulated',
    capabilities: () => ({
      effect_delay_ms: habits.effect_delay_ms,
      listing_delay_ms: habits.listing_delay_ms,
      expiring_create: habits.expiring_create,
      hang_up_while_queued: true,
      created_at_resolution_ms: 1_000,
    }),
    place,
    find: async (_credentials, { to, from, created_from_ms, created_to_ms }) =>
      await ask<FindResult>('find', () => ({
        kind: 'listed',
        calls: calls
          .filter((call) => call.to === to && call.from === from && call.listed_us <= world.now_us())
          .filter(({ created_us }) => created_us / 1_000 >= created_from_ms && created_us / 1_000 <= created_to_ms)
          .map(shown),
      })),
    fetchCall: async (_credentials, call_id) =>
      await ask<FetchResult>('fetch', () => {
        const call = calls.find((one) => one.call_id === call_id);
        return call ? { kind: 'call', call: shown(call) } : { kind: 'absent' };
      }),
    hangUp: async (_credentials, call_id) =>
      await ask<HangUpResult>('hang-up', () => {
        const call = calls.find((one) => one.call_id === call_id);
        if (!call || call.phase === 'ended') return { kind: 'over' };
        call.hung_up = true;
        end(call, call.answered ? 'completed' : 'cancelled');
        return { kind: 'over' };
      }),
    verify: () => true,
    readEvent: () => null,
    answer: () => ({ content_type: 'text/xml', body: 'talk' }),
    hangUpAnswer: () => ({ content_type: 'text/xml', body: 'hang up' }),
  };
  return { driver, calls };
}

/** As people speak of an attempt here: run, lead, number. */
export function nameOf({ run_id, seq, attempt_no }: Pick<CallbackPath, 'run_id' | 'seq' | 'attempt_no'>): string {
  return `${run_id}-${seq}/${attempt_no}`;
}
