import type { FastifyRequest } from 'fastify';
import { idsOf, routeOf } from './logging.ts';
import type { Metrics } from './metrics.ts';

const SENTENCES = {
  unauthenticated: 'a request without a valid key',
  forbidden: 'a key tried what its role may not do',
  id_not_visible: 'a key named something that its business has not',
  signature_invalid: 'a callback without a valid signature',
  forgotten_call: 'a signed callback for a call that the database does not know: the lane is halted',
} as const;
export type SecurityKind = keyof typeof SENTENCES;

/** A line that somebody may have to look at: `security: true`, its kind, who and which route. */
export function logSecurity(
  request: FastifyRequest,
  metrics: Metrics,
  kind: SecurityKind,
  fields: Record<string, unknown> = {},
): void {
  metrics.security.inc({ kind });
  request.log.warn(
    {
      security: true,
      kind,
      method: request.method,
      route: routeOf(request),
      ip: request.ip,
      business_id: request.principal?.business_id,
      key_id: request.principal?.key_id,
      ids: idsOf(request),
      ...fields,
    },
    SENTENCES[kind],
  );
}
