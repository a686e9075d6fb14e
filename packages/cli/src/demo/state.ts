import { createHash } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { BusinessId, CarrierAccountId, ListId } from '@carillon/contract';
import { z } from 'zod';
import { CliError, messageOf } from '../errors.ts';

/** A list file that was called: known by its content, whatever it is called. */
const DemoFile = z.object({
  name: z.string(),
  list_id: ListId,
  /** Which run over it is the current one, from 1. */
  round: z.number().int().min(1),
});
export type DemoFile = z.output<typeof DemoFile>;

/** What "carillon start" has made in its database, so that it makes it once. Holds the API key: for its owner's eyes. */
const DemoState = z.object({
  business_id: BusinessId,
  /** The owner's API key. */
  key: z.string(),
  carrier_account_id: CarrierAccountId.optional(),
  /** The account's base URL names the simulator's port, and live calls are told of at the API's. */
  simulator_port: z.number().int().optional(),
  api_port: z.number().int().optional(),
  /** By the content's SHA-256. */
  files: z.record(z.string(), DemoFile).default({}),
});
export type DemoState = z.output<typeof DemoState>;

/** Where the demo of a database is kept: one for the embedded database, another for each of the operator's own. */
export interface DemoFiles {
  state: string;
  /** The simulated carrier's: its business and run numbers are those of one database. */
  ledger: string;
}

export function demoFiles(data_dir: string, database_url: string | undefined): DemoFiles {
  const mark = database_url === undefined ? '' : `-${markOf(new URL(database_url))}`;
  return {
    state: path.join(data_dir, `demo${mark}.json`),
    ledger: path.join(data_dir, `carrier-ledger${mark}.ndjson`),
  };
}

function markOf({ host, pathname }: URL): string {
  return createHash('sha256').update(`${host}${pathname}`).digest('hex').slice(0, 8);
}

/** Undefined where there is none yet. Throws CliError where it can't be read. */
export async function readState(file: string): Promise<DemoState | undefined> {
  try {
    return DemoState.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new CliError(
      'demo_unreadable',
      `${file} can't be read (${messageOf(error)}); restore it, or remove it to begin with a new demo business`,
      { cause: error },
    );
  }
}

/** Whole or not at all, also when the process is killed meanwhile. */
export async function writeState(file: string, state: DemoState): Promise<void> {
  const fresh = `${file}.new`;
  const handle = await open(fresh, 'w', 0o600);
  try {
    await handle.writeFile(`${JSON.stringify(state, undefined, 2)}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(fresh, file);
}
