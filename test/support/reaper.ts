import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import path from 'node:path';

// Waits for the end of the test run, which closes the pipe however it ends. A run that ended well has removed its
// directory; after any other the server is stopped here. (Taking it over is the way to stop it.)
const dataDir = process.argv[2] ?? '';
for await (const _ of process.stdin) continue;
if (existsSync(path.join(dataDir, 'postgres'))) {
  const { connectEmbedded } = await import('@carillon/cli');
  const embedded = await connectEmbedded({ dataDir });
  await embedded.stop();
}
await rm(dataDir, { recursive: true, force: true });
