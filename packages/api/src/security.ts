import type { BusinessId } from '@carillon/contract';
import type { SecurityNote } from '@carillon/engine';
import type { FastifyRequest } from 'fastify';
import type { ApiContext } from './context.ts';
import { idsOf, routeOf } from './logging.ts';

const SENTENCES = {
  unauthenticated: 'a request without a valid key',
  forbidden: 'a key tried what its role may not do',
  id_not_visible: 'a key named something that its business has not',
  signature_invalid: 'a callback without a valid signature',
  forgotten_call: 'a signed callback for a call that the database does not know: the lane is halted',
} as const;
export type SecurityKind = keyof typeof SENTENCES;

/** What is known of an event beside the request. Of a key that opens nothing any more, whose it is. */
export interface SecurityFields {
  code?: string;
  /** Why a key was not taken: `none`, `refused`, `revoked`, `expired`. */
  key?: string;
  role?: string;
  call_id?: string;
  business_id?: BusinessId;
  key_id?: number;
}

/**
 * Something that somebody may have to look at: a line in the log at once, with `security: true`, its kind, who and which
 * route; and the same in the trail, soon. A forgotten call is in its lane's trail already, with the halt.
 */
export function logSecurity(
  request: FastifyRequest,
  { metrics, security_trail }: Pick<ApiContext, 'metrics' | 'security_trail'>,
  kind: SecurityKind,
  fields: SecurityFields = {},
): void {
  metrics.security.inc({ kind });
  const { method, principal } = request;
  const route = routeOf(request);
  const ids = idsOf(request);
  const whose = { business_id: principal?.business_id, key_id: principal?.key_id };
  request.log.warn({ security: true, kind, method, route, ip: request.ip, ...whose, ids, ...fields }, SENTENCES[kind]);
  if (kind === 'forgotten_call') return;
  const { business_id = principal?.business_id ?? null, key_id, ...how } = fields;
  security_trail.note(business_id, {
    action: `access.${kind}`,
    actor: {
      name: whoIs(request) ?? (key_id ? `key:${key_id}` : 'stranger'),
      user_id: null,
      source: request.ip,
      request_id: request.id,
    },
    subject: subjectOf(fields.code, ids),
    after: { method, route, ...how },
  });
}

/** Whose key came with the request, as the trail names it; within an entry, the administrator who entered. */
export function whoIs({ administrator, principal }: FastifyRequest): string | null {
  const system_key_id = administrator?.key_id ?? principal?.entered_by;
  if (system_key_id) return `system_admin:${system_key_id}`;
  return principal ? `key:${principal.key_id}` : null;
}

/** What was looked for in vain, by the answer's code: its kind, and where its id stands in the request. */
const SOUGHT: Record<string, { type: NonNullable<SecurityNote['subject']>['type']; ids: string[] }> = {
  run_not_found: { type: 'run', ids: ['run_id', 'job_id'] },
  queue_not_found: { type: 'run', ids: ['run_id'] },
  job_not_found: { type: 'job', ids: ['job_id'] },
  list_not_found: { type: 'list', ids: ['list_id'] },
  import_not_found: { type: 'import', ids: ['import_id'] },
  lead_not_found: { type: 'lead', ids: ['lead_id'] },
  carrier_account_not_found: { type: 'carrier_account', ids: ['carrier_account_id'] },
  key_not_found: { type: 'key', ids: ['key_id'] },
  business_not_found: { type: 'business', ids: ['business_id'] },
};
/** Longer ones were never given out, and what is longer may be a phone number. */
const ID = /^[1-9]\d{0,8}(-[1-9]\d{0,8})?$/;

function subjectOf(code: string | undefined, ids: Record<string, string>): SecurityNote['subject'] {
  const sought = SOUGHT[code ?? ''];
  const id = sought?.ids.map((name) => ids[name]).find((value) => value !== undefined);
  return sought && id !== undefined && ID.test(id) ? { type: sought.type, id } : undefined;
}
