import type { RestoreReport } from '@carillon/contract';
import { acknowledgeRestore, restoreReport, suspectRestore } from '@carillon/engine';
import { type Command, Option } from 'commander';
import { CLI } from '../actor.ts';
import type { CommandContext, createRunner } from '../context.ts';
import { CliError } from '../errors.ts';
import { withDatabase } from '../installation.ts';
import { asJson, dataDir } from '../options.ts';
import { counted, type Output, table } from '../output.ts';

/** `carillon restore …`: what to do after a backup was restored or a replica has taken over (docs/restore.md). */
export function addRestore(program: Command, run: ReturnType<typeof createRunner>): void {
  const restore = program.command('restore').description('After a restore from a backup, or a failover.');
  const of = (name: string, description: string) =>
    restore.command(name).description(description).addOption(dataDir()).addOption(asJson());
  run(of('status', 'Whether calls may be forgotten, and which carriers are still to be asked.'), ['database'], status);
  run(
    of('declare', 'Says that calls may be forgotten: every run is paused, and the carriers are asked.'),
    ['database'],
    declare,
  );
  run(
    of('acknowledge', 'Says that the installation may go on; runs stay paused until they are resumed.')
      .addOption(
        new Option(
          '--resume',
          'resume all runs that the restore has paused, too; also those that were stopped or paused after the backup',
        ),
      )
      .addOption(new Option('--force', 'also where a carrier could not be asked; its runs stay paused')),
    ['database'],
    acknowledge,
  );
}

async function status(context: CommandContext): Promise<void> {
  const { output } = context;
  const report = await withDatabase(context, restoreReport);
  show(output, report);
  output.result(report);
}

async function declare(context: CommandContext): Promise<void> {
  const { output } = context;
  const report = await withDatabase(context, async (db) => {
    await suspectRestore(db, 'declared by a person', CLI);
    return await restoreReport(db);
  });
  output.say('Nothing is called any more; API and workers pause every run and ask the carriers.');
  show(output, report);
  output.result(report);
}

async function acknowledge(context: CommandContext, options: { resume?: boolean; force?: boolean }): Promise<void> {
  const { config, output } = context;
  const { force = false, resume = false } = options;
  const report = await withDatabase(context, (db) =>
    acknowledgeRestore(db, { force, resume, actor: CLI, limits: config.limits }),
  );
  if (report.reason === null && (!resume || report.restores === 0))
    throw new CliError(
      'restore_not_suspected',
      'Nothing has to be acknowledged: the database is not suspected to have forgotten calls',
    );
  if (report.reason !== null && !report.acknowledged)
    throw new CliError(
      'restore_unsettled',
      `${counted(report.unsettled.length, 'carrier account')} not compared with the carrier's list yet: let a worker run and see "carillon restore status", or go on without with --force`,
    );
  if (resume) {
    output.say(`The installation goes on: ${counted(report.resumed_runs.length, 'run')} resumed.`);
    sayRuns(output, report.resumed_runs);
    if (report.resumed_runs.length > 0)
      output.warn(`carillon: ${FORGOTTEN_DECISIONS}: those of these runs go on, and are to be stopped again`);
  } else {
    output.say('The installation may go on; resume its runs with "carillon runs resume".');
    if (report.paused_runs.length > 0) output.warn(`carillon: ${FORGOTTEN_DECISIONS}: check before you resume one`);
  }
  const left = report.paused_runs.filter((run) => !run.compared).length;
  if (report.unsettled.length > 0 || left > 0)
    output.warn(
      `carillon: not every carrier account was compared with its carrier's list; ${counted(left, 'run')} of those stay paused, and to resume one may call people again`,
    );
  output.result(report);
}

const FORGOTTEN_DECISIONS =
  'the database has forgotten which runs people stopped or paused after the moment to which it was restored';

function sayRuns(output: Output, runs: RestoreReport['resumed_runs']): void {
  if (runs.length === 0) return;
  const rows = runs.map((run) => [String(run.business_id), String(run.run_id)]);
  for (const line of table([['BUSINESS', 'RUN'], ...rows])) output.say(line);
}

function show(output: Output, report: RestoreReport): void {
  if (report.reason === null) output.say('The database is not suspected to have forgotten calls.');
  else showSuspicion(output, report);
  if (report.paused_runs.length === 0) return;
  output.say('Paused for the restore until they are resumed, or all by "carillon restore acknowledge --resume":');
  sayRuns(output, report.paused_runs);
  output.warn(`carillon: ${FORGOTTEN_DECISIONS}: check before you resume one`);
}

function showSuspicion(output: Output, report: RestoreReport): void {
  output.say(`Calls may be forgotten since ${report.suspected_at}: ${report.reason}.`);
  if (report.unsettled.length === 0) {
    output.say('Every carrier was asked: look at the jobs under review, then "carillon restore acknowledge".');
    return;
  }
  output.say('Carriers that are still to be asked:');
  const rows = report.unsettled.map((account) => [
    String(account.business_id),
    String(account.carrier_account_id),
    account.problem ?? 'waiting: a worker asks once everything under way must be in the list',
  ]);
  for (const line of table([['BUSINESS', 'ACCOUNT', 'PROBLEM'], ...rows])) output.say(line);
}
