import {
  audit,
  type AuditReport,
  type CarrierAccess,
  type Checked,
  INVARIANTS,
  type Invariant,
} from '@carillon/auditor';
import { BusinessId, RunId } from '@carillon/contract';
import { type Database, discoveryUrl, readCredentials } from '@carillon/engine';
import { Argument, type Command, Option } from 'commander';
import { z } from 'zod';
import { parsed } from '../arguments.ts';
import type { CommandContext, createRunner } from '../context.ts';
import { wrongUse } from '../errors.ts';
import { type Installation, openDrivers, withDatabase } from '../installation.ts';
import { counted, type Output } from '../output.ts';

interface AuditCommandOptions {
  business?: BusinessId;
  ledger?: string;
  carrier: boolean;
  carrierNumbers: number;
}

/** A pair of numbers is a request or more, so what is asked by itself has to be little. */
const CARRIER_NUMBERS = 1_000;
const CARRIER_NUMBERS_MAX = 1_000_000;

const numbers = z.coerce.number().int().min(1).max(CARRIER_NUMBERS_MAX);

/** `common`: the options that all commands have. */
export function addAudit(program: Command, run: ReturnType<typeof createRunner>, common: readonly Option[]): void {
  const command = program
    .command('audit')
    .description('Recomputes the invariants from the rows and compares them with the carrier.')
    .addArgument(new Argument('[run]', 'one run; else all').argParser(parsed(RunId, 'the number of a run')))
    .addOption(new Option('--business <id>', 'one business').argParser(parsed(BusinessId, 'the number of a business')))
    .addOption(new Option('--ledger <source>', "the simulated carrier's address, or a file with its ledger"))
    .addOption(new Option('--no-carrier', 'ask no carrier: the rows alone'))
    .addOption(
      new Option('--carrier-numbers <n>', "pairs of numbers that a business's carriers are asked about, at most")
        .argParser(parsed(numbers, `a whole number from 1 to ${CARRIER_NUMBERS_MAX}`))
        .default(CARRIER_NUMBERS),
    );
  for (const option of common) command.addOption(option);
  run(command, ['database'], auditCommand);
}

/**
 * Recomputes the invariants from the rows and compares them with the carrier, or with the simulated carrier's ledger.
 * Exit code 0 only where all was judged and nothing is violated.
 */
async function auditCommand(
  context: CommandContext,
  options: AuditCommandOptions,
  run_id: RunId | undefined,
): Promise<number> {
  const { config, output } = context;
  const report = await withDatabase(context, async (db, installation) =>
    audit({
      app_url: installation.app_url,
      discovery_url: discoveryUrl(installation.app_url),
      limits: config.limits,
      business_id: options.business,
      run_id,
      ledger: options.ledger,
      carrier: carrierAccess(context, options, db, installation),
    }),
  );
  for (const line of inWords(report, output)) output.say(line);
  output.result(report);
  return report.ok ? 0 : 1;
}

/** The ledger knows everything that the list would tell, and more. */
function carrierAccess(
  { config }: CommandContext,
  { carrier, carrierNumbers, ledger }: AuditCommandOptions,
  db: Database,
  { secret }: Installation,
): CarrierAccess | undefined {
  if (!carrier || ledger !== undefined) return undefined;
  if (!secret)
    throw wrongUse(
      'config_invalid',
      "CARILLON_SECRET is not set: it opens the carrier accounts' secrets; --no-carrier audits the rows alone",
    );
  return {
    drivers: openDrivers(config),
    credentials: (business_id, account) => readCredentials(db, business_id as BusinessId, account, secret),
    numbers_most: carrierNumbers,
  };
}

function inWords(report: AuditReport, output: Output): string[] {
  const { checked, violations, violated, incomplete } = report;
  const lines = [`Audited ${scopeOf(checked)}.`];
  for (const [name, title] of Object.entries(INVARIANTS)) {
    const invariant = Number(name) as Invariant;
    lines.push(`  ${name}  ${verdictOf(report, invariant, output)}  ${title}`);
  }
  const listed = Object.values(violated).reduce((sum, count) => sum + count, 0);
  if (listed > violations.length) lines.push(`Of ${counted(listed, 'violation')} these are the first of each kind:`);
  for (const { invariant, business_id, what } of violations)
    lines.push(output.paint('red', `  [${invariant}] business ${business_id}: ${what}`));
  for (const { invariant, business_id, what } of incomplete)
    lines.push(output.paint('yellow', `  [${invariant}] ${business_id ? `business ${business_id}: ` : ''}${what}`));
  return lines;
}

function scopeOf(checked: Checked): string {
  const { businesses, runs, jobs, attempts, events, ledger_calls, carrier_numbers } = checked;
  const parts = [
    counted(businesses, 'business', 'businesses'),
    counted(runs, 'run'),
    counted(jobs, 'job'),
    counted(attempts, 'attempt'),
    counted(events, 'change of a run', 'changes of runs'),
  ];
  if (ledger_calls > 0) parts.push(`${counted(ledger_calls, 'call')} of the ledger`);
  if (carrier_numbers > 0) parts.push(`${counted(carrier_numbers, 'pair')} of numbers at the carrier`);
  return parts.join(', ');
}

const WIDTH = 12;

function verdictOf({ violated, incomplete }: AuditReport, invariant: Invariant, output: Output): string {
  const found = violated[invariant];
  if (found > 0) return output.paint('red', counted(found, 'fault').padEnd(WIDTH));
  if (incomplete.some((one) => one.invariant === invariant)) return output.paint('yellow', 'not judged'.padEnd(WIDTH));
  return output.paint('green', 'holds'.padEnd(WIDTH));
}
