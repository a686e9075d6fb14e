import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Environment } from './processes.ts';

/** What a process's clocks add to the truth, in milliseconds. */
export interface Lie {
  wall_ms: number;
  monotonic_ms: number;
}

/** The clocks of processes that are started with `env`. */
export interface Clocks {
  env: Environment;
  /** From the next reading of a clock on. */
  tell(lie: Lie): void;
  dispose(): void;
}

export function createClocks(): Clocks {
  const directory = mkdtempSync(path.join(tmpdir(), 'carillon-clocks-'));
  const file = path.join(directory, 'control');
  const control = openSync(file, 'w');
  const tell = ({ wall_ms, monotonic_ms }: Lie) =>
    void writeSync(control, new Uint8Array(new Float64Array([wall_ms, monotonic_ms]).buffer), 0, 16, 0);
  tell({ wall_ms: 0, monotonic_ms: 0 });
  const preload = pathToFileURL(path.join(import.meta.dirname, 'lying-clocks.ts'));
  preload.searchParams.set('control', file);
  return {
    env: { NODE_OPTIONS: `--import ${preload.href}` },
    tell,
    dispose() {
      closeSync(control);
      rmSync(directory, { recursive: true });
    },
  };
}
