#!/usr/bin/env node
// Plants each mistake of planted.ts in a copy of the repository and sees that the simulation finds it within so many
// seeds: `npm run sim:planted [-- --only <regexp>] [--seeds N]`. Exit code 1 when one is not found.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { plantedTree } from '../mutations/tree.ts';
import { PLANTED } from './planted.ts';

const { values } = parseArgs({
  options: { only: { type: 'string', default: '' }, seeds: { type: 'string', default: '1000' } },
});
const only = new RegExp(values.only);

const tree = await plantedTree();
let searching: ChildProcess | undefined;
let stopped = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    stopped = true;
    searching?.kill(signal);
  });
let missed = 0;
try {
  for (const planted of PLANTED.filter(({ name }) => only.test(name))) {
    await tree.apply(planted);
    const found = await search();
    if (stopped) break;
    if (found === null) missed += 1;
    console.log(`${planted.name.padEnd(18)} ${found ?? `NOT FOUND in ${values.seeds} seeds`}`);
    await tree.restore();
  }
} finally {
  await tree.remove();
}
process.exitCode = stopped ? 130 : missed > 0 ? 1 : 0;

/** After how many seeds, and the first that was said; null when nothing was found. */
async function search(): Promise<string | null> {
  const main = path.join(tree.root, 'sim/main.ts');
  const child = spawn(process.execPath, [main, '--from', '1', '--seeds', values.seeds, '--first'], {
    cwd: tree.root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  searching = child;
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await once(child, 'close');
  const seed = /^seed (\d+) /m.exec(text)?.[1];
  const line = text.split('\n').find((one) => one.startsWith('  '));
  return seed && line ? `after ${seed} seeds: ${line.trim()}` : null;
}
