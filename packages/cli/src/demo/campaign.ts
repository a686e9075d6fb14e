import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { CarrierAccountId, type ImportReport, isFinalRun, type Job, ListId, type Run, RunId } from '@carillon/contract';
import {
  authenticate,
  createBusiness,
  createCarrierAccount,
  createList,
  createRun,
  type Database,
  listCarrierAccounts,
  listJobs,
  moveCarrierAccount,
} from '@carillon/engine';
import { CLI } from '../actor.ts';
import { importFile, readableFile } from '../commands/leads.ts';
import type { Config } from '../config.ts';
import type { Output } from '../output.ts';
import { type DemoFiles, type DemoState, readState, writeState } from './state.ts';

/** Enough to be through with the example in some seconds, and little enough to watch it. */
const CONCURRENCY = 40;
const CALLS_PER_SECOND = 60;
/** What the simulated carrier takes for an account. */
const ACCOUNT = { account_sid: 'ACcarillon', auth_token: 'simulated', from_numbers: ['+97233730000', '+97233730001'] };
/** Nobody else imports here, and whoever did before has ended: a killed import need not be waited for. */
const IMPORT_STALE_MS = 1;
const PAGE_ITEMS = 500;

/** The list file of this start, known by its content. */
export interface LeadsFile {
  file: string;
  bytes: number;
  /** SHA-256 in hex. */
  hash: string;
}

/** Throws CliError for what is no readable file. */
export async function openLeads(file: string): Promise<LeadsFile> {
  const { bytes } = await readableFile(file);
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return { file, bytes, hash: hash.digest('hex') };
}

/** The demo business, with its state kept in a file. */
export interface Demo {
  readonly state: DemoState;
  save(changes: Partial<DemoState>): Promise<void>;
}

/** Takes up the demo business that this data directory has in this database, or makes one. */
export async function openDemo(db: Database, files: DemoFiles): Promise<Demo> {
  const earlier = await readState(files.state);
  // Its database may have been replaced by another; then nobody knows the key.
  const known = earlier !== undefined && (await authenticate(db, earlier.key)).principal !== null;
  let state: DemoState = known ? earlier : await createDemo(db, files);
  return {
    get state() {
      return state;
    },
    async save(changes) {
      state = { ...state, ...changes };
      await writeState(files.state, state);
    },
  };
}

async function createDemo(db: Database, files: DemoFiles): Promise<DemoState> {
  // The calls of another database would be taken for this one's, which counts its businesses and runs from 1 as well.
  if (existsSync(files.ledger)) await rename(files.ledger, `${files.ledger}.old`);
  const { business_id, key } = await createBusiness(db, { name: 'Carillon demo' }, CLI);
  const state: DemoState = { business_id, key, files: {} };
  await writeState(files.state, state);
  return state;
}

/**
 * Makes the carrier account at the simulator, once, also where the last start was killed before it was noted down. A
 * simulator that has moved to another port is the same carrier still: it has the same ledger, and so the same calls.
 */
export async function ensureAccount(db: Database, demo: Demo, simulator_url: string, secret: Buffer): Promise<void> {
  const { business_id, carrier_account_id } = demo.state;
  if (carrier_account_id !== undefined)
    return await moveCarrierAccount(db, business_id, carrier_account_id, simulator_url, CLI);
  const { items } = await listCarrierAccounts(db, business_id, { limit: PAGE_ITEMS });
  const earlier = items.find(({ account_sid }) => account_sid === ACCOUNT.account_sid);
  const account =
    earlier ??
    (await createCarrierAccount(
      db,
      business_id,
      {
        ...ACCOUNT,
        name: 'Simulated carrier',
        driver: 'twilio',
        base_url: simulator_url,
        concurrency_limit: CONCURRENCY,
        calls_per_second: CALLS_PER_SECOND,
      },
      secret,
      CLI,
    ));
  const made = CarrierAccountId.parse(account.carrier_account_id);
  await moveCarrierAccount(db, business_id, made, simulator_url, CLI);
  await demo.save({ carrier_account_id: made });
}

export interface Campaign {
  report: ImportReport;
  run: Run;
  /** Made now; gone on with; over, and only shown. */
  standing: 'new' | 'unfinished' | 'finished';
}

/**
 * Imports the file and starts a run over it, each once, however often this is called and wherever it was killed: both
 * go by the file's content. A finished run is only made again when `again` asks for it.
 */
export async function openCampaign(
  db: Database,
  demo: Demo,
  leads: LeadsFile,
  options: { again: boolean; config: Config; output: Output; stop: AbortSignal },
): Promise<Campaign> {
  const { config, output, stop } = options;
  const { business_id } = demo.state;
  const file = demo.state.files[leads.hash] ?? (await addFile(db, demo, leads));
  const report = await importFile(
    db,
    business_id,
    { ...leads, list_id: file.list_id, stop },
    { actor: CLI, idempotency_key: `demo:${leads.hash}`, limits: { import_stale_ms: IMPORT_STALE_MS } },
    output,
  );
  const start = async (round: number) =>
    await createRun(
      db,
      business_id,
      { list_id: file.list_id, name: file.name, carrier_account_id: demo.state.carrier_account_id },
      { actor: CLI, idempotency_key: `demo:${leads.hash}:${round}`, limits: config.limits },
    );
  const first = await start(file.round);
  if (first.created) return { report, run: first.run, standing: 'new' };
  if (!isFinalRun(first.run.status)) return { report, run: first.run, standing: 'unfinished' };
  if (!options.again) return { report, run: first.run, standing: 'finished' };
  const round = file.round + 1;
  await demo.save({ files: { ...demo.state.files, [leads.hash]: { ...file, round } } });
  return { report, run: (await start(round)).run, standing: 'new' };
}

async function addFile(db: Database, demo: Demo, { file, hash }: LeadsFile) {
  const name = path.basename(file).slice(0, 200);
  const list = await createList(db, demo.state.business_id, { name }, CLI);
  const added = { name, list_id: ListId.parse(list.list_id), round: 1 };
  await demo.save({ files: { ...demo.state.files, [hash]: added } });
  return added;
}

/** Every job of a run. */
export async function readJobs(db: Database, demo: Demo, run_id: number): Promise<Job[]> {
  const jobs: Job[] = [];
  for (let after: number | undefined = 0; after !== undefined; ) {
    const page = await listJobs(db, demo.state.business_id, RunId.parse(run_id), { after, limit: PAGE_ITEMS });
    jobs.push(...page.items);
    after = page.next === null ? undefined : Number(page.next);
  }
  return jobs;
}
