import { createInterface } from 'node:readline';
import { connectEmbedded } from '@carillon/cli';

// Told of each process group that a trial starts (its id on a line) and that ends (the same, negative). When the pipe
// breaks, the trial is over, however it ended: what is left of it goes, the database's server too. Files stay.
const dataDir = process.argv[2] ?? '';
const groups = new Set<number>();
let orderly = false;
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'done') orderly = true;
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
if (!orderly) {
  // Taking it over is the way to stop it.
  const embedded = await connectEmbedded({ dataDir });
  await embedded.stop();
}
