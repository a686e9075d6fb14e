import type { CarrierDrivers } from '@carillon/contract';
import type { Clock, Database, Gatherer, Limits, Waker } from '@carillon/engine';
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ApiLimits } from './limits.ts';
import type { Metrics } from './metrics.ts';
import type { StreamSeats } from './stream-seats.ts';
import type { SecurityTrail } from './security-trail.ts';
import type { Wakes } from './wakes.ts';

/** What the routes of one process share. */
export interface ApiContext {
  db: Database;
  drivers: CarrierDrivers;
  /** Opens the carriers' credentials. */
  secret: Buffer;
  limits: Limits;
  api_limits: ApiLimits;
  /** Where carriers find us, without a slash at the end. Known once the port is. */
  public_url(): string;
  clock: Clock;
  log: FastifyBaseLogger;
  waker: Waker;
  gatherer: Gatherer;
  wakes: Wakes;
  metrics: Metrics;
  /** Of event streams. */
  seats: StreamSeats;
  security_trail: SecurityTrail;
  /** Fires when the server begins to close: what is open for long ends then. */
  closing: AbortSignal;
}

/** A Fastify whose routes take Zod schemas. */
export type ZodApp = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>;
