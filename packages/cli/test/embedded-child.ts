import { connectEmbedded, EmbeddedError, startEmbedded } from '@carillon/cli';

/**
 * A command on a data directory, in a process of its own. Reads lines of JSON: first the order, then `{}` when it shall
 * stop. Writes the steps, then what it got, then `stopped`; or why it failed. With `hang_at` it waits for its death
 * after that step.
 */
export interface EmbeddedOrder {
  command: 'start' | 'connect';
  dataDir: string;
  port?: number;
  hang_at?: string;
}

// Ctrl-C is the parent's to answer: here it must do nothing.
process.on('SIGINT', () => {});
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
const lines = process.stdin.setEncoding('utf8')[Symbol.asyncIterator]();
const { command, hang_at, ...options } = JSON.parse(String((await lines.next()).value)) as EmbeddedOrder;
try {
  const open = command === 'start' ? startEmbedded : connectEmbedded;
  const embedded = await open({
    ...options,
    onProgress: (step) => {
      say({ step });
      // The thread itself must stand still: only a kill ends it.
      if (step === hang_at) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    },
  });
  say({ ...embedded });
  await lines.next();
  await embedded.stop();
  say({ stopped: true });
} catch (error) {
  say(error instanceof EmbeddedError ? { code: error.code, message: error.message } : { message: String(error) });
}
process.stdin.destroy();
