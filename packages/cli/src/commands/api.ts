import { startApi } from '@carillon/api';
import type { CommandContext } from '../context.ts';
import {
  checkDatabase,
  listenError,
  openDrivers,
  type Opened,
  publicUrl,
  secretOf,
  whenReachable,
  withInstallation,
} from '../installation.ts';
import { createLogger } from '../logger.ts';
import { aborted } from '../signals.ts';

export const API_PORT = 8080;

/** One API process, until it is told to stop; then what was asked is answered first. */
export async function apiCommand(context: CommandContext): Promise<void> {
  const { config, output } = context;
  const port = config.port ?? API_PORT;
  await serve(context, 'api', async ({ db, installation, secret, stop }) => {
    const api = await startApi({
      db,
      app_url: installation.app_url,
      drivers: openDrivers(config),
      secret,
      limits: config.limits,
      api_limits: config.api_limits,
      // With port 0 the address is known only now, and the API knows it by itself.
      public_url: port === 0 ? config.public_url : publicUrl(config, port),
      memory_dir: config.memory_dir,
      host: config.host,
      port,
      log: createLogger(config.log_level ?? 'info', (line) => process.stderr.write(line)),
    }).catch((error: unknown) => {
      throw listenError(error, config.host, port, 'choose another with --port or CARILLON_PORT');
    });
    output.say(`The API listens at ${api.url} (what it can do: ${api.url}/docs)`);
    await aborted(stop);
    await api.close();
  });
}

interface Serving extends Opened {
  secret: Buffer;
}

/** What processes that serve have in common: a database that they wait for, and an orderly end. */
export async function serve(
  context: CommandContext,
  name: string,
  work: (serving: Serving) => Promise<void>,
): Promise<void> {
  const { config, output } = context;
  await withInstallation(context, { name, migrate: true }, async ({ db, installation, stop }) => {
    const check = () => checkDatabase(db);
    if (!(await whenReachable(output, stop, check, config.migration_wait_ms))) return;
    await work({ db, installation, secret: secretOf(installation), stop });
  });
}
