import { migrate, type MigrateOptions } from '../src/db/migrate.ts';

/**
 * A migration in a process of its own, to be killed. Reads one line of JSON and writes one: `stopped` before statement
 * number `stop_at` (from 1) is sent, after which it waits for its death, or `done` with the report and the number of
 * statements, or `failed`.
 */
export interface ChildOrder extends Pick<MigrateOptions, 'ownerUrl' | 'appUrl' | 'directory'> {
  stop_at?: number;
}

const [line] = await process.stdin.setEncoding('utf8').take(1).toArray();
const { stop_at, ...options } = JSON.parse(String(line)) as ChildOrder;
let statements = 0;
const say = (answer: object) => process.stdout.write(`${JSON.stringify(answer)}\n`);
try {
  const report = await migrate({
    ...options,
    onStatement: async (sql) => {
      if (++statements !== stop_at) return;
      say({ stopped: sql });
      await new Promise(() => {});
    },
  });
  say({ done: report, statements });
} catch (error) {
  say({ failed: error instanceof Error ? error.message : String(error) });
}
process.stdin.destroy();
