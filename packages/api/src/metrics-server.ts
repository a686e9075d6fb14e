import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Database } from '@carillon/engine';
import { createProcessMetrics } from './process-metrics.ts';

export interface MetricsServer {
  /** Where Prometheus finds them. */
  url: string;
  close(): Promise<void>;
}

const REQUEST_TIMEOUT_MS = 10_000;

/** Serves a process's own metrics, for one that serves nothing else. Throws the system's error when the port can't be had. */
export async function startMetricsServer(options: {
  db: Database;
  host: string;
  port: number;
}): Promise<MetricsServer> {
  const registry = createProcessMetrics(options.db);
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS }, (request, response) => {
    if (request.method !== 'GET' || request.url !== '/metrics') {
      response.writeHead(404).end();
      return;
    }
    registry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
      () => response.writeHead(500).end(),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  const { address, port, family } = server.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}/metrics`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
