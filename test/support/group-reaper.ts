import { createInterface } from 'node:readline';

// Told of each process group that a test file or a trial starts (its id on a line) and that ends (the same, negative).
// When the pipe breaks, whoever started them is gone, however it ended: what is left of the groups goes with it. So does
// the embedded database's server in the directory named by the argument, unless "done" was said; its files stay.
const [dataDir] = process.argv.slice(2);
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
if (dataDir !== undefined && !orderly) {
  // Taking it over is the way to stop it.
  const { connectEmbedded } = await import('@carillon/cli');
  const embedded = await connectEmbedded({ dataDir });
  await embedded.stop();
}
