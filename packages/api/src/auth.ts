import { CarillonError, type Role } from '@carillon/contract';
import {
  type Actor,
  authenticate,
  authenticateSystem,
  type Principal,
  type RefusedKey,
  SYSTEM_KEY_PREFIX,
  type SystemPrincipal,
} from '@carillon/engine';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { ApiContext } from './context.ts';
import { logSecurity, whoIs } from './security.ts';

/**
 * Who may use a route: anybody (`public`), carriers with a valid signature (`signed`, checked by the route itself), or
 * keys. Of a business, those with one of these roles, where `system_admin` is a key from an entry into it; `system` is a
 * system administrator's own key, which belongs to no business.
 */
export type Access = 'public' | 'signed' | readonly (Role | 'system')[];

export const MAY_READ: Access = ['agent', 'admin', 'owner', 'system_admin'];
export const MAY_MANAGE: Access = ['admin', 'owner', 'system_admin'];
export const MAY_OWN: Access = ['owner', 'system_admin'];
export const MAY_ADMINISTER: Access = ['system'];

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Every route says who may use it; the server doesn't start with one that does not. */
    access?: Access;
    /** The content types that it takes, for the sentence of a 415. JSON when left out. */
    expects?: string;
  }
  interface FastifyRequest {
    /** Whose key of a business came with the request; null where none did. */
    principal: Principal | null;
    /** Whose system administrator's key did. */
    administrator: SystemPrincipal | null;
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
    keyGenerator: ({ administrator, principal }) =>
      administrator ? `system/${administrator.key_id}` : `${principal?.business_id}/${principal?.key_id}`,
  });
  app.decorateRequest('principal', null);
  app.decorateRequest('administrator', null);
  app.addHook('onRequest', async (request, reply) => {
    const access = request.routeOptions.config.access;
    if (request.is404 || access === 'public' || access === 'signed') return;
    const key = readBearer(request);
    const refused = key === null ? null : await identify(request, context, key);
    if (!request.principal && !request.administrator) {
      const { reason, ...whose } = refused ?? { reason: key === null ? 'none' : 'refused' };
      logSecurity(request, context, 'unauthenticated', { key: reason, ...whose });
      reply.header('www-authenticate', 'Bearer');
      throw new CarillonError('unauthenticated');
    }
    const spent = await spend(request);
    if (!spent.isAllowed && spent.isExceeded) {
      reply.header('retry-after', spent.ttlInSeconds);
      throw new CarillonError('too_many_requests', { limit: spent.max, retry_after_s: spent.ttlInSeconds });
    }
    const role = request.principal?.role ?? 'system_admin';
    if (access?.includes(request.principal?.role ?? 'system')) return;
    logSecurity(request, context, 'forbidden', { role });
    throw request.administrator && access?.includes('system_admin')
      ? new CarillonError('business_not_entered')
      : new CarillonError('forbidden', { role });
  });
}

/** Notes on the request whose key this is. Returns what is known of a key that was right once. */
async function identify(request: FastifyRequest, { db }: ApiContext, key: string): Promise<RefusedKey | null> {
  if (key.startsWith(SYSTEM_KEY_PREFIX)) {
    request.administrator = await authenticateSystem(db, key);
    return null;
  }
  const known = await authenticate(db, key);
  request.principal = known.principal;
  return known.principal ? null : known.refused;
}

const BEARER = /^Bearer +([\x21-\x7e]{1,200})$/i;

function readBearer(request: FastifyRequest): string | null {
  return BEARER.exec(request.headers.authorization ?? '')?.[1] ?? null;
}

/** Who asks, in a route that asks for a key of a business. */
export function principalOf(request: FastifyRequest): Principal {
  if (!request.principal) throw new Error('a route without a key asked who it is');
  return request.principal;
}

/** Who asks, in a route for system administrators. */
export function administratorOf(request: FastifyRequest): SystemPrincipal {
  if (!request.administrator) throw new Error('a route without a system administrator asked who it is');
  return request.administrator;
}

/** Who asks, as `created_by` and the trail name it, and from where. */
export function actorOf(request: FastifyRequest): Actor {
  const name = whoIs(request);
  if (!name) throw new Error('a route without a key asked who it is');
  return { name, user_id: null, source: request.ip, request_id: request.id };
}
