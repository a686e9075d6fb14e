import { BusinessId, CarrierAccountId, CreateCarrierAccount, ROLES } from '@carillon/contract';
import { ENCODINGS } from '@carillon/engine';
import { Argument, Command, CommanderError, Option } from 'commander';
import { z } from 'zod';
import manifest from '../package.json' with { type: 'json' };
import { collected, parsed } from './arguments.ts';
import { accountCreateCommand, accountListCommand } from './commands/account.ts';
import { adoptCommand, parseMapping } from './commands/adopt.ts';
import { apiCommand } from './commands/api.ts';
import { addAudit } from './commands/audit.ts';
import { businessCreateCommand } from './commands/business.ts';
import { carrierSimCommand, SIM_PORT } from './commands/carrier-sim.ts';
import { keyCreateCommand, keyListCommand, keyRevokeCommand } from './commands/key.ts';
import { leadsImportCommand } from './commands/leads.ts';
import { migrateCommand } from './commands/migrate.ts';
import { readinessCommand } from './commands/readiness.ts';
import { addRestore } from './commands/restore.ts';
import { startCommand } from './commands/start.ts';
import { workerCommand } from './commands/worker.ts';
import { createRunner, type Io } from './context.ts';
import { environmentHelp } from './help.ts';
import { apiPort, asJson, business, dataDir, portNumber, positive } from './options.ts';
import { addRuns } from './program-runs.ts';

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
  addAudit(program, run, [dataDir(), asJson()]);
  addAdopt(program, run);
  addRestore(program, run);
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

const e164 = CreateCarrierAccount.shape.from_numbers.element;

function addServing(program: Command, run: Runner): void {
  run(
    program
      .command('start')
      .description('Everything on this machine: database, simulated carrier, API, worker, and a run over a list.')
      .addOption(new Option('--leads <file>', 'the list to call').default(undefined, 'examples/leads.csv'))
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
      .command('readiness')
      .description('The seven points, each proven on the running installation; the exit code says whether all hold.')
      .addOption(new Option('--ask-carrier', "ask each account's carrier whether it takes its credentials"))
      .addOption(
        new Option('--timeout <seconds>', 'what is not proven by then is not ok')
          .argParser(parsed(z.coerce.number().int().min(5).max(3_600), 'a whole number of seconds from 5 to 3600'))
          .default(60),
      )
      .addOption(dataDir())
      .addOption(asJson()),
    ['database', 'secret'],
    readinessCommand,
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
      .addOption(
        new Option('--client-validation <file>', 'JSON with the key that signs its requests, so that they expire'),
      )
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
      .description('Imports a file into a list: CSV in any dialect, NDJSON or XLSX, recognised by its content.')
      .argument('<file>', 'the file')
      .addOption(business())
      .requiredOption('--list <name>', 'the list; made where there is none of this name')
      .addOption(new Option('--country <code>', "where numbers without a country code belong; else the business's"))
      .addOption(new Option('--phone <column>', 'the column with the phone number, where it is not recognised'))
      .addOption(new Option('--name <column>', 'the column with the name'))
      .addOption(new Option('--external-id <column>', "the column with the CRM's own id"))
      .addOption(new Option('--time-zone <column>', 'the column with the time zone'))
      .addOption(new Option('--extension <column>', 'the column with the extension'))
      .addOption(new Option('--consent-source <column>', 'the column with where each agreed to be called'))
      .addOption(new Option('--consent-at <column>', 'the column with the time at which they did'))
      .addOption(new Option('--consent-text <column>', 'the column with the words to which they did'))
      .addOption(new Option('--encoding <name>', 'of a text, where it is not recognised').choices(ENCODINGS))
      .addOption(new Option('--sheet <name>', 'of a workbook; the first visible one when left out'))
      .addOption(new Option('--report <file>', 'write each line that was not accepted here, with the reason'))
      .addOption(dataDir())
      .addOption(asJson()),
    ['database'],
    leadsImportCommand,
  );
}

function addAdopt(program: Command, run: Runner): void {
  run(
    program
      .command('adopt')
      .description("Takes over an older installation's runs and jobs. Its tables are only read; safe to run again.")
      .requiredOption(
        '--from <url>',
        'the old database: postgres://user@host/database; the password may be in PGPASSWORD',
      )
      .addOption(new Option('--schema <name>', 'where its tables are').default('public'))
      .addOption(new Option('--dry-run', 'say what would happen, and write nothing'))
      .addOption(
        new Option('--business <id>', 'takes the rows that name no business; made where it is left out').argParser(
          parsed(BusinessId, 'the number of a business'),
        ),
      )
      .addOption(
        new Option('--map-business <old=new>', 'which business takes over an old one; may be given several times')
          .argParser(parseMapping)
          .default(undefined, 'one is made for each'),
      )
      .addOption(
        new Option('--carrier-account <id>', 'the account of the runs of a business that has several').argParser(
          parsed(CarrierAccountId, 'the number of a carrier account'),
        ),
      )
      .addOption(new Option('--country <code>', "where numbers without a country code belong; else the business's"))
      .addOption(new Option('--time-zone <zone>', "of the old tables' times without a zone").default('UTC'))
      .addOption(new Option('--say <text>', 'what is said when somebody answers a run that goes on'))
      .addOption(new Option('--language <tag>', 'in which language, such as he-IL'))
      .addOption(new Option('--report <file>', 'write the report here too, as JSON'))
      .addOption(dataDir())
      .addOption(asJson()),
    ['database'],
    adoptCommand,
  );
}
