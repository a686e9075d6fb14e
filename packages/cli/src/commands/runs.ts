import {
  type BusinessId,
  CarillonError,
  LeadId,
  type LiveCalls,
  ListId,
  type Run,
  RunId,
  StartRun,
} from '@carillon/contract';
import {
  createRun,
  createWaker,
  type Database,
  getRun,
  listLists,
  listRuns,
  pauseRun,
  resumeRun,
  stopRun,
} from '@carillon/engine';
import { CLI } from '../actor.ts';
import type { CommandContext } from '../context.ts';
import { wrongUse } from '../errors.ts';
import { withDatabase } from '../installation.ts';
import { count, counted, duration, type Output, table } from '../output.ts';
import { splitWords } from '../run/view.ts';
import { type Watched, watchRun } from '../run/watch.ts';

interface OfBusiness {
  business: BusinessId;
}

interface NewRun extends OfBusiness {
  list?: string;
  leads?: string;
  fromRun?: RunId;
  outcomes?: string;
  name?: string;
  account?: number;
  concurrency?: number;
  say?: string;
  language?: string;
  policy?: string;
  startsAt?: string;
  endsAt?: string;
  draft?: boolean;
  idempotencyKey?: string;
  watch?: boolean;
}

/** Creates a run; with --watch it is then shown until it ends. */
export async function runsStartCommand(context: CommandContext, options: NewRun): Promise<number> {
  const { config, output } = context;
  if ([options.list, options.leads, options.fromRun].filter((source) => source !== undefined).length !== 1)
    throw wrongUse('invalid_run', 'Name what to call: --list LIST, --leads IDS or --from-run RUN');
  return await withDatabase(context, async (db, _, stop) => {
    const request = await readRequest(db, options);
    const { run, created } = await createRun(db, options.business, request, {
      actor: CLI,
      idempotency_key: options.idempotencyKey,
      limits: config.limits,
    });
    await wake(db, options.business, config.limits.gather_ms);
    output.say(
      created
        ? `Created run ${run.run_id} over ${counted(run.total_leads, 'lead')}.`
        : `Run ${run.run_id} was created with this idempotency key before; it is ${run.status}.`,
    );
    if (options.watch) return await watchToTheEnd(db, options.business, RunId.parse(run.run_id), output, stop);
    output.result(run);
    return 0;
  });
}

async function readRequest(db: Database, options: NewRun): Promise<StartRun> {
  const request = StartRun.safeParse({
    list_id: options.list === undefined ? undefined : await findList(db, options.business, options.list),
    lead_ids: options.leads?.split(',').map((text) => LeadId.safeParse(text.trim()).data ?? text),
    from_run:
      options.fromRun === undefined ? undefined : { run_id: options.fromRun, outcomes: options.outcomes?.split(',') },
    name: options.name,
    carrier_account_id: options.account,
    concurrency: options.concurrency,
    answer: options.say === undefined ? undefined : { say: options.say, language: options.language },
    policy: options.policy === undefined ? undefined : readJson(options.policy),
    starts_at: options.startsAt,
    ends_at: options.endsAt,
    draft: options.draft,
  });
  if (request.success) return request.data;
  const problems = request.error.issues.map(({ path, message }) =>
    [path.join('.'), message].filter(Boolean).join(': '),
  );
  throw wrongUse('invalid_run', `The run is not valid: ${problems.join('; ')}`);
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw wrongUse(
      'invalid_run',
      `--policy is no JSON: expected such as '{"retry":{"busy":{"times":2,"after_s":600}}}'`,
    );
  }
}

const PAGE_ITEMS = 100;

/** A list by its number or, as a person would say it, by its name: the oldest of that name. */
async function findList(db: Database, business_id: BusinessId, wanted: string): Promise<number> {
  if (/^\d+$/.test(wanted)) return Number(wanted);
  let found: number | undefined;
  let after: ListId | undefined;
  do {
    const page = await listLists(db, business_id, { after, limit: PAGE_ITEMS });
    found = page.items.findLast(({ name }) => name === wanted)?.list_id ?? found;
    after = page.next === null ? undefined : ListId.parse(page.next);
  } while (after !== undefined);
  if (found === undefined) throw new CarillonError('list_not_found');
  return found;
}

/** Tells the workers at once what they would otherwise find when they look the next time. */
async function wake(db: Database, business_id: BusinessId, gather_ms: number): Promise<void> {
  const waker = createWaker(db, gather_ms, () => {});
  waker.wake(business_id);
  await waker.close();
}

export async function runsListCommand(context: CommandContext, options: OfBusiness & { after?: RunId }): Promise<void> {
  const { output } = context;
  const page = await withDatabase(context, (db) =>
    listRuns(db, options.business, { after: options.after, limit: PAGE_ITEMS }),
  );
  if (page.items.length === 0) output.say(`Business ${options.business} has no run.`);
  else for (const line of table([HEADER, ...page.items.map(runRow)])) output.say(line);
  if (page.next) output.say(`There are older ones: --after ${page.next}`);
  output.result(page);
}

const HEADER = ['RUN', 'STATUS', 'DONE', 'LEADS', 'ANSWERED', 'FAILED', 'LIVE', 'STARTED', 'NAME'];

function runRow(run: Run): string[] {
  const numbers = [run.cursor_position, run.total_leads, run.completed, run.failed, run.in_progress];
  return [String(run.run_id), run.status, ...numbers.map(count), run.started_at ?? '-', run.name];
}

export async function runsShowCommand(context: CommandContext, options: OfBusiness, run_id: RunId): Promise<void> {
  const { output } = context;
  const run = await withDatabase(context, (db) => getRun(db, options.business, run_id));
  for (const line of table(factsOf(run))) output.say(line);
  output.result(run);
}

function factsOf(run: Run): string[][] {
  const facts: [string, string | number | null][] = [
    ['run', `${run.run_id} "${run.name}"`],
    ['status', run.status],
    ['waiting for', run.waiting_reason],
    ['last error', run.last_error],
    ['leads', run.total_leads],
    ['queued', run.queued],
    ['waiting', run.waiting],
    ['in progress', run.in_progress],
    ['completed', run.completed],
    ['failed', run.failed],
    ['cancelled', run.cancelled],
    ['skipped', run.skipped],
    ['to review', run.needs_review],
    ['concurrency', run.concurrency],
    ['list', run.list_id],
    ['account', run.carrier_account_id],
    ['created', `${run.created_at} by ${run.created_by}`],
    ['starts', run.starts_at],
    ['started', run.started_at],
    ['ends', run.ends_at],
    ['ended', run.ended_at],
    ['worker', run.locked_by_worker],
  ];
  return facts.filter(([, value]) => value !== null).map(([name, value]) => [name, String(value)]);
}

export async function runsWatchCommand(context: CommandContext, options: OfBusiness, run_id: RunId): Promise<number> {
  const { output } = context;
  return await withDatabase(context, (db, _, stop) => watchToTheEnd(db, options.business, run_id, output, stop));
}

/** As a shell has it: 128 and the number of SIGINT. */
const INTERRUPTED = 130;

async function watchToTheEnd(
  db: Database,
  business_id: BusinessId,
  run_id: RunId,
  output: Output,
  stop: AbortSignal,
): Promise<number> {
  const watched = await watchRun(db, business_id, run_id, output, stop);
  if (!watched) {
    output.say(`Run ${run_id} goes on; "carillon runs watch ${run_id} --business ${business_id}" shows it again.`);
    return INTERRUPTED;
  }
  output.say(endOf(watched, output));
  output.result(watched.run);
  return watched.run.status === 'completed' ? 0 : 1;
}

/** The sentence at a run's end. */
export function endOf({ run, split }: Watched, output: Output): string {
  const took =
    run.started_at && run.ended_at ? ` in ${duration(Date.parse(run.ended_at) - Date.parse(run.started_at))}` : '';
  const why = run.last_error ? ` (${run.last_error})` : '';
  return `Run ${run.run_id} ${run.status}${took}${why}: ${counted(run.total_leads, 'lead')}, ${splitWords(split, output).join(', ')}.`;
}

export async function runsPauseCommand(
  context: CommandContext,
  options: OfBusiness & { hangUp?: boolean },
  run_id: RunId,
): Promise<void> {
  const { output } = context;
  const run = await withDatabase(context, (db) =>
    pauseRun(db, options.business, run_id, liveCalls(options), CLI, 'paused from the command line'),
  );
  output.say(`Run ${run_id} is ${run.status}. ${stillInFlight(run.in_flight, options)}`);
  output.result(run);
}

export async function runsResumeCommand(context: CommandContext, options: OfBusiness, run_id: RunId): Promise<void> {
  const { config, output } = context;
  const run = await withDatabase(context, async (db) => {
    const resumed = await resumeRun(db, options.business, run_id, config.limits, CLI);
    await wake(db, options.business, config.limits.gather_ms);
    return resumed;
  });
  output.say(`Run ${run_id} is ${run.status}.`);
  output.result(run);
}

export async function runsStopCommand(
  context: CommandContext,
  options: OfBusiness & { hangUp?: boolean },
  run_id: RunId,
): Promise<void> {
  const { output } = context;
  const run = await withDatabase(context, (db) => stopRun(db, options.business, run_id, liveCalls(options), CLI));
  output.say(`Run ${run_id} is ${run.status}. ${stillInFlight(run.in_flight, options)}`);
  output.result(run);
}

function liveCalls(options: { hangUp?: boolean }): LiveCalls {
  return options.hangUp ? 'hang_up' : 'drain';
}

function stillInFlight(in_flight: number, options: { hangUp?: boolean }): string {
  if (in_flight === 0) return 'No call is live.';
  const what = options.hangUp ? 'being hung up' : 'allowed to end (--hang-up ends them)';
  return `${counted(in_flight, 'call')} in flight, ${what}; no other is started.`;
}
