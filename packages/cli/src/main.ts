#!/usr/bin/env node
import { enableCompileCache } from 'node:module';

// Half of what a short command costs is reading the program; Node remembers it from here on.
enableCompileCache();
const [{ runProgram }, { environment }] = await Promise.all([import('./program.ts'), import('./config.ts')]);

const { stdout, stderr } = process;
let unheard = false;
for (const stream of [stdout, stderr]) {
  // Whoever reads our output may stop reading it ("carillon runs list | head -1"), or close the terminal. A command that
  // goes on until it is stopped then stops; any other ends by itself.
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE' && error.code !== 'EIO' && error.code !== 'ERR_STREAM_DESTROYED') throw error;
    if (!unheard) process.emit('SIGTERM', 'SIGTERM');
    unheard = true;
  });
}
const code = await runProgram(process.argv.slice(2), { stdout, stderr, env: environment() });
// The command has ended and given back what it held. A connection that somebody forgot must not keep the process.
await Promise.all([stdout, stderr].map((stream) => new Promise<void>((written) => stream.write('', () => written()))));
process.exit(code);
