import { adopt, type AdoptOptions } from '../src/adopt/adopt.ts';
import { openDatabase } from '../src/db/database.ts';

/**
 * An adoption in a process of its own, to be killed. Reads one line of JSON and writes one for each step: `at` with its
 * number, after which it waits for a line before it goes on, and `done` with the report, or `failed`.
 */
export interface ChildOrder extends Pick<AdoptOptions, 'from' | 'app_url' | 'actor' | 'limits'> {
  discovery_url: string;
}

const lines = process.stdin.setEncoding('utf8')[Symbol.asyncIterator]();
const say = (answer: object) => process.stdout.write(`${JSON.stringify(answer)}\n`);
const { discovery_url, ...options } = JSON.parse(String((await lines.next()).value)) as ChildOrder;
const db = openDatabase({ app_url: options.app_url, discovery_url });
let steps = 0;
try {
  const report = await adopt(db, { ...options, onProgress: ({ doing, done }) => say({ at: ++steps, doing, done }) });
  say({ done: report, steps });
} catch (error) {
  say({ failed: error instanceof Error ? error.message : String(error), code: (error as { code?: string }).code });
}
process.exit();
