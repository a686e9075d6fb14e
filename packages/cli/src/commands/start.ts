import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { type Api, startApi } from '@carillon/api';
import { type Run, RunId } from '@carillon/contract';
import { type Database, getRun, systemClock } from '@carillon/engine';
import { startWorker } from '@carillon/worker';
import type { CommandContext } from '../context.ts';
import {
  type Campaign,
  type Demo,
  ensureAccount,
  type LeadsFile,
  openCampaign,
  openDemo,
  openLeads,
  readJobs,
} from '../demo/campaign.ts';
import { keepDatabase } from '../demo/keep-database.ts';
import { readLedger } from '../demo/ledger.ts';
import { type Simulator, startSimulator } from '../demo/simulator.ts';
import { demoFiles } from '../demo/state.ts';
import { judge, type Verdict } from '../demo/verdict.ts';
import { startEmbedded } from '../embedded/embedded.ts';
import { tryLock } from '../embedded/locks.ts';
import { CliError, describeFailure, messageOf } from '../errors.ts';
import {
  checkDatabase,
  endAtOnce,
  type Installation,
  listenError,
  migrateInstallation,
  openDrivers,
  openInstallation,
  openPools,
  secretOf,
  whenReachable,
} from '../installation.ts';
import { createLogger, humanLine } from '../logger.ts';
import { counted, duration, shortPath, table } from '../output.ts';
import { splitOf } from '../run/outcomes.ts';
import { watchRun } from '../run/watch.ts';
import { aborted, listenForStop } from '../signals.ts';
import { API_PORT } from './api.ts';
import { SIM_PORT } from './carrier-sim.ts';
import { sumUp } from './leads.ts';
import { endOf } from './runs.ts';

const EXAMPLE = path.join(import.meta.dirname, '../../../../examples/leads.csv');

export interface StartOptions {
  leads?: string;
  exit?: boolean;
  again?: boolean;
}

/**
 * Everything on this machine: database, API, simulated carrier, worker, and a run over a file. Goes on where it was,
 * however it was stopped.
 */
export async function startCommand(context: CommandContext, options: StartOptions): Promise<number> {
  const { output } = context;
  // Before anything is started: what is wrong with the file is said at once.
  const leads = await openLeads(options.leads ?? EXAMPLE);
  const held: { installation?: Installation } = {};
  const stop = listenForStop(systemClock, () => endAtOnce(held.installation));
  stop.signal.addEventListener('abort', () => output.say('Stopping … (a second Ctrl-C does not wait)'));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => {
    if (stop.signal.aborted) output.say('Stopped. The next start goes on where this one was.');
    stop.dispose();
  });
  try {
    const installation = await openPrepared(context, cleanup, stop.signal);
    held.installation = installation;
    stop.signal.throwIfAborted();
    const services = await startServices(context, installation, cleanup, stop.signal);
    return await Promise.race([services.failed, call(context, services, leads, options, stop.signal)]);
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    // What was just being started may have heard the Ctrl-C itself, before it was in a process group of its own.
    if (!isAbort(error)) output.say(output.paint('dim', `While stopping: ${describeFailure(error).sentence}`));
    return options.exit ? 1 : 0;
  }
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === 'AbortError' || isAbort(error.cause));
}

/** The database, up to date. Throws AbortError when `stop` came first. */
async function openPrepared(
  { config, output }: CommandContext,
  cleanup: AsyncDisposableStack,
  stop: AbortSignal,
): Promise<Installation> {
  if (config.database_url !== undefined) await holdDataDir(config.data_dir, cleanup);
  const installation = await openInstallation(config, output, startEmbedded);
  cleanup.defer(installation.stop);
  const { owner_url, app_url } = installation;
  if (owner_url !== undefined)
    await whenReachable(output, stop, () => migrateInstallation({ owner_url, app_url }, config, output));
  return installation;
}

/** The embedded database does this by itself. */
async function holdDataDir(data_dir: string, cleanup: AsyncDisposableStack): Promise<void> {
  try {
    await mkdir(data_dir, { recursive: true, mode: 0o700 });
    const lock = tryLock(data_dir, 'start', 'exclusive');
    if (!lock)
      throw new CliError('data_dir_in_use', `Another "carillon start" uses ${data_dir}; choose another with --data`);
    cleanup.defer(() => lock.release());
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError(
      'data_dir_not_writable',
      `The data directory ${data_dir} can't be used: ${messageOf(error)}; change its permissions or choose another`,
    );
  }
}

interface Services {
  db: Database;
  demo: Demo;
  api: Api;
  simulator: Simulator;
  worker_id: string;
  /** Rejects when a part has ended that can't be started again; never resolves. */
  failed: Promise<never>;
}

async function startServices(
  context: CommandContext,
  installation: Installation,
  cleanup: AsyncDisposableStack,
  stop: AbortSignal,
): Promise<Services> {
  const { config, output } = context;
  const db = openPools(config, installation, 'start');
  cleanup.defer(() => db.close());
  await whenReachable(output, stop, () => checkDatabase(db));
  stop.throwIfAborted();
  const failures: Promise<never>[] = [];
  if (installation.embedded) {
    const keeper = keepDatabase(db, config.data_dir, installation.app_url, output);
    cleanup.defer(keeper.stop);
    failures.push(keeper.failed);
  }
  const secret = secretOf(installation);
  const files = demoFiles(config.data_dir, config.database_url);
  const demo = await openDemo(db, files);
  const log = createLogger(config.log_level ?? 'warn', (line) =>
    output.warn(output.moves ? humanLine(line) : line.trimEnd()),
  );
  const shared = {
    db,
    app_url: installation.app_url,
    drivers: openDrivers(config),
    secret,
    limits: config.limits,
    log,
    memory_dir: config.memory_dir,
  };
  // The API before the simulator: that goes on with the calls of its last life, and tells of them.
  const api = await listenSomewhere(context, demo, async (port) => {
    const { public_url, api_limits, host } = config;
    return await startApi({ ...shared, public_url, api_limits, host, port });
  });
  cleanup.defer(() => api.close());
  stop.throwIfAborted();
  const simulator = await startSimulator(demo.state.simulator_port, files.ledger, output, stop);
  cleanup.defer(() => simulator.stop());
  stop.throwIfAborted();
  await demo.save({ api_port: api.port, simulator_port: simulator.port });
  await ensureAccount(db, demo, simulator.url, secret);
  const worker = startWorker({ ...shared, public_url: config.public_url ?? api.url, clock: systemClock });
  cleanup.defer(() => worker.stop());
  tellWhere(context, { demo, api, simulator });
  return {
    db,
    demo,
    api,
    simulator,
    worker_id: worker.worker_id,
    failed: Promise.race([simulator.failed, ...failures]),
  };
}

const PORTS_TRIED = 10;

/** At the port that was asked for; else at the one of the last time, the usual one, or one near it. */
async function listenSomewhere(
  { config, output }: CommandContext,
  demo: Demo,
  listen: (port: number) => Promise<Api>,
): Promise<Api> {
  const { host, port } = config;
  if (port !== undefined)
    return await listen(port).catch((error: unknown) => {
      throw listenError(error, host, port, 'choose another with --port or CARILLON_PORT');
    });
  const near = Array.from({ length: PORTS_TRIED }, (_, index) => API_PORT + index);
  const usual = demo.state.api_port ?? API_PORT;
  const reserved = demo.state.simulator_port ?? SIM_PORT;
  for (const candidate of new Set([usual, ...near, 0])) {
    if (candidate === reserved) continue;
    try {
      const api = await listen(candidate);
      if (candidate !== usual) output.say(`Port ${usual} is in use by another program: taking ${api.port}.`);
      return api;
    } catch (error) {
      const failure = listenError(error, host, candidate, '');
      if (!(failure instanceof CliError) || failure.code !== 'port_in_use') throw failure;
    }
  }
  throw new CliError('port_in_use', 'No port is free; choose one with --port');
}

function tellWhere(
  { config, output }: CommandContext,
  { demo, api, simulator }: Pick<Services, 'demo' | 'api' | 'simulator'>,
): void {
  const link = (text: string) => output.paint('cyan', text);
  const key = shortPath(demoFiles(config.data_dir, config.database_url).state);
  const rows = [
    ['  API', `${link(api.url)}  (what it can do: ${link(`${api.url}/docs`)})`],
    ['  API key', `"key" in ${key}, of business ${demo.state.business_id}`],
    ['  Carrier', `${link(simulator.url)}  (simulated; its page shows the live calls)`],
  ];
  output.say('');
  output.say(output.paint('bold', 'Carillon is running.'));
  for (const line of table(rows)) output.say(line);
  output.say('');
}

/** Imports, calls, watches, and compares with the carrier's books; then serves on, unless told to end. */
async function call(
  context: CommandContext,
  services: Services,
  leads: LeadsFile,
  options: StartOptions,
  stop: AbortSignal,
): Promise<number> {
  const { config, output } = context;
  const { db, demo } = services;
  const campaign = await openCampaign(db, demo, leads, { again: options.again === true, config, output, stop });
  output.say(`${shortPath(leads.file)}: ${sumUp(campaign.report)}.`);
  if (campaign.report.rejected > 0)
    output.say(
      output.paint('dim', `The rejected lines, with reasons: GET ${services.api.url}${campaign.report.rejected_url}`),
    );
  if (campaign.standing === 'finished')
    output.say('This file was called before; here is what came of it. --again calls it once more.');
  if (campaign.standing === 'unfinished')
    output.say(goingOn(campaign.run, services.worker_id, config.limits.lease_ttl_ms));
  if (!(await watchRun(db, demo.state.business_id, RunId.parse(campaign.run.run_id), output, stop)))
    return options.exit ? 1 : 0;
  const verdict = await conclude(context, services, campaign);
  output.result(verdict);
  if (options.exit) return verdict.ok ? 0 : 1;
  output.say(output.paint('dim', 'Still serving. Ctrl-C stops all of it; the next start goes on here.'));
  await aborted(stop);
  return 0;
}

/** A worker that was killed could not give its lease back. */
function goingOn(run: Run, worker_id: string, lease_ttl_ms: number): string {
  const held = run.locked_by_worker !== null && run.locked_by_worker !== worker_id;
  const when = held ? `, as soon as the lease of its last worker has ended (${duration(lease_ttl_ms)} at most)` : '';
  return `Going on with run ${run.run_id}${when}.`;
}

async function conclude(
  { output }: CommandContext,
  { db, demo, simulator }: Services,
  campaign: Campaign,
): Promise<Verdict> {
  const run_id = RunId.parse(campaign.run.run_id);
  const { business_id } = demo.state;
  const jobs = await readJobs(db, demo, run_id);
  const run = await getRun(db, business_id, run_id);
  const calls = await readLedger(simulator.url, business_id, run_id);
  const { verdict, problems } = judge(campaign.report, run, jobs, calls);
  output.say(endOf({ run, split: splitOf(jobs) }, output));
  const { carrier } = verdict;
  if (verdict.ok)
    output.say(
      `${output.paint('green', '✓')} Every lead is accounted for, and the carrier's books agree: ${counted(carrier.calls, 'call')} to ${counted(carrier.numbers, 'number')}.`,
    );
  for (const problem of problems.slice(0, PROBLEMS_SHOWN)) output.warn(`carillon: ${problem} [not_accounted_for]`);
  if (problems.length > PROBLEMS_SHOWN) output.warn(`carillon: and ${problems.length - PROBLEMS_SHOWN} more`);
  return verdict;
}

const PROBLEMS_SHOWN = 20;
