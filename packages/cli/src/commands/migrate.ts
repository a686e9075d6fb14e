import { migrationStatus } from '@carillon/engine';
import type { CommandContext } from '../context.ts';
import { connectEmbedded } from '../embedded/embedded.ts';
import { migrateInstallation, openInstallation } from '../installation.ts';
import { counted, duration, table } from '../output.ts';

/** Brings the database up to date, or says what that would do. */
export async function migrateCommand(context: CommandContext, options: { status?: boolean }): Promise<void> {
  const { config, output } = context;
  const installation = config.owner_database_url
    ? { owner_url: config.owner_database_url, app_url: config.database_url, stop: async () => {} }
    : await openInstallation(config, output, connectEmbedded);
  const { owner_url, app_url } = installation;
  if (owner_url === undefined) throw new TypeError('migrate must say that it needs the owner');
  try {
    if (options.status) await showStatus(context, owner_url);
    else await bringUpToDate(context, { owner_url, app_url });
  } finally {
    await installation.stop();
  }
}

async function bringUpToDate(
  { config, output }: CommandContext,
  installation: { owner_url: string; app_url: string | undefined },
): Promise<void> {
  const report = await migrateInstallation(installation, config, output);
  for (const { name, duration_ms } of report.applied) output.say(`Applied ${name} (${duration(duration_ms)})`);
  for (const role of report.roles_created) output.say(`Created the login ${role}`);
  output.say(
    report.applied.length > 0
      ? `The database is up to date: ${counted(report.applied.length, 'migration')} applied, version ${report.schema_version}.`
      : `The database is up to date: version ${report.schema_version}, nothing to apply.`,
  );
  if (installation.app_url === undefined)
    output.warn('carillon: DATABASE_URL is not set, so no login was given access; set it and migrate again');
  output.result(report);
}

async function showStatus({ output }: CommandContext, owner_url: string): Promise<void> {
  const status = await migrationStatus({ ownerUrl: owner_url });
  const rows = [
    ...status.applied.map(({ name, applied_at }) => [name, 'applied', applied_at.toISOString()]),
    ...status.pending.map(({ name }) => [name, 'pending', '']),
  ];
  for (const line of table(rows)) output.say(line.trimEnd());
  output.say(
    status.pending.length > 0
      ? `${counted(status.pending.length, 'migration')} to apply: run "carillon migrate".`
      : `The database is up to date: version ${status.schema_version}.`,
  );
  output.result(status);
}
