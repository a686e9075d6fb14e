import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { OwnServer } from './server.ts';

/** How a server goes away: told to end at once, its sessions ended in order; or as in a power cut, to recover from its log. */
export type Going = 'restart' | 'crash';

export interface Outage {
  how: Going;
  /** From its first moment until connections were taken again. */
  lasted_ms: number;
  /** When that was, in microseconds since 1970. */
  back_us: number;
}

/** Takes the database away for at least `away_ms` and brings it back. */
export async function takeAway(server: OwnServer, how: Going, away_ms: number): Promise<Outage> {
  const since_ms = performance.now();
  if (how === 'crash') {
    const [pid] = (await readFile(path.join(server.cluster, 'postmaster.pid'), 'utf8')).split('\n');
    process.kill(Number(pid), 'SIGQUIT');
  }
  await server.stopped(async () => await pause(away_ms));
  return { how, lasted_ms: performance.now() - since_ms, back_us: Date.now() * 1_000 };
}
