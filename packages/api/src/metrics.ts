import type { ReadinessReport } from '@carillon/contract';
import type { Clock, Database, Limits } from '@carillon/engine';
import type { FastifyInstance } from 'fastify';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { measureInstallation } from './installation-metrics.ts';
import { routeOf } from './logging.ts';
import { createProcessMetrics } from './process-metrics.ts';

/** What this process has seen. Nothing here names a business: whoever may scrape may know all of it. */
export interface Metrics {
  registry: Registry;
  /** Evidence from carriers' callbacks, by what became of it. */
  evidence: Counter<'phase' | 'recorded'>;
  /** Tries of recording evidence that failed and are repeated. */
  evidence_retries: Counter;
  /** Callbacks answered with 503 because the database did not commit in time. */
  webhooks_put_off: Counter;
  security: Counter<'kind'>;
  /** Security events that stand in the log and not in the trail. */
  security_lost: Counter;
  streams: Gauge;
  /** Notes what a full check of readiness in this process has found. */
  tellReadiness(report: ReadinessReport): void;
}

export function createMetrics(of: { db: Database; limits: Limits; clock: Clock }): Metrics {
  const registry = createProcessMetrics(of.db);
  const registers = [registry];
  return {
    registry,
    evidence: new Counter({
      name: 'carillon_evidence_total',
      help: "Carriers' callbacks recorded, by the call's phase and by what became of it.",
      labelNames: ['phase', 'recorded'],
      registers,
    }),
    evidence_retries: new Counter({
      name: 'carillon_evidence_retries_total',
      help: 'Tries of recording evidence that failed and were repeated.',
      registers,
    }),
    webhooks_put_off: new Counter({
      name: 'carillon_webhooks_put_off_total',
      help: 'Callbacks answered with 503 because nothing was committed in time.',
      registers,
    }),
    security: new Counter({
      name: 'carillon_security_events_total',
      help: 'Security events by kind; signature_invalid counts forged callbacks.',
      labelNames: ['kind'],
      registers,
    }),
    security_lost: new Counter({
      name: 'carillon_security_events_lost_total',
      help: 'Security events that could not be written into the trail; they stand in the log.',
      registers,
    }),
    streams: new Gauge({ name: 'carillon_event_streams', help: 'Open event streams.', registers }),
    tellReadiness: measureInstallation(registry, of),
  };
}

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Times every request, by its route's pattern. */
export function measureRequests(app: FastifyInstance, registry: Registry): void {
  const requests = new Histogram({
    name: 'carillon_http_request_seconds',
    help: 'How long requests took, by route and status.',
    labelNames: ['method', 'route', 'status'],
    buckets: SECONDS,
    registers: [registry],
  });
  app.addHook('onResponse', async (request, reply) => {
    // An address that leads nowhere is no label: anybody could make as many of them as memory holds.
    const route = request.is404 ? 'none' : routeOf(request);
    requests.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1_000);
  });
}
