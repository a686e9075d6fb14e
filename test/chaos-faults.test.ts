import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ANSWERS_HELD_MS } from '../chaos/faults.ts';
import { CARRIER_REQUEST_TIMEOUT_MS, LIMITS } from '../chaos/limits.ts';
import { FAULT_KINDS, planFaults } from '../chaos/plan.ts';
import { type Proxy, startProxy } from '../chaos/proxy.ts';
import { createRandom } from '../chaos/random.ts';
import { until } from './support/wait.ts';

describe('the plan of faults', () => {
  it('is the same for the same seed, and another for another', () => {
    const told = (seed: number) => planFaults(seed, 2).map(({ at_ms, kind, lasts_ms }) => ({ at_ms, kind, lasts_ms }));
    expect(told(1)).toEqual(told(1));
    expect(told(1)).not.toEqual(told(2));
  });

  it('has at least 300 faults in ten minutes, of every kind, for any seed', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const faults = planFaults(seed, 10);
      expect(faults.length).toBeGreaterThanOrEqual(300);
      expect(new Set(faults.map(({ kind }) => kind))).toEqual(new Set(FAULT_KINDS));
    }
  });

  it('stops workers for longer than their lease', () => {
    const stops = planFaults(3, 10).filter(({ kind }) => kind === 'worker_stopped');
    expect(Math.min(...stops.map(({ lasts_ms }) => lasts_ms))).toBeGreaterThan(LIMITS.lease_ttl_ms);
  });

  it('holds answers of the carrier for longer than anybody waits for them, whatever was asked', () => {
    const { dial_deadline_ms, dial_response_timeout_ms } = LIMITS;
    for (const timeout_ms of [dial_deadline_ms, dial_response_timeout_ms, CARRIER_REQUEST_TIMEOUT_MS])
      expect(ANSWERS_HELD_MS[0]).toBeGreaterThan(timeout_ms);
  });
});

describe('the proxy', () => {
  let proxy: Proxy;
  const heard: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      heard.push(String(chunk));
      socket.write(`answer to ${chunk}`);
    });
  });
  beforeAll(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    proxy = await startProxy(() => [
      // Nobody listens there: the next one is tried.
      { host: '127.0.0.1', port: 1 },
      { host: '127.0.0.1', port },
    ]);
  });
  afterAll(async () => {
    await proxy.close();
    server.close();
  });

  async function join(): Promise<{ socket: Socket; said: string[]; closed: () => boolean }> {
    const socket = connect(proxy.port, '127.0.0.1');
    const said: string[] = [];
    socket.on('error', () => {});
    socket.on('data', (chunk) => said.push(String(chunk)));
    await once(socket, 'connect');
    return { socket, said, closed: () => socket.destroyed };
  }
  const soon = (what: string, ask: () => boolean) => until(ask, { deadline_ms: 20_000, what });

  it('passes on, holds back while it is stalled, and loses nothing of that', async () => {
    const { socket, said } = await join();
    socket.write('one');
    await soon('the first answer', () => said.join('') === 'answer to one');
    proxy.stall(true);
    const other = await join();
    socket.write('two');
    other.socket.write('three');
    await expect(until(() => said.length > 1, { deadline_ms: 200 })).rejects.toThrow('not within');
    proxy.stall(false);
    await soon('what was held back', () => said.join('') === 'answer to oneanswer to two');
    await soon('what the other one sent', () => other.said.join('') === 'answer to three');
    for (const one of [socket, other.socket]) one.destroy();
  });

  it('holds answers back, whatever was asked, and passes on what is asked at once', async () => {
    const { socket, said } = await join();
    const [release, releaseOther] = [proxy.holdAnswers(60_000), proxy.holdAnswers(200)];
    releaseOther();
    heard.length = 0;
    socket.write('early');
    await soon('what was asked', () => heard.join('') === 'early');
    await expect(until(() => said.length > 0, { deadline_ms: 400 })).rejects.toThrow('not within');
    socket.destroy();
    // Whoever asks when it is over is answered at once.
    release();
    const other = await join();
    other.socket.write('late');
    await soon('an answer', () => other.said.join('') === 'answer to late');
    other.socket.destroy();
  });

  it('cuts in the middle: before the request, within it, or before its answer', async () => {
    for (const [pick, arrives] of [
      [0, ''],
      [1, 'requ'],
      [2, 'request'],
    ] as const) {
      const { socket, said, closed } = await join();
      socket.write('hello');
      await soon('an answer', () => said.length > 0);
      heard.length = 0;
      said.length = 0;
      const random = createRandom(1);
      expect(proxy.cut(1, { ...random, chance: () => true, pick: (items) => items[pick] as never })).toBeGreaterThan(0);
      socket.write('request');
      await soon('the end of the connection', closed);
      if (arrives !== '') await soon(`"${arrives}" at the server`, () => heard.join('') === arrives);
      expect([heard.join(''), said]).toEqual([arrives, []]);
    }
  });

  it('refuses connections, and takes them again', async () => {
    const { closed } = await join();
    await proxy.refuse(true);
    await soon('the reset of what stood', closed);
    await expect(join()).rejects.toThrow('ECONNREFUSED');
    await proxy.refuse(false);
    const { socket, said } = await join();
    socket.write('back');
    await soon('an answer', () => said.join('') === 'answer to back');
    socket.destroy();
  });
});
