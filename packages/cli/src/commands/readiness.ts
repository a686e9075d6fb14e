import type { ReadinessReport, ReadinessResult } from '@carillon/contract';
import { ping, systemClock } from '@carillon/engine';
import { checkReadiness } from '@carillon/readiness';
import type { CommandContext } from '../context.ts';
import { openDrivers, secretOf, withInstallation } from '../installation.ts';
import { duration, type Output, table } from '../output.ts';

const NOT_READY = 1;

/**
 * The report of the installation. Nothing is refused or migrated before it: what is wrong with the database or with its
 * logins is what the report is to tell.
 */
export async function readinessCommand(
  context: CommandContext,
  options: { timeout: number; askCarrier?: boolean },
): Promise<number> {
  const { config, output } = context;
  return await withInstallation(context, { name: 'readiness', migrate: false }, async ({ db, installation, stop }) => {
    await ping(db);
    const report = await checkReadiness({
      db,
      app_url: installation.app_url,
      drivers: openDrivers(config),
      secret: secretOf(installation),
      limits: config.limits,
      clock: systemClock,
      timeout_ms: options.timeout * 1_000,
      ask_carrier: options.askCarrier === true,
      stop,
    });
    show(output, report);
    output.result(report);
    return report.ok ? 0 : NOT_READY;
  });
}

function show(output: Output, { ok, points, beyond, took_ms }: ReadinessReport): void {
  for (const [title, results] of [
    ['The seven points', points],
    ['Beyond them', beyond],
  ] as const) {
    output.say(output.paint('bold', title));
    for (const line of table(results.map((result) => row(output, result)))) output.say(line);
  }
  const failed = [...points, ...beyond].filter((result) => !result.ok).map(({ point }) => point);
  output.say(
    ok
      ? output.paint('green', `Ready: everything was proven in ${duration(took_ms)}.`)
      : output.paint('red', `Not ready: ${failed.join(', ')} (${duration(took_ms)}; --json tells the evidence).`),
  );
}

function row(output: Output, { ok, warning, point, sentence, took_ms }: ReadinessResult): string[] {
  const mark = ok
    ? warning
      ? output.paint('yellow', 'look')
      : output.paint('green', 'ok')
    : output.paint('red', 'FAIL');
  return [`  ${mark}`, point, duration(took_ms), sentence];
}
