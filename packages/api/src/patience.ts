import { withPatience } from '@carillon/engine';
import type { FastifyInstance } from 'fastify';
import type { ApiContext } from './context.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /**
     * Asking twice is like asking once, also where the first was carried out and its answer lost: then we do so
     * ourselves. Reads are so by their nature.
     */
    repeatable?: boolean;
  }
}

const READS = new Set(['GET', 'HEAD']);

/**
 * Has requests wait for a database that is away for a moment, for `database_wait_ms` at most, while somebody waits for
 * the answer and the server is not closing. What anybody may ask is answered at once: it tells how things stand.
 */
export function waitForDatabase(app: FastifyInstance, { api_limits, closing }: ApiContext): void {
  const wait_ms = api_limits.database_wait_ms;
  // Who asks, and whether the key is valid, is read from the database before the route comes to its turn.
  app.addHook('onRequest', (request, reply, done) => {
    if (request.routeOptions.config.access === 'public') return done();
    withPatience({ wait_ms, isOver: () => closing.aborted || reply.raw.destroyed, repeatable: true }, done);
  });
  // Again once the body is read, with which another chain of events begins.
  app.addHook('preValidation', (request, reply, done) => {
    const { access, repeatable } = request.routeOptions.config;
    if (access === 'public') return done();
    const mayRepeat = repeatable ?? READS.has(request.method);
    withPatience({ wait_ms, isOver: () => closing.aborted || reply.raw.destroyed, repeatable: mayRepeat }, done);
  });
  // Who was kept waiting when the server began to close must not keep it open with a connection that has no use any more.
  app.addHook('onSend', async (_request, reply) => {
    if (closing.aborted) reply.header('connection', 'close');
  });
}
