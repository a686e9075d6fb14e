import { writeFile } from 'node:fs/promises';
import { Answer, BusinessId, type CarrierAccountId } from '@carillon/contract';
import {
  adopt,
  type AdoptOptions,
  type AdoptProgress,
  type AdoptReport,
  DROP_REASONS,
  localActor,
} from '@carillon/engine';
import { InvalidArgumentError } from 'commander';
import type { CommandContext } from '../context.ts';
import { CliError, messageOf, wrongUse } from '../errors.ts';
import { withDatabase } from '../installation.ts';
import { count, counted, type Output, table } from '../output.ts';

interface Adopt {
  from: string;
  schema: string;
  dryRun?: boolean;
  business?: BusinessId;
  mapBusiness?: ReadonlyMap<string, BusinessId>;
  carrierAccount?: CarrierAccountId;
  country?: string;
  timeZone: string;
  say?: string;
  language?: string;
  report?: string;
}

const MAPPING = /^([^=]+)=(\d+)$/;

/** `old=new`, given once or several times. */
export function parseMapping(text: string, earlier: ReadonlyMap<string, BusinessId> = new Map()) {
  const [, old_business = '', business] = MAPPING.exec(text) ?? [];
  const known = BusinessId.safeParse(business);
  if (!known.success) throw new InvalidArgumentError('Expected old=new, such as 7=1.');
  if (earlier.has(old_business)) throw new InvalidArgumentError(`Old business ${old_business} is given twice.`);
  return new Map([...earlier, [old_business, known.data] as const]);
}

/** Takes over an older installation, or says what that would do. Exit code 1 when not every old row is accounted for. */
export async function adoptCommand(context: CommandContext, options: Adopt): Promise<number> {
  const { output } = context;
  const answer = readAnswer(options);
  let progress: AdoptProgress = { doing: 'runs', done: 0, total: 0 };
  const report = await withDatabase(context, async (db, installation, stop) => {
    const end = output.display(() => ({
      title: options.dryRun ? 'Rehearsing' : TITLES[progress.doing],
      progress: progress.total === 0 ? 0 : progress.done / progress.total,
      figures: `${count(progress.done)} of ${counted(progress.total, progress.doing === 'jobs' ? 'job' : 'run')}`,
      below: [],
    }));
    try {
      return await adopt(db, {
        from: options.from,
        schema: options.schema,
        dry_run: options.dryRun === true,
        app_url: installation.app_url,
        business: options.business,
        map_business: options.mapBusiness,
        carrier_account_id: options.carrierAccount,
        country: options.country,
        time_zone: options.timeZone,
        answer,
        actor: localActor('adopt'),
        stop,
        onProgress: (now) => (progress = now),
      });
    } finally {
      end();
    }
  });
  if (options.report) await writeReport(report, options.report);
  for (const line of inWords(report, output)) output.say(line);
  for (const warning of report.warnings) output.warn(`carillon: ${warning}`);
  output.result(report);
  return report.ok ? 0 : 1;
}

const TITLES = { runs: 'Reading runs', jobs: 'Reading jobs', making: 'Making runs' } as const;

function readAnswer({ say, language }: Adopt): AdoptOptions['answer'] {
  if (say === undefined && language === undefined) return undefined;
  const answer = Answer.safeParse({ say, language });
  if (answer.success) return answer.data;
  throw wrongUse(
    'invalid_answer',
    'What is said is wrong: --say needs 1 to 4000 characters, --language a tag such as he-IL',
  );
}

async function writeReport(report: AdoptReport, file: string): Promise<void> {
  await writeFile(file, `${JSON.stringify(report, null, 2)}\n`).catch((error: unknown) => {
    throw new CliError('report_not_written', `The adoption is done, but ${file} can't be written: ${messageOf(error)}`);
  });
}

/** The report for people: what was found, what became of it, and that nothing is missing. */
function* inWords(report: AdoptReport, output: Output): Generator<string> {
  const { runs, jobs, leads, sums, dry_run } = report;
  const became = (counts: object) =>
    Object.entries(counts)
      .map(([what, n]) => `${count(Number(n))} ${what.replaceAll('_', ' ')}`)
      .join(', ') || 'none';
  if (report.missing.length > 0) yield `Not in the old tables: ${report.missing.join(', ')}`;
  for (const assumed of report.assumed) yield `Assumed: ${assumed}`;
  for (const { old_business, business_id, made } of report.businesses) {
    const here = business_id === null ? 'a new business' : `business ${business_id}`;
    yield `${old_business === '' ? 'Rows of no business' : `Old business ${old_business}`} -> ${here}${made && !dry_run ? ', made for it' : ''}`;
  }
  yield `${counted(runs.read, 'run')}: ${became(runs.became)}; ${count(runs.kept_id)} kept their number, ${count(runs.new_id)} got a new one`;
  yield `${counted(jobs.read, 'job')}: ${count(jobs.taken)} taken over, ${count(sums.jobs.archived)} kept in the archive`;
  yield `  taken over: ${became(jobs.became)}`;
  const reasons = Object.entries(jobs.archived).map(([reason, n]) => [
    `  ${reason}`,
    count(n),
    DROP_REASONS[reason as keyof typeof DROP_REASONS],
    `(jobs ${report.samples[reason]?.join(', ')}${n > (report.samples[reason]?.length ?? 0) ? ' …' : ''})`,
  ]);
  yield* table(reasons);
  yield `${counted(leads.read, 'lead')}: ${count(leads.made)} made (${count(leads.kept_id)} kept their number), ${count(leads.merged)} had the number of another, ${count(leads.refused)} had none that can be called`;
  if (Object.keys(report.bad_numbers).length > 0) yield `  numbers refused: ${became(report.bad_numbers)}`;
  for (const [what, unknown] of Object.entries(report.unknown_statuses))
    if (Object.keys(unknown).length > 0) yield `Statuses of ${what} that are not known: ${became(unknown)}`;
  const whole = report.ok ? 'Every old row is accounted for.' : 'Not every old row is accounted for.';
  const done = dry_run ? 'Nothing was written.' : report.nothing_new ? 'Nothing was left to be done.' : 'Done.';
  yield output.paint(report.ok ? 'green' : 'red', `${whole} ${done}`);
}
