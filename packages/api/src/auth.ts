import { CarillonError, type Role } from '@carillon/contract';
import { type Actor, authenticate, type Principal } from '@carillon/engine';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ApiContext } from './context.ts';
import { logSecurity } from './security.ts';

/**
 * Who may use a route: anybody (`public`), carriers with a valid signature (`signed`, checked by the route itself), or
 * keys with one of these roles.
 */
export type Access = 'public' | 'signed' | readonly Role[];

export const MAY_READ: Access = ['agent', 'admin', 'owner'];
export const MAY_MANAGE: Access = ['admin', 'owner'];
export const MAY_OWN: Access = ['owner'];

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Every route says who may use it; the server doesn't start with one that does not. */
    access?: Access;
    /** The content types that it takes, for the sentence of a 415. JSON when left out. */
    expects?: string;
  }
  interface FastifyRequest {
    /** Whoever's key came with the request; null where none is asked for. */
    principal: Principal | null;
  }
}

/** Asks for a key where the route's rule says so. A route without a rule is a fault, found when the server starts. */
export function guardRoutes(app: FastifyInstance, context: ApiContext): void {
  const routes: { method: string | string[]; url: string; config?: { access?: Access } }[] = [];
  app.addHook('onRoute', (route) => void routes.push(route));
  app.addHook('onReady', async () => {
    const open = routes.filter((route) => route.config?.access === undefined);
    if (open.length > 0)
      throw new Error(`routes that don't say who may use them: ${open.map(({ url }) => url).join(', ')}`);
  });

  const spend = app.createRateLimit({
    max: context.api_limits.requests_per_minute,
    timeWindow: 60_000,
    keyGenerator: (request) => `${request.principal?.business_id}/${request.principal?.key_id}`,
  });
  app.decorateRequest('principal', null);
  app.addHook('onRequest', async (request, reply) => {
    const access = request.routeOptions.config.access;
    if (request.is404 || access === 'public' || access === 'signed') return;
    const key = readBearer(request);
    request.principal = key === null ? null : await authenticate(context.db, key);
    if (!request.principal) {
      logSecurity(request, context.metrics, 'unauthenticated', { key: key === null ? 'none' : 'refused' });
      reply.header('www-authenticate', 'Bearer');
      throw new CarillonError('unauthenticated');
    }
    const spent = await spend(request);
    if (!spent.isAllowed && spent.isExceeded) {
      reply.header('retry-after', spent.ttlInSeconds);
      throw new CarillonError('too_many_requests', { limit: spent.max, retry_after_s: spent.ttlInSeconds });
    }
    if (!access?.includes(request.principal.role)) {
      logSecurity(request, context.metrics, 'forbidden', { role: request.principal.role });
      throw new CarillonError('forbidden', { role: request.principal.role });
    }
  });
}

const BEARER = /^Bearer +([\x21-\x7e]{1,200})$/i;

function readBearer(request: FastifyRequest): string | null {
  return BEARER.exec(request.headers.authorization ?? '')?.[1] ?? null;
}

/** Who asks, in a route that asks for a key. */
export function principalOf(request: FastifyRequest): Principal {
  if (!request.principal) throw new Error('a route without a key asked who it is');
  return request.principal;
}

/** Whose key it is, as `created_by` and the trail name it, with where the request came from. */
export function actorOf(request: FastifyRequest): Actor {
  const name = `key:${principalOf(request).key_id}`;
  return { name, user_id: null, source: request.ip, request_id: request.id };
}
