import { randomBytes } from 'node:crypto';
import { CANARY_DRIVER, type CarrierCall, type CarrierDriver } from '@carillon/contract';
import { wallMs } from '../clock.ts';

/** A canary's call rings and talks for this long; nobody hears it. */
const RING_MS = 200;
const TALK_MS = 300;

const CALL_ID = /^canary-(\d{13})-[0-9a-f]{12}$/;

/**
 * A carrier that calls nobody: for the runs by which the readiness check proves that workers work. It opens no socket
 * and keeps nothing: a call's id says when it was made, so that whichever worker asks, the clock answers how far it is.
 */
export function createCanaryDriver(nowMs: () => number = wallMs): CarrierDriver {
  function lookUp(call_id: string): CarrierCall | null {
    const made_ms = Number(CALL_ID.exec(call_id)?.[1] ?? Number.NaN);
    if (Number.isNaN(made_ms)) return null;
    const age_ms = nowMs() - made_ms;
    const ended = age_ms >= RING_MS + TALK_MS;
    return {
      call_id,
      phase: ended ? 'ended' : age_ms >= RING_MS ? 'in_call' : 'ringing',
      outcome: ended ? 'completed' : null,
      duration_s: ended ? 0 : null,
      created_at_s: Math.floor(made_ms / 1_000),
      cause: null,
    };
  }

  return {
    name: CANARY_DRIVER,
    // A call exists from the moment that `place` says so, or never.
    capabilities: () => ({
      effect_delay_ms: 0,
      listing_delay_ms: 0,
      expiring_create: false,
      hang_up_while_queued: true,
      created_at_resolution_ms: 1_000,
    }),
    async place(_request, gate) {
      await gate.pace();
      if (!gate.mayStart()) return { kind: 'not_dialed', cause: 'the gate is closed' };
      return { kind: 'accepted', call_id: `canary-${nowMs()}-${randomBytes(6).toString('hex')}` };
    },
    // Of a call whose id was lost nothing is left, and it disturbs nobody.
    list: async () => ({ kind: 'page', calls: [], next: null }),
    find: async () => ({ kind: 'listed', calls: [] }),
    async fetchCall(_credentials, call_id) {
      const call = lookUp(call_id);
      return call ? { kind: 'call', call } : { kind: 'absent' };
    },
    // It ends by itself before anybody could hang it up.
    hangUp: async (_credentials, call_id) => ({ kind: lookUp(call_id)?.phase === 'ended' ? 'over' : 'asked' }),
    verify: () => false,
    readEvent: () => null,
    answer: () => HANG_UP,
    hangUpAnswer: () => HANG_UP,
  };
}

const HANG_UP = { content_type: 'text/plain', body: '' };
