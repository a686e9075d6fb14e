import { checkSchema, LoginError, MigrateError } from '@carillon/engine';
import { z } from 'zod';
import type { ApiContext, ZodApp } from '../context.ts';
import { describeError } from '../logging.ts';
import { text } from '../schemas.ts';

const PUBLIC = { access: 'public' } as const;

/** For those who run it: no key, and nothing of any business. */
export function operationRoutes(app: ZodApp, context: ApiContext): void {
  app.route({
    method: ['GET', 'HEAD'],
    url: '/healthz',
    config: PUBLIC,
    schema: {
      tags: ['Operations'],
      summary: 'The process is up',
      response: { 200: z.object({ status: z.literal('ok') }) },
    },
    handler: async () => ({ status: 'ok' as const }),
  });
  const Ready = z.object({ status: z.enum(['ready', 'not_ready']), database: z.string(), schema: z.string() });
  app.route({
    method: ['GET', 'HEAD'],
    url: '/readyz',
    config: PUBLIC,
    schema: {
      tags: ['Operations'],
      summary: 'The database answers and its schema is the one of this release',
      response: { 200: Ready, 503: Ready },
    },
    async handler(request, reply) {
      const problem = await checkSchema(context.db).then(
        () => null,
        (error: unknown) => {
          request.log.warn({ error: describeError(error) }, 'not ready');
          const schema = error instanceof LoginError || error instanceof MigrateError ? error.code : null;
          return schema ? { database: 'reachable', schema } : { database: 'not reachable', schema: 'not known' };
        },
      );
      return problem
        ? reply.code(503).send({ status: 'not_ready', ...problem })
        : reply.code(200).send({ status: 'ready', database: 'reachable', schema: 'current' });
    },
  });
  app.route({
    method: 'GET',
    url: '/metrics',
    config: PUBLIC,
    schema: {
      tags: ['Operations'],
      summary: 'What this process has seen, for Prometheus',
      response: { 200: text('text/plain', "Prometheus' text format") },
    },
    async handler(_request, reply) {
      const { registry } = context.metrics;
      return await reply.type(registry.contentType).send(await registry.metrics());
    },
  });
  app.route({
    method: 'GET',
    url: '/openapi.json',
    config: PUBLIC,
    schema: { hide: true },
    handler: async () => app.swagger(),
  });
}
