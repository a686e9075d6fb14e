#!/usr/bin/env node
// Checks the model of the dial protocol with SPIN: `npm run model`, or `npm run model -- --quick` for a minute instead
// of a quarter of an hour. Needs `spin` and `gcc` (Debian: apt-get install spin gcc) and, in full, 4 GB of memory.
// Exit code 0 when the true protocol passes and each broken one fails with the assertion that it must break, by the
// mistake that was made. `--traces` prints what happened on the way to each violation.
import { explore } from './explore.ts';
import { objection, VARIANTS } from './variants.ts';

const quick = process.argv.includes('--quick');
const traces = process.argv.includes('--traces');
let wrong = 0;
for (const variant of VARIANTS.filter(({ large }) => !(large && quick))) {
  const since = performance.now();
  const found = explore(variant.switches);
  const { violated, trace, states, complete } = found;
  const why = complete ? objection(variant, found) : 'not every state was explored';
  if (why !== null) wrong++;
  const outcome = violated === null ? 'holds' : `violates ${violated}`;
  const seconds = ((performance.now() - since) / 1000).toFixed(1);
  const verdict = why === null ? 'ok   ' : `WRONG (${why})`;
  console.log(`${verdict} ${variant.name}: ${outcome} (${states} states, ${seconds} s)`);
  if (trace !== null && (traces || why !== null)) for (const line of trace) console.log(`      ${line}`);
}
console.log(wrong === 0 ? 'all as expected' : `${wrong} not as expected`);
process.exitCode = wrong === 0 ? 0 : 1;
