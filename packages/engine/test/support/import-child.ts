import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { BusinessId, CarillonError, type ImportReport, ListId } from '@carillon/contract';
import { openDatabase } from '../../src/db/database.ts';
import { importLeads } from '../../src/lead/import.ts';

/** What a process is told to import, and what it says in the end. */
export interface Order {
  url: string;
  file: string;
  business_id: number;
  list_id: number;
}
export interface Outcome {
  report: ImportReport | null;
  code: string | null;
  /** The most memory that the process has had. */
  rss_bytes: number;
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as Order;
  const db = openDatabase({ app_url: order.url, pool_connections: 2 });
  const outcome: Outcome = { report: null, code: null, rss_bytes: 0 };
  try {
    outcome.report = await importLeads(
      db,
      BusinessId.parse(order.business_id),
      ListId.parse(order.list_id),
      createReadStream(order.file),
      { actor: { name: 'test', user_id: null } },
    );
  } catch (error) {
    outcome.code = error instanceof CarillonError ? error.code : String(error);
  }
  await db.close();
  outcome.rss_bytes = process.resourceUsage().maxRSS * 1_024;
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}
