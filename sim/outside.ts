import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import pg from 'pg';
import { createSimulatedClient, createSimulatedPool } from './database.ts';
import { runningProcess, worldOf } from './world.ts';

/**
 * What lies outside a process and would make it unpredictable, replaced where simulated processes ask for it and left
 * alone for everybody else: timers, chance, and the sockets to PostgreSQL. The code of the processes is what is shipped.
 */
export function simulateOutside(): void {
  simulateTimers();
  simulateChance();
  simulateConnections();
}

function simulateTimers(): void {
  const { setTimeout: realSet, clearTimeout: realClear } = globalThis;
  const simulated = new WeakMap<object, () => void>();
  const set = (work: (...args: unknown[]) => void, ms?: number, ...args: unknown[]): unknown => {
    const process = runningProcess();
    if (!process) return realSet(work, ms, ...args);
    const world = worldOf(process);
    // A timer is never early, and a busy machine makes it a little late.
    const delay_us = Math.max(1, ms ?? 1) * 1_000 + world.random.whole(0, 300);
    const happening = world.after(delay_us, process, '', () => world.as(process, () => work(...args)));
    const timer = { unref: () => timer, ref: () => timer, hasRef: () => true };
    simulated.set(timer, () => world.drop(happening));
    return timer;
  };
  const clear = (timer: unknown): void => {
    const cancel = typeof timer === 'object' && timer !== null ? simulated.get(timer) : undefined;
    if (cancel) cancel();
    else realClear(timer as NodeJS.Timeout);
  };
  Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
}

function simulateChance(): void {
  const { randomBytes } = crypto;
  Object.assign(crypto, {
    randomBytes: (size: number) => {
      const process = runningProcess();
      if (!process) return randomBytes(size);
      const { random } = worldOf(process);
      return Buffer.from(Array.from({ length: size }, () => random.whole(0, 255)));
    },
  });
  syncBuiltinESMExports();
}

function simulateConnections(): void {
  const { Pool, Client } = pg;
  Object.assign(pg, {
    Pool: function (config: pg.PoolConfig) {
      const process = runningProcess();
      return process ? createSimulatedPool(process, config) : new Pool(config);
    },
    Client: function (config: pg.ClientConfig) {
      const process = runningProcess();
      return process ? createSimulatedClient(process) : new Client(config);
    },
  });
}
