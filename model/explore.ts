import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Found } from './variants.ts';

const MODEL = path.join(import.meta.dirname, 'dial.pml');
const TRAIL = 'dial.pml.trail';
const MEMORY_MB = 8_000;
/** How the lines begin that the model prints, among those of SPIN. */
const PRINTED = '> ';

function run(tool: string, args: string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(tool, args, { cwd, encoding: 'utf8', maxBuffer: 64 * 1024 ** 2 });
  if (error) throw new Error(`${tool} could not be started: ${error.message}; it must be installed (spin, gcc)`);
  if (status !== 0) throw new Error(`${tool} failed: ${stdout}${stderr}`);
  return stdout;
}

/** Explores every state of one variant, up to its first violation, whose trail is walked again for what it prints. */
export function explore(switches: readonly string[]): Found & { states: number; complete: boolean } {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'carillon-model-'));
  try {
    const defined = switches.map((name) => `-D${name}`);
    run('spin', [...defined, '-a', MODEL], dir);
    const flags = ['-O2', '-w', '-DSAFETY', '-DCOLLAPSE', '-DVECTORSZ=2048', `-DMEMLIM=${MEMORY_MB}`];
    run('gcc', [...flags, '-o', 'pan', 'pan.c'], dir);
    const said = run('./pan', ['-m100000', '-w24', '-n'], dir);
    return {
      violated: /^pan:\d+: assertion violated (.*) \(at depth/m.exec(said)?.[1] ?? null,
      trace: existsSync(path.join(dir, TRAIL)) ? walk(defined, dir) : null,
      states: Number(/^\s*(\S+) states, stored/m.exec(said)?.[1] ?? Number.NaN),
      complete: /errors: \d+$/m.test(said) && !/max search depth too small|out of memory/.test(said),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function walk(defined: readonly string[], dir: string): string[] {
  const lines = run('spin', [...defined, '-t', '-T', '-k', TRAIL, MODEL], dir).split('\n');
  return lines.filter((line) => line.startsWith(PRINTED)).map((line) => line.slice(PRINTED.length));
}
