import { randomBytes, randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { hostname } from 'node:os';
import helmet from '@fastify/helmet';
import rateLimit from '@fastify/rate-limit';
import type { CarrierDrivers } from '@carillon/contract';
import {
  createGatherer,
  createWaker,
  type Database,
  type Limits,
  localActor,
  systemClock,
  watchForRestore,
} from '@carillon/engine';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import { serializerCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import { guardRoutes } from './auth.ts';
import type { ApiContext, ZodApp } from './context.ts';
import { answerBadAddress, answerErrors } from './errors.ts';
import { type ApiLimits, defaultApiLimits } from './limits.ts';
import { describeError, logAnswers } from './logging.ts';
import { createMetrics, measureRequests } from './metrics.ts';
import { describeRoutes, serveDocs } from './openapi.ts';
import { waitForDatabase } from './patience.ts';
import { auditEventRoutes } from './routes/audit-events.ts';
import { businessRoutes } from './routes/businesses.ts';
import { carrierAccountRoutes } from './routes/carrier-accounts.ts';
import { countRoutes } from './routes/counts.ts';
import { importRoutes } from './routes/imports.ts';
import { exportRoutes } from './routes/export.ts';
import { jobRoutes } from './routes/jobs.ts';
import { leadRecordRoutes } from './routes/lead-records.ts';
import { keyRoutes } from './routes/keys.ts';
import { leadRoutes } from './routes/leads.ts';
import { listRoutes } from './routes/lists.ts';
import { operationRoutes } from './routes/operations.ts';
import { readinessRoutes } from './routes/readiness.ts';
import { reviewRoutes } from './routes/reviews.ts';
import { runRoutes } from './routes/runs.ts';
import { securityEventRoutes } from './routes/security-events.ts';
import { createStreamSeats } from './stream-seats.ts';
import { createSecurityTrail } from './security-trail.ts';
import { validatorCompiler } from './validation.ts';
import { createWakes } from './wakes.ts';
import { webhookRoutes } from './webhooks.ts';

export interface ApiOptions {
  db: Database;
  /** The application login's URL, for the connection that listens. */
  app_url: string;
  drivers: CarrierDrivers;
  /** 32 bytes; opens the carriers' credentials. */
  secret: Buffer;
  limits: Limits;
  api_limits?: Partial<ApiLimits>;
  /** Where carriers find us, when that is another address than the one listened at. */
  public_url?: string | undefined;
  /** Where what the process remembers of the database outlives it; undefined: nowhere. */
  memory_dir?: string | undefined;
  log: Logger;
}

export interface Api {
  /** Where it listens. */
  url: string;
  port: number;
  /** Ends the event streams, answers what was asked, records what is at hand, and frees the port. */
  close(): Promise<void>;
}

/** Builds the server and listens. Port 0 takes a free one. Throws the system's error when the port can't be had. */
export async function startApi(options: ApiOptions & { host: string; port: number }): Promise<Api> {
  const app = await buildApi(options);
  try {
    await app.listen({ host: options.host, port: options.port });
  } catch (error) {
    await app.close();
    throw error;
  }
  const { port } = boundTo(app);
  return { url: localUrl(app), port, close: () => app.close() };
}

/** The server without a port, for `inject`. Closing it frees everything it holds but the database, which is the caller's. */
export async function buildApi(options: ApiOptions): Promise<ZodApp> {
  const api_limits = { ...defaultApiLimits, ...options.api_limits };
  const app = createApp(options.log, api_limits);
  const context = createContext(app, options, api_limits);
  await app.register(helmet, {
    contentSecurityPolicy: { useDefaults: false, directives: { defaultSrc: ["'none'"], frameAncestors: ["'none'"] } },
  });
  await app.register(rateLimit, { global: false });
  app.addHook('onRequest', async (request, reply) => void reply.header('x-request-id', request.id));
  answerErrors(app, context);
  logAnswers(app);
  measureRequests(app, context.metrics.registry);
  waitForDatabase(app, context);
  guardRoutes(app, context);
  await describeRoutes(app);
  listRoutes(app, context);
  leadRoutes(app, context);
  leadRecordRoutes(app, context);
  await app.register((scope) => importRoutes(scope, context));
  carrierAccountRoutes(app, context);
  runRoutes(app, context);
  exportRoutes(app, context);
  jobRoutes(app, context);
  reviewRoutes(app, context);
  countRoutes(app, context);
  keyRoutes(app, context);
  businessRoutes(app, context);
  securityEventRoutes(app, context);
  auditEventRoutes(app, context);
  readinessRoutes(app, context, options.app_url);
  operationRoutes(app, context);
  await app.register((scope) => webhookRoutes(scope, context));
  await serveDocs(app);
  await app.ready();
  return app;
}

function createApp(log: Logger, limits: ApiLimits): ZodApp {
  const app = Fastify({
    loggerInstance: log as FastifyBaseLogger,
    // Requests are logged by route, in logging.ts: their addresses carry tokens.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'request_id' }),
    genReqId: () => randomUUID(),
    requestIdHeader: false,
    bodyLimit: limits.body_bytes,
    connectionTimeout: limits.connection_idle_ms,
    requestTimeout: limits.request_ms,
    exposeHeadRoutes: false,
    frameworkErrors: answerBadAddress,
    // Carriers' callbacks that arrive while we close are answered with 503 and come again.
    return503OnClosing: true,
  });
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  takeJson(app);
  return app.withTypeProvider<ZodTypeProvider>();
}

/** JSON is the only body that a route takes unless it says otherwise; and no body is none, whatever its type says. */
function takeJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else parse(request, String(body), done);
  });
}

function createContext(app: ZodApp, options: ApiOptions, api_limits: ApiLimits): ApiContext {
  const { db, limits } = options;
  const metrics = createMetrics({ db, limits, clock: systemClock });
  const waker = createWaker(db, limits.gather_ms, (error) =>
    app.log.debug({ error: describeError(error) }, 'a wake was lost; polling does its work'),
  );
  const gatherer = createGatherer(db, waker, limits, (error) => {
    metrics.evidence_retries.inc();
    app.log.debug({ error: describeError(error) }, 'evidence could not be recorded yet');
  });
  const security_trail = createSecurityTrail(db, api_limits, (events, error) => {
    metrics.security_lost.inc(events);
    app.log.warn({ events, error: describeError(error) }, 'security events are missing from the trail');
  });
  const wakes = createWakes(options.app_url);
  const watch = watchDatabase(app, options);
  const closing = new AbortController();
  let patience: NodeJS.Timeout | undefined;
  app.addHook('preClose', async () => {
    closing.abort();
    // What was asked is answered; but somebody who sends a file for an hour is not waited for.
    patience = setTimeout(() => app.server.closeAllConnections(), api_limits.close_wait_ms);
  });
  app.addHook('onClose', async () => {
    clearTimeout(patience);
    await atMost(api_limits.close_wait_ms, gatherer.drained());
    gatherer.close();
    await atMost(api_limits.close_wait_ms, security_trail.close());
    await atMost(api_limits.close_wait_ms, waker.close());
    wakes.close();
    await atMost(api_limits.close_wait_ms, watch.close());
  });
  const public_url = options.public_url?.replace(/\/+$/, '');
  return {
    db,
    drivers: options.drivers,
    secret: options.secret,
    limits,
    api_limits,
    public_url: () => public_url ?? localUrl(app),
    clock: systemClock,
    log: app.log,
    waker,
    gatherer,
    wakes,
    metrics,
    seats: createStreamSeats(api_limits, (open) => metrics.streams.set(open)),
    security_trail,
    closing: closing.signal,
  };
}

/** An API outlives its workers, and then remembers what none of them does. */
function watchDatabase(app: ZodApp, { db, memory_dir }: ApiOptions) {
  const witness_id = `api-${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`;
  return watchForRestore({
    db,
    witness_id,
    actor: localActor('api'),
    memory_dir,
    onNotice: (reason) => app.log.error({ reason }, 'the database may have forgotten calls; every run is paused'),
    onError: (error) =>
      app.log.warn(
        { error: describeError(error) },
        'could not look whether the database is the one that is known; trying again',
      ),
  });
}

/** Waits for `done`, but no longer than `wait_ms`. */
async function atMost(wait_ms: number, done: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, wait_ms)));
  await Promise.race([done, late]).finally(() => clearTimeout(timer));
}

function boundTo(app: ZodApp): AddressInfo {
  const address = app.server.address();
  if (address === null || typeof address === 'string') throw new Error('the server listens at no port');
  return address;
}

/** An address of this machine at which the server answers: one that listens everywhere answers at the loopback too. */
function localUrl(app: ZodApp): string {
  const { address, port, family } = boundTo(app);
  if (address === '0.0.0.0' || address === '::') return `http://127.0.0.1:${port}`;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
}
