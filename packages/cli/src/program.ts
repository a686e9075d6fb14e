import { BusinessId, CarrierAccountId, CreateCarrierAccount, ROLES, RunId } from '@carillon/contract';
import { Argument, Command, CommanderError, Option } from 'commander';
import { z } from 'zod';
import manifest from '../package.json' with { type: 'json' };
import { collected, parsed } from './arguments.ts';
import { accountCreateCommand, accountListCommand } from './commands/account.ts';
import { apiCommand } from './commands/api.ts';
import { businessCreateCommand } from './commands/business.ts';
import { carrierSimCommand, SIM_PORT } from './commands/carrier-sim.ts';
import { keyCreateCommand, keyListCommand, keyRevokeCommand } from './commands/key.ts';
import { leadsImportCommand } from './commands/leads.ts';
import { migrateCommand } from './commands/migrate.ts';
import {
  runsListCommand,
  runsPauseCommand,
  runsResumeCommand,
  runsShowCommand,
  runsStartCommand,
  runsStopCommand,
  runsWatchCommand,
} from './commands/runs.ts';
import { startCommand } from './commands/start.ts';
import { workerCommand } from './commands/worker.ts';
import { createRunner, type Io } from './context.ts';
import { environmentHelp } from './help.ts';

type Runner = ReturnType<typeof createRunner>;

/** Wrong use of the command line. */
const WRONG_USE = 2;

/** Runs one command line (without the program's own name) and returns the exit code. */
export async function runProgram(argv: readonly string[], io: Io): Promise<number> {
  const exit = { code: 0 };
  const program = buildProgram(createRunner(io, exit), io);
  try {
    await program.parseAsync(argv, { from: 'user' });
    return exit.code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : WRONG_USE;
  }
}

function buildProgram(run: Runner, io: Io): Command {
  const program = new Command('carillon')
    .description('An outbound bulk-call queue on PostgreSQL: at most one call per lead.')
    .version(manifest.version)
    .showSuggestionAfterError()
    .addHelpText('after', environmentHelp);
  // Commands inherit these two when they are made.
  program.exitOverride().configureOutput({
    writeOut: (text) => void io.stdout.write(text),
    writeErr: (text) => void io.stderr.write(text),
    outputError: (text, write) => write(inOneSentence(text)),
  });
  addServing(program, run);
  addTenants(program, run);
  addKeys(program, run);
  addLeads(program, run);
  addRuns(program, run);
  return program;
}

function inOneSentence(text: string): string {
  const [sentence = '', ...hints] = text
    .trim()
    .replace(/^error: /, '')
    .split('\n');
  const whole = [sentence.replace(/\.$/, ''), ...hints].join(' ');
  return `carillon: ${whole.charAt(0).toUpperCase()}${whole.slice(1)}; see "carillon --help" [wrong_use]\n`;
}

const asJson = () => new Option('--json', 'print one JSON object on standard output, and nothing else there');
const dataDir = () => new Option('--data <dir>', 'the data directory of the embedded database; as CARILLON_DATA_DIR');
const apiPort = () => new Option('--port <n>', 'the port of the API; as CARILLON_PORT');
const business = () =>
  new Option('--business <id>', 'the business')
    .argParser(parsed(BusinessId, 'the number of a business'))
    .makeOptionMandatory();
const runArgument = () => new Argument('<run>', 'the run').argParser(parsed(RunId, 'the number of a run'));

const wholeNumber = z.coerce.number().int().min(1).max(1_000_000_000);
const positive = (text: string) => parsed(wholeNumber, 'a whole number from 1')(text);
const portNumber = parsed(z.coerce.number().int().min(0).max(65_535), 'a whole number from 0 to 65535');
const e164 = CreateCarrierAccount.shape.from_numbers.element;

function addServing(program: Command, run: Runner): void {
  run(
    program
      .command('start')
      .description('Everything on this machine: database, simulated carrier, API, worker, and a run over a list.')
      .addOption(new Option('--leads <file>', 'the CSV file to call').default(undefined, 'examples/leads.csv'))
      .addOption(new Option('--exit', 'end with the run; the exit code says whether every lead is accounted for'))
      .addOption(new Option('--again', 'call a file whose run is finished once more'))
      .addOption(apiPort())
      .addOption(dataDir())
      .addOption(asJson()),
    ['database', 'secret', 'public_url'],
    startCommand,
  );
  run(
    program
      .command('migrate')
      .description('Brings the database up to date and gives the logins their access; safe to run again.')
      .addOption(new Option('--status', 'say what is applied and what is not, and change nothing'))
      .addOption(dataDir())
      .addOption(asJson()),
    ['owner'],
    migrateCommand,
  );
  run(
    program.command('api').description('One API process.').addOption(apiPort()).addOption(dataDir()),
    ['database', 'secret', 'public_url'],
    apiCommand,
  );
  run(
    program.command('worker').description('One worker process.').addOption(dataDir()),
    ['database', 'secret', 'public_url'],
    workerCommand,
  );
  run(
    program
      .command('carrier-sim')
      .description('The simulated carrier alone.')
      .addOption(new Option('--port <n>', '0: any free one').argParser(portNumber).default(SIM_PORT))
      .addOption(new Option('--ledger <file>', 'keep every call here, and go on with the calls that are in it'))
      .addOption(new Option('--seed <n>', 'decides what becomes of each call').argParser(positive).default(1)),
    [],
    carrierSimCommand,
  );
}

function addTenants(program: Command, run: Runner): void {
  run(
    program
      .command('business')
      .description('The tenants.')
      .command('create')
      .description("A business, and its owner's API key.")
      .argument('<name>', 'its name')
      .addOption(new Option('--country <code>', 'where numbers without a country code belong').default('IL'))
      .addOption(new Option('--language <code>', 'of what it is told').choices(['he', 'en']).default('he'))
      .addOption(new Option('--time-zone <zone>', 'such as Asia/Jerusalem').default('Asia/Jerusalem'))
      .addOption(dataDir())
      .addOption(asJson()),
    ['database'],
    businessCreateCommand,
  );
  const account = program.command('account').description('Carrier accounts.');
  run(
    account
      .command('create')
      .description('A carrier account to call through.')
      .addOption(business())
      .addOption(new Option('--driver <name>', 'who speaks for it').default('twilio'))
      .addOption(new Option('--base-url <url>', 'where its API is').default('https://api.twilio.com'))
      .requiredOption('--sid <sid>', "the account's id at the carrier")
      .requiredOption('--token-env <variable>', 'the environment variable that holds its auth token')
      .addOption(
        new Option('--from <number>', 'a number to call from, E.164; may be given several times')
          .argParser(collected(e164, 'an E.164 number such as +97231234567'))
          .makeOptionMandatory(),
      )
      .addOption(new Option('--lines <n>', 'calls live at once').argParser(positive).default(5))
      .addOption(
        new Option('--rate <n>', 'calls started in a second')
          .argParser(parsed(z.coerce.number().positive().max(1_000), 'a number above 0, at most 1000'))
          .default(1),
      )
      .addOption(new Option('--name <text>', 'what it is called here').default(undefined, 'its sid'))
      .addOption(dataDir())
      .addOption(asJson()),
    ['database', 'secret'],
    accountCreateCommand,
  );
  run(
    account
      .command('list')
      .description("A business's carrier accounts.")
      .addOption(business())
      .addOption(new Option('--after <id>', 'go on behind this one').argParser(positive))
      .addOption(dataDir())
      .addOption(asJson()),
    ['database'],
    accountListCommand,
  );
}

function addKeys(program: Command, run: Runner): void {
  const keys = program
    .command('key')
    .description("API keys of a business; without --business, system administrators'.");
  const whose = () =>
    new Option('--business <id>', 'the business').argParser(parsed(BusinessId, 'the number of a business'));
  const common = (command: Command) => command.addOption(whose()).addOption(dataDir()).addOption(asJson());
  run(
    common(
      keys
        .command('create')
        .description('An API key, shown once.')
        .addOption(new Option('--role <role>', 'what it may do').choices(ROLES).makeOptionMandatory())
        .addOption(new Option('--label <text>', 'what it is for')),
    ),
    ['database'],
    keyCreateCommand,
  );
  run(
    common(
      keys
        .command('list')
        .description('The keys without their secrets, newest first.')
        .addOption(new Option('--after <key>', 'go on behind this one').argParser(positive)),
    ),
    ['database'],
    keyListCommand,
  );
  run(
    common(
      keys
        .command('revoke')
        .description('Makes a key useless at once and for good.')
        .addArgument(new Argument('<key>', 'its number').argParser(positive)),
    ),
    ['database'],
    keyRevokeCommand,
  );
}

function addLeads(program: Command, run: Runner): void {
  run(
    program
      .command('leads')
      .description('People to call.')
      .command('import')
      .description('Imports a CSV file (UTF-8, with a header) into a list.')
      .argument('<file>', 'the file')
      .addOption(business())
      .requiredOption('--list <name>', 'the list; made where there is none of this name')
      .addOption(new Option('--country <code>', "where numbers without a country code belong; else the business's"))
      .addOption(new Option('--phone <column>', 'the column with the phone number, where it is not recognised'))
      .addOption(new Option('--name <column>', 'the column with the name'))
      .addOption(new Option('--external-id <column>', "the column with the CRM's own id"))
      .addOption(new Option('--time-zone <column>', 'the column with the time zone'))
      .addOption(new Option('--report <file>', 'write each line that was not accepted here, with the reason'))
      .addOption(dataDir())
      .addOption(asJson()),
    ['database'],
    leadsImportCommand,
  );
}

function addRuns(program: Command, run: Runner): void {
  const runs = program.command('runs').description('Bulk-call campaigns.');
  const of = (name: string, description: string) =>
    runs.command(name).description(description).addArgument(runArgument()).addOption(business());
  const common = (command: Command) => command.addOption(dataDir()).addOption(asJson());
  const hangUp = () => new Option('--hang-up', 'hang up live calls instead of letting them end');
  run(
    common(
      runs
        .command('start')
        .description('Calls every lead of a list.')
        .addOption(business())
        .addOption(new Option('--list <list>', 'the list, by its number or name'))
        .addOption(new Option('--leads <ids>', 'leads by their numbers, such as 1,2,3').conflicts('list'))
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
  run(
    common(
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
  run(common(of('show', 'One run.')), ['database'], runsShowCommand);
  run(common(of('watch', 'Shows a run live until it ends.')), ['database'], runsWatchCommand);
  run(
    common(of('pause', 'Starts no new call until it is resumed.').addOption(hangUp())),
    ['database'],
    runsPauseCommand,
  );
  run(common(of('resume', 'Goes on with a paused run, or starts a draft.')), ['database'], runsResumeCommand);
  run(common(of('stop', 'Ends a run for good.').addOption(hangUp())), ['database'], runsStopCommand);
}
