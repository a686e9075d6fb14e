import { openSync, readSync } from 'node:fs';

// Loaded into a process before everything else (`node --import`): its clocks tell what the control file says, which is
// named in this module's own address. Two numbers, in milliseconds: what is added to the wall clock, and to the monotonic.
const control = openSync(new URL(import.meta.url).searchParams.get('control') ?? '', 'r');
const offsets = new Float64Array(2);
const bytes = new Uint8Array(offsets.buffer);

// Read each time: the process is stopped while they are changed, and must not see a moment of the truth when it wakes.
function offset(which: 0 | 1): number {
  readSync(control, bytes, 0, bytes.length, 0);
  return offsets[which] ?? 0;
}

const trueWall = Date.now.bind(Date);
const trueMonotonic = performance.now.bind(performance);
const wall = () => trueWall() + offset(0);

performance.now = () => trueMonotonic() + offset(1);
Date.now = wall;
globalThis.Date = new Proxy(Date, {
  construct: (target, given: unknown[]) => Reflect.construct(target, given.length === 0 ? [wall()] : given),
});
