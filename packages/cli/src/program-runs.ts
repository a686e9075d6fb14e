import { CarrierAccountId, FOLLOW_UP_OUTCOMES, RunId, UNREACHED } from '@carillon/contract';
import { type Command, Option } from 'commander';
import { parsed } from './arguments.ts';
import { runsExportCommand } from './commands/export.ts';
import {
  runsListCommand,
  runsPauseCommand,
  runsResumeCommand,
  runsShowCommand,
  runsStartCommand,
  runsStopCommand,
  runsWatchCommand,
} from './commands/runs.ts';
import type { createRunner } from './context.ts';
import { asJson, business, dataDir, positive, runArgument } from './options.ts';

type Runner = ReturnType<typeof createRunner>;

/** `carillon runs …` */
export function addRuns(program: Command, run: Runner): void {
  const runs = program.command('runs').description('Bulk-call campaigns.');
  const of = (name: string, description: string) =>
    runs.command(name).description(description).addArgument(runArgument()).addOption(business());
  const hangUp = () => new Option('--hang-up', 'hang up live calls instead of letting them end');
  addStart(runs, run);
  run(
    withCommon(
      runs
        .command('list')
        .description("A business's runs, newest first.")
        .addOption(business())
        .addOption(
          new Option('--after <run>', 'go on behind this one').argParser(parsed(RunId, 'the number of a run')),
        ),
    ),
    ['database'],
    runsListCommand,
  );
  run(withCommon(of('show', 'One run.')), ['database'], runsShowCommand);
  run(withCommon(of('watch', 'Shows a run live until it ends.')), ['database'], runsWatchCommand);
  run(
    withCommon(of('pause', 'Starts no new call until it is resumed.').addOption(hangUp())),
    ['database'],
    runsPauseCommand,
  );
  run(withCommon(of('resume', 'Goes on with a paused run, or starts a draft.')), ['database'], runsResumeCommand);
  run(
    of('export', 'Writes a run as CSV to standard output: its leads with attempts and attributes.')
      .addOption(new Option('--lang <code>', 'of the header line').choices(['en', 'he']).default('en'))
      .addOption(
        new Option('--rows <what>', 'a line for each lead with its last attempt, or for each attempt')
          .choices(['leads', 'attempts'])
          .default('leads'),
      )
      .addOption(dataDir()),
    ['database'],
    runsExportCommand,
    { data: true },
  );
  run(withCommon(of('stop', 'Ends a run for good.').addOption(hangUp())), ['database'], runsStopCommand);
}

function addStart(runs: Command, run: Runner): void {
  run(
    withCommon(
      runs
        .command('start')
        .description('Calls every lead of a list, named leads, or the unreached of an earlier run.')
        .addOption(business())
        .addOption(new Option('--list <list>', 'the list, by its number or name'))
        .addOption(new Option('--leads <ids>', 'leads by their numbers, such as 1,2,3').conflicts('list'))
        .addOption(
          new Option('--from-run <run>', 'the leads of an earlier run, by how its calls ended')
            .argParser(parsed(RunId, 'the number of a run'))
            .conflicts(['list', 'leads']),
        )
        .addOption(
          new Option('--outcomes <names>', `of --from-run: ${FOLLOW_UP_OUTCOMES.join(',')}`).default(
            undefined,
            UNREACHED.join(','),
          ),
        )
        .addOption(new Option('--name <text>', 'what the run is called'))
        .addOption(
          new Option('--account <id>', 'the carrier account, where there are several').argParser(
            parsed(CarrierAccountId, 'the number of a carrier account'),
          ),
        )
        .addOption(
          new Option('--concurrency <n>', "calls live at once, within the account's lines").argParser(positive),
        )
        .addOption(new Option('--say <text>', 'what is said when somebody answers'))
        .addOption(new Option('--language <tag>', 'in which language, such as he-IL'))
        .addOption(new Option('--policy <json>', 'after which outcomes a lead is called again'))
        .addOption(new Option('--starts-at <time>', 'not before, such as 2026-03-01T09:00:00+02:00'))
        .addOption(new Option('--ends-at <time>', 'no new call after this'))
        .addOption(new Option('--draft', 'create it without starting it; "runs resume" starts it'))
        .addOption(new Option('--idempotency-key <key>', 'the same key gets the same run'))
        .addOption(new Option('--watch', 'show it until it ends')),
    ),
    ['database'],
    runsStartCommand,
  );
}

function withCommon(command: Command): Command {
  return command.addOption(dataDir()).addOption(asJson());
}
