import { createInterface } from 'node:readline';

// Told of each process group that a test file starts (its id on a line) and that ends (the same, negative). When the
// pipe breaks, the test file is over, however it ended: what is left of the groups goes with it.
const groups = new Set<number>();
for await (const line of createInterface({ input: process.stdin })) {
  const group = Number(line);
  if (group > 0) groups.add(group);
  else groups.delete(-group);
}
for (const group of groups) {
  try {
    process.kill(-group, 'SIGKILL');
  } catch {
    // Gone already.
  }
}
