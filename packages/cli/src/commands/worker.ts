import { startMetricsServer } from '@carillon/api';
import { systemClock } from '@carillon/engine';
import { startWorker } from '@carillon/worker';
import type { CommandContext } from '../context.ts';
import { listenError, openDrivers, publicUrl } from '../installation.ts';
import { createLogger } from '../logger.ts';
import { aborted } from '../signals.ts';
import { API_PORT, serve } from './api.ts';

/** One worker process, until it is told to stop; then its leases are given back. */
export async function workerCommand(context: CommandContext): Promise<void> {
  const { config, output } = context;
  const public_url = publicUrl(config, config.port ?? API_PORT);
  await serve(context, 'worker', async ({ db, installation, secret, stop }) => {
    if (config.public_url === undefined)
      output.warn(`carillon: CARILLON_PUBLIC_URL is not set; carriers are told to call back at ${public_url}`);
    await using metrics = new AsyncDisposableStack();
    if (config.metrics_port !== undefined) {
      const { host, metrics_port: port } = config;
      const server = await startMetricsServer({ db, host, port }).catch((error: unknown) => {
        throw listenError(error, host, port, 'choose another with CARILLON_METRICS_PORT');
      });
      metrics.defer(() => server.close());
      output.say(`Its metrics are at ${server.url}`);
    }
    const worker = startWorker({
      db,
      app_url: installation.app_url,
      drivers: openDrivers(config),
      secret,
      public_url,
      limits: config.limits,
      clock: systemClock,
      memory_dir: config.memory_dir,
      log: createLogger(config.log_level ?? 'info', (line) => process.stderr.write(line)),
    });
    output.say(`The worker ${worker.worker_id} looks for runs`);
    await aborted(stop);
    await worker.stop();
  });
}
