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
      .addOption(new Option('--resume', 'resume the runs that the restore has paused, too'))
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
  if (report.reason === null)
    throw new CliError(
      'restore_not_suspected',
      'Nothing has to be acknowledged: the database is not suspected to have forgotten calls',
    );
  if (!report.acknowledged)
    throw new CliError(
      'restore_unsettled',
      `${counted(report.unsettled.length, 'carrier account')} not compared with the carrier's list yet: let a worker run and see "carillon restore status", or go on without with --force`,
    );
  output.say(
    resume
      ? `The installation goes on: ${counted(report.resumed_runs, 'run')} resumed.`
      : 'The installation may go on; resume its runs with "carillon runs resume".',
  );
  if (report.unsettled.length > 0)
    output.warn(
      `carillon: ${counted(report.unsettled.length, 'carrier account')} were not compared with the carrier's list; their runs stay paused, and to resume one may call people again`,
    );
  output.result(report);
}

function show(output: Output, report: RestoreReport): void {
  if (report.reason === null) {
    output.say('The database is not suspected to have forgotten calls.');
    return;
  }
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
