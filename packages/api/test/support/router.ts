import diagnostics from 'node:diagnostics_channel';
import type { FastifyInstance } from 'fastify';

export interface Route {
  method: string;
  url: string;
  /** What its query takes; a Zod schema. */
  querystring: unknown;
}

/** Every route that a server gets which is built by `build`, as its router is told of it. The API's page is left out. */
export async function collectRoutes<T>(build: () => Promise<T>): Promise<{ routes: Route[]; built: T }> {
  const routes: Route[] = [];
  const hear = (message: unknown) => {
    const { fastify } = message as { fastify: FastifyInstance };
    fastify.addHook('onRoute', ({ method, url, schema }) => {
      // The files of the page at /docs come from a package.
      if (!/^\/docs(\/|$)/.test(url))
        for (const one of [method].flat()) routes.push({ method: one, url, querystring: schema?.querystring });
    });
  };
  diagnostics.subscribe('fastify.initialization', hear);
  try {
    return { built: await build(), routes };
  } finally {
    diagnostics.unsubscribe('fastify.initialization', hear);
  }
}
