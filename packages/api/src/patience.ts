import { withPatience } from '@carillon/engine';
import type { FastifyInstance } from 'fastify';
import type { ApiContext } from './context.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * Its transactions leave receipts, so that each is done once though the answer to its COMMIT is lost. Left out: those
     * of reads leave none, and are asked again; all others do.
     */
    receipts?: boolean;
  }
}

const READS = new Set(['GET', 'HEAD']);

/**
 * Has requests wait for a database that is away for a moment, for `database_wait_ms` at most, while somebody waits for
 * the answer and the server is not closing. What anybody may ask is answered at once: it tells how things stand.
 */
export function waitForDatabase(app: FastifyInstance, { api_limits, closing }: ApiContext): void {
  const wait_ms = api_limits.database_wait_ms;
  // Who asks, and whether the key is valid, is read from the database before the route comes to its turn. Only read.
  app.addHook('onRequest', (request, reply, done) => {
    if (request.routeOptions.config.access === 'public') return done();
    withPatience({ wait_ms, isOver: () => closing.aborted || reply.raw.destroyed, receipts: false }, done);
  });
  // Again once the body is read, with which another chain of events begins.
  app.addHook('preValidation', (request, reply, done) => {
    const { access, receipts = !READS.has(request.method) } = request.routeOptions.config;
    if (access === 'public') return done();
    withPatience({ wait_ms, isOver: () => closing.aborted || reply.raw.destroyed, receipts }, done);
  });
  // Who was kept waiting when the server began to close must not keep it open with a connection that has no use any more.
  app.addHook('onSend', async (_request, reply) => {
    if (closing.aborted) reply.header('connection', 'close');
  });
}
