import { Socket } from 'node:net';
import { CANARY_DRIVER, type CarrierDriver, offeredDrivers, type PlaceRequest } from '@carillon/contract';
import { describe, expect, it, vi } from 'vitest';
import { createCanaryDriver } from '../src/canary/driver.ts';
import { createCarrierDrivers } from '../src/index.ts';

const credentials = { driver: 'canary', base_url: 'canary:', account_sid: 'canary', auth_token: 'canary' };
const request: PlaceRequest = {
  credentials,
  to: '+12025550100',
  from: '+12025550199',
  status_url: 'http://127.0.0.1:1/status',
  answer_url: 'http://127.0.0.1:1/answer',
  ring_timeout_ms: 1_000,
  call_max_ms: 1_000,
  expires_at_ms: 4_102_444_800_000,
};
const open = { pace: async () => {}, mayStart: () => true };

async function place(driver: CarrierDriver): Promise<string> {
  const placed = await driver.place(request, open);
  if (placed.kind !== 'accepted') throw new Error(`not accepted: ${placed.kind}`);
  return placed.call_id;
}

describe('the canary carrier', () => {
  it('lets a call ring, talk and end by the clock alone, whichever process asks', async () => {
    const now = { ms: 1_790_000_000_000 };
    const call_id = await place(createCanaryDriver(() => now.ms));
    const another = createCanaryDriver(() => now.ms);
    const phase = async () => {
      const found = await another.fetchCall(credentials, call_id);
      return found.kind === 'call' ? `${found.call.phase} ${found.call.outcome}` : found.kind;
    };
    expect(await phase()).toBe('ringing null');
    expect(await another.hangUp(credentials, call_id)).toEqual({ kind: 'asked' });
    now.ms += 200;
    expect(await phase()).toBe('in_call null');
    now.ms += 300;
    expect(await phase()).toBe('ended completed');
    expect(await another.hangUp(credentials, call_id)).toEqual({ kind: 'over' });
  });

  it('gives each call an id of its own, also within one millisecond', async () => {
    const driver = createCanaryDriver(() => 1_790_000_000_000);
    expect(new Set([await place(driver), await place(driver), await place(driver)]).size).toBe(3);
  });

  it('asks the gate, and then makes no call that it forbids', async () => {
    const driver = createCanaryDriver();
    const gate = { pace: vi.fn<() => Promise<void>>(async () => {}), mayStart: () => false };
    expect(await driver.place(request, gate)).toMatchObject({ kind: 'not_dialed' });
    expect(gate.pace).toHaveBeenCalledOnce();
  });

  it('opens no socket, whatever it is asked', async () => {
    const connect = vi.spyOn(Socket.prototype, 'connect');
    const driver = createCanaryDriver();
    const call_id = await place(driver);
    const numbers = { to: request.to, from: request.from, created_from_ms: 0, created_to_ms: 1 };
    expect(await driver.find(credentials, numbers)).toEqual({ kind: 'listed', calls: [] });
    expect(await driver.fetchCall(credentials, 'CA1')).toEqual({ kind: 'absent' });
    await driver.hangUp(credentials, call_id);
    expect(connect).not.toHaveBeenCalled();
    connect.mockRestore();
  });

  it('believes no callback, since nobody sends any', () => {
    const driver = createCanaryDriver();
    const callback = { url: 'https://x/', headers: {}, form: { CallSid: 'canary-1790000000000-1' } };
    expect(driver.verify(credentials, callback)).toBe(false);
    expect(driver.readEvent(callback)).toBeNull();
  });

  it('is known to every process and offered to nobody', () => {
    const drivers = createCarrierDrivers();
    expect(drivers.get(CANARY_DRIVER)?.name).toBe('canary');
    expect(offeredDrivers(drivers)).toEqual(['twilio']);
  });
});
