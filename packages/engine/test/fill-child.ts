import { BusinessId, RunId } from '@carillon/contract';
import { openDatabase } from '../src/db/database.ts';
import { defaultLimits } from '../src/limits.ts';
import { fillAhead } from '../src/run/fill.ts';

/** Makes the rows of a run, batch by batch, as a worker does, until it is killed. Reads one line of JSON. */
export interface FillOrder {
  app_url: string;
  business_id: number;
  run_id: number;
  fill_batch_jobs: number;
}

const [line] = await process.stdin.setEncoding('utf8').take(1).toArray();
const { app_url, fill_batch_jobs, ...order } = JSON.parse(String(line)) as FillOrder;
const db = openDatabase({ app_url, pool_connections: 1 });
const limits = { ...defaultLimits, fill_batch_jobs, fill_ahead_jobs: 1_000_000 };
const [business_id, run_id] = [BusinessId.parse(order.business_id), RunId.parse(order.run_id)];
while (await fillAhead(db, business_id, run_id, limits));
await db.close();
process.stdin.destroy();
