import { setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';
import { z } from 'zod';
import type { TestDatabase } from '../../../../test/support/database.ts';
import { withClient } from '../../../../test/support/test-server.ts';

/**
 * The plans of the very statements that the code sends, as the server ran them: auto_explain tells them to the client
 * that asked, for both logins with all their settings, row security and prepared statements.
 */

const SETTINGS: Readonly<Record<string, string>> = {
  session_preload_libraries: 'auto_explain',
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_analyze': 'on',
  'auto_explain.log_timing': 'off',
  'auto_explain.log_buffers': 'on',
  'auto_explain.log_format': 'json',
  'auto_explain.log_level': 'notice',
  // The look-ups of foreign keys too.
  'auto_explain.log_nested_statements': 'on',
};

/** For sessions that begin after this, in this database only. `more`: settings that the logins should not have. */
export async function explainEverything(database: TestDatabase, more: Readonly<Record<string, string>> = {}) {
  await withClient(database.superuserUrl, async (client) => {
    for (const role of [database.logins.app, database.logins.discovery])
      for (const [name, value] of Object.entries({ ...SETTINGS, ...more }))
        await client.query(
          `ALTER ROLE ${pg.escapeIdentifier(role)} IN DATABASE ${pg.escapeIdentifier(database.name)}
           SET ${name} = ${pg.escapeLiteral(value)}`,
        );
  });
}

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string | undefined;
  'Index Name'?: string | undefined;
  'Index Cond'?: string | undefined;
  'Actual Loops': number;
  'Rows Removed by Filter'?: number | undefined;
  'Rows Removed by Join Filter'?: number | undefined;
  'Rows Removed by Index Recheck'?: number | undefined;
  'Shared Hit Blocks'?: number | undefined;
  'Shared Read Blocks'?: number | undefined;
  Plans?: PlanNode[] | undefined;
}
const PlanNode: z.ZodType<PlanNode> = z.object({
  'Node Type': z.string(),
  'Relation Name': z.string().optional(),
  'Index Name': z.string().optional(),
  'Index Cond': z.string().optional(),
  'Actual Loops': z.number(),
  'Rows Removed by Filter': z.number().optional(),
  'Rows Removed by Join Filter': z.number().optional(),
  'Rows Removed by Index Recheck': z.number().optional(),
  'Shared Hit Blocks': z.number().optional(),
  'Shared Read Blocks': z.number().optional(),
  get Plans() {
    return z.array(PlanNode).optional();
  },
});
const Explained = z.object({ 'Query Text': z.string(), Plan: PlanNode });

export interface Plan {
  text: string;
  /** Each scan: `table: index`, or `table: Seq Scan`. */
  scans: string[];
  /** Rows that were read and thrown away. */
  removed: number;
  /** Pages that were touched. */
  blocks: number;
}

/** The plans of everything that is sent while `work` runs. */
export async function plansOf(work: () => Promise<unknown>): Promise<Plan[]> {
  const plans: Plan[] = [];
  const heard = new Map<pg.Client, (notice: { message?: string | undefined }) => void>();
  const original = pg.Client.prototype.query;
  // Every client that is used meanwhile is listened to, whichever pool it is of.
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
    if (!heard.has(this)) {
      const listen = (notice: { message?: string | undefined }) => {
        const json = /plan:\n(\{.*\})/s.exec(notice.message ?? '')?.[1];
        if (json !== undefined) plans.push(readPlan(Explained.parse(JSON.parse(json))));
      };
      heard.set(this, listen);
      this.on('notice', listen);
    }
    return Reflect.apply(original, this, args);
  } as typeof original;
  try {
    await work();
    await turn();
  } finally {
    pg.Client.prototype.query = original;
    for (const [client, listen] of heard) client.off('notice', listen);
  }
  return plans;
}

function readPlan({ 'Query Text': text, Plan: root }: z.infer<typeof Explained>): Plan {
  const nodes = [...flatten(root)];
  const scans = nodes.flatMap((node) => {
    const table = node['Relation Name'];
    const index = node['Index Name'];
    // A bitmap's index stands in a node of its own, below the one with the table's name.
    if (table === undefined) return index === undefined ? [] : [`bitmap: ${index}`];
    if (node['Node Type'] === 'ModifyTable' || node['Actual Loops'] === 0) return [];
    return [`${table}: ${index ?? node['Node Type']}`];
  });
  const removed = nodes.reduce((sum, node) => sum + removedBy(node) * node['Actual Loops'], 0);
  const blocks = (root['Shared Hit Blocks'] ?? 0) + (root['Shared Read Blocks'] ?? 0);
  return { text: text.replace(/\s+/g, ' ').trim(), scans: [...new Set(scans)], removed: Math.round(removed), blocks };
}

function* flatten(node: PlanNode): Generator<PlanNode> {
  yield node;
  for (const child of node.Plans ?? []) yield* flatten(child);
}

function removedBy(node: PlanNode): number {
  return (
    (node['Rows Removed by Filter'] ?? 0) +
    (node['Rows Removed by Join Filter'] ?? 0) +
    (node['Rows Removed by Index Recheck'] ?? 0)
  );
}
