import { randomBytes } from 'node:crypto';
import swagger from '@fastify/swagger';
import scalar from '@scalar/fastify-api-reference';
import type { FastifyInstance } from 'fastify';
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { named } from './schemas.ts';

const DESCRIPTION = `Bulk calls over lists of leads: at most one call per lead and run.

JSON uses snake_case and ISO 8601 times in UTC. Lists are \`{"items": […], "next": cursor or null}\`; the cursor goes back
as \`after\`. Errors are \`{"error", "code", "request_id", "details"}\`: \`error\` is a sentence in the language of
\`Accept-Language\` (en, he), else of the business. What another business has and what does not exist get the same answer.`;

/** Describes the routes that are registered after it, from their schemas. */
export async function describeRoutes(app: FastifyInstance): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Carillon', version: '0.1.0', description: DESCRIPTION },
      tags: ['Lists', 'Leads', 'Runs', 'Jobs', 'Carrier accounts', 'Keys', 'Businesses', 'Trail', 'Operations'].map(
        (name) => ({
          name,
        }),
      ),
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer', bearerFormat: 'ck_…' } } },
    },
    transform: (route) => {
      const described = createJsonSchemaTransform({ schemaRegistry: named })(route);
      const keyed = Array.isArray(route.route.config?.access);
      return { ...described, schema: { ...described.schema, security: keyed ? [{ key: [] }] : [] } };
    },
    transformObject: createJsonSchemaTransformObject({ schemaRegistry: named }),
  });
}

/**
 * The page at /docs. Everything it needs comes from here: its script from the package, and no fonts, no proxy and no
 * telemetry from elsewhere, which its policy would refuse anyway.
 */
export async function serveDocs(app: FastifyInstance): Promise<void> {
  // The page holds nothing but our own configuration; the nonce keeps anything else from running.
  const nonce = randomBytes(16).toString('base64');
  await app.register(async (docs) => {
    docs.addHook('onRoute', (route) => {
      route.config = { ...route.config, access: 'public' };
    });
    docs.addHook('onRequest', async (request, reply) => {
      reply.header('content-security-policy', policy(nonce));
      // Five megabytes, the same until the next release.
      if (request.url.endsWith('.js')) reply.header('cache-control', 'public, max-age=86400');
    });
    await docs.register(scalar, {
      routePrefix: '/docs',
      configuration: {
        url: '/openapi.json',
        pageTitle: 'Carillon API',
        nonce,
        withDefaultFonts: false,
        telemetry: false,
        hideClientButton: true,
        showDeveloperTools: 'never',
        mcp: { disabled: true },
        agent: { disabled: true },
      },
    });
  });
}

function policy(nonce: string): string {
  return [
    "default-src 'none'",
    `script-src 'self' 'nonce-${nonce}'`,
    // Its styles are injected and inline; without scripts and connections to elsewhere they can do little.
    "style-src 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ');
}
