import { setTimeout as pause } from 'node:timers/promises';
import { createCarrierDrivers } from '@carillon/carriers';
import type { CarrierDrivers } from '@carillon/contract';
import {
  checkLogin,
  checkSchema,
  type Database,
  migrate,
  type MigrateReport,
  openDatabase,
  systemClock,
} from '@carillon/engine';
import type { Config } from './config.ts';
import { SETTINGS } from './config-table.ts';
import type { CommandContext } from './context.ts';
import { connectEmbedded, type Embedded, type EmbeddedStep } from './embedded/embedded.ts';
import { CliError, describeFailure, isUnmigrated, isUnreachable, messageOf } from './errors.ts';
import { duration, type Output } from './output.ts';
import { listenForStop } from './signals.ts';

/** Where the database is, and what is needed to use it. */
export interface Installation {
  embedded: boolean;
  app_url: string;
  /** Undefined where the operator has not given it: then nothing can be migrated. */
  owner_url: string | undefined;
  /** Undefined where the command needs none and the operator has not given it. */
  secret: Buffer | undefined;
  /** Gives up the embedded database; nothing for one of the operator's own. */
  stop(): Promise<void>;
}

type OpenEmbedded = (options: { dataDir: string; onProgress: (step: EmbeddedStep) => void }) => Promise<Embedded>;

/** The database of DATABASE_URL, or the embedded one, which `open` starts or joins. */
export async function openInstallation(config: Config, output: Output, open: OpenEmbedded): Promise<Installation> {
  const { database_url } = config;
  if (database_url !== undefined)
    return {
      embedded: false,
      app_url: database_url,
      owner_url: config.owner_database_url,
      secret: config.secret,
      stop: async () => {},
    };
  const embedded = await open({
    dataDir: config.data_dir,
    onProgress: (step) => {
      const text = STEPS[step];
      if (text) output.say(output.paint('dim', text));
    },
  });
  return {
    embedded: true,
    app_url: embedded.appUrl,
    owner_url: embedded.ownerUrl,
    secret: config.secret ?? SETTINGS.secret.schema.parse(embedded.secret),
    stop: () => embedded.stop(),
  };
}

const STEPS: Partial<Record<EmbeddedStep, string>> = {
  creating: 'Creating the embedded database …',
  stopping_leftover: 'Stopping a database that outlived its Carillon …',
  recovering: 'The embedded database recovers from a crash …',
};

/** Brings the tables up to date, and says what the owner may not do. */
export async function migrateInstallation(
  installation: { owner_url: string; app_url: string | undefined },
  config: Config,
  output: Output,
): Promise<MigrateReport> {
  const report = await migrate({
    ownerUrl: installation.owner_url,
    appUrl: installation.app_url,
    idle_in_transaction_timeout_ms: config.idle_in_transaction_timeout_ms,
    onProgress(progress) {
      if (progress.kind === 'waiting') output.say(`Waiting for another migration (${duration(progress.waited_ms)}) …`);
    },
  });
  for (const warning of report.warnings) output.warn(`carillon: ${warning}`);
  return report;
}

/** The embedded database belongs to this release alone, so nobody needs to be asked. */
export async function migrateEmbedded(installation: Installation, config: Config, output: Output): Promise<void> {
  const { embedded, owner_url, app_url } = installation;
  if (embedded && owner_url !== undefined) await migrateInstallation({ owner_url, app_url }, config, output);
}

export function openPools(config: Config, installation: Pick<Installation, 'app_url'>, name: string): Database {
  return openDatabase({
    app_url: installation.app_url,
    pool_connections: config.pool_connections,
    application_name: `carillon ${name}`,
    idle_in_transaction_timeout_ms: config.idle_in_transaction_timeout_ms,
  });
}

/** What a command works on, to be given back at its end. */
export interface Opened {
  installation: Installation;
  db: Database;
  stop: AbortSignal;
}

/**
 * Opens the installation for `work` and gives everything back afterwards, however it ends. The first Ctrl-C aborts
 * `stop`, for work that takes long; a second one does not wait for it. `migrate`: an embedded database is brought up to
 * date first.
 */
export async function withInstallation<T>(
  { config, output }: CommandContext,
  options: { name: string; migrate: boolean },
  work: (opened: Opened) => Promise<T>,
): Promise<T> {
  const held: { installation?: Installation } = {};
  const stop = listenForStop(systemClock, () => endAtOnce(held.installation));
  await using cleanup = new AsyncDisposableStack();
  cleanup.defer(() => stop.dispose());
  const installation = await openInstallation(config, output, connectEmbedded);
  held.installation = installation;
  cleanup.defer(installation.stop);
  if (options.migrate) await migrateEmbedded(installation, config, output);
  const db = openPools(config, installation, options.name);
  cleanup.defer(() => db.close());
  return await work({ installation, db, stop: stop.signal });
}

/** The same for what needs a database that is in order. */
export async function withDatabase<T>(
  context: CommandContext,
  work: (db: Database, installation: Installation, stop: AbortSignal) => Promise<T>,
): Promise<T> {
  return await withInstallation(context, { name: 'command', migrate: true }, async ({ db, installation, stop }) => {
    await checkDatabase(db);
    return await work(db, installation, stop);
  });
}

const END_WITHIN_MS = 3_000;
let ending = false;

/** For whoever does not want to wait any longer: only the embedded database is still told, so that it does not go on alone. */
export function endAtOnce(installation: Installation | undefined): void {
  if (ending || !installation) process.exit(1);
  ending = true;
  setTimeout(() => process.exit(1), END_WITHIN_MS);
  installation.stop().finally(() => process.exit(1));
}

/** Refuses tables of another release, and logins that row security does not hold. */
export async function checkDatabase(db: Database): Promise<void> {
  await checkSchema(db);
  await checkLogin(db);
}

const WAIT_MS = 500;
const SAY_EVERY_MS = 5_000;

/**
 * Does `work` as soon as the database can be reached, saying every few seconds that it waits. One that is not migrated
 * yet is waited for as well, but only for `migration_wait_ms`: in a deployment the migration runs beside the processes
 * that need it, and where nobody migrates somebody must be told. Anything else that goes wrong is thrown. False when
 * `stop` came first.
 */
export async function whenReachable(
  output: Output,
  stop: AbortSignal,
  work: () => Promise<unknown>,
  migration_wait_ms = 0,
): Promise<boolean> {
  const since_ms = systemClock.monotonicMs();
  let unmigrated_ms: number | undefined;
  let said_ms: number | undefined;
  while (!stop.aborted) {
    try {
      await work();
      if (said_ms !== undefined)
        output.warn(
          `carillon: the database ${unmigrated_ms === undefined ? 'can be reached' : 'is migrated'}; going on`,
        );
      return true;
    } catch (error) {
      const now_ms = systemClock.monotonicMs();
      const unmigrated = isUnmigrated(error);
      if (unmigrated) unmigrated_ms ??= now_ms;
      if (!unmigrated && !isUnreachable(error)) throw error;
      if (unmigrated && now_ms - (unmigrated_ms ?? now_ms) >= migration_wait_ms) throw error;
      if (said_ms === undefined || now_ms - said_ms >= SAY_EVERY_MS) {
        said_ms = now_ms;
        const waited = duration(now_ms - since_ms);
        if (unmigrated) {
          const { sentence, code } = describeFailure(error);
          const most = duration(migration_wait_ms);
          output.warn(`carillon: waiting for a migration (${waited}, ${most} at most): ${sentence} [${code}]`);
        } else
          output.warn(`carillon: waiting for the database (${waited}): ${messageOf(error)} [database_unavailable]`);
      }
      await pause(WAIT_MS, undefined, { signal: stop }).catch(() => {});
    }
  }
  return false;
}

/** For commands that need 'secret' of their configuration. */
export function secretOf(installation: Installation): Buffer {
  if (installation.secret) return installation.secret;
  throw new TypeError('a command that seals or opens secrets must say that it needs one');
}

/** As far as they are set by the operator's limits; the rest is the drivers' own. */
export function openDrivers({ limits, carrier_request_timeout_ms }: Config): CarrierDrivers {
  return createCarrierDrivers({
    // Past the deadline nothing may be sent, so a connection is not waited for any longer.
    connect_timeout_ms: limits.dial_deadline_ms,
    dial_response_timeout_ms: limits.dial_response_timeout_ms,
    request_timeout_ms: carrier_request_timeout_ms,
    effect_delay_ms: limits.carrier_effect_delay_ms,
    listing_delay_ms: limits.carrier_listing_delay_ms,
  });
}

export function urlOf(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** What carriers are told to call back: this machine's own address, where the operator has not said another. */
export function publicUrl(config: Config, port: number): string {
  return config.public_url ?? urlOf(config.host, port);
}

/** The error of a server that could not get its port. */
export function listenError(error: unknown, host: string, port: number, remedy: string): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'EADDRINUSE')
    return new CliError('port_in_use', `Port ${port} on ${host} is in use by another program; stop it, or ${remedy}`);
  if (code === 'EACCES')
    return new CliError('port_not_allowed', `Port ${port} may not be used by an ordinary user; ${remedy}`);
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return new CliError('host_not_here', `${host} is no address of this machine; correct CARILLON_HOST`);
  return error;
}
