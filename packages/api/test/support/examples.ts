import type { ErrorCode } from '@carillon/contract';
import type { InjectOptions } from 'fastify';
import { accountBody, csv } from './api.ts';
import type { CallerName, Ids } from './world.ts';

/**
 * A request that works, of a route. The matrix sends it with everybody's key, and with each id that it names replaced
 * by another business's and by one that nobody has.
 */
export interface Example {
  /** Who may, as the table of roles says; written here once more, so that a route that lets in more is noticed. */
  may: readonly CallerName[] | 'anybody' | 'carriers';
  /** The status of the answer that it should get. */
  ok: number;
  /** The ids that it names, each with the code of the answer to an id that is not the caller's. */
  names?: Partial<Record<keyof Ids, ErrorCode>>;
  request?: (ids: Ids) => InjectOptions;
  /** Why the ids of its address are not tried here. */
  elsewhere?: string;
}

const READ = ['agent', 'admin', 'owner', 'entered'] as const;
const MANAGE = ['admin', 'owner', 'entered'] as const;
const OWN = ['owner', 'entered'] as const;
const SYSTEM = ['system'] as const;

const url = (text: string): InjectOptions => ({ url: text });
const PUBLIC: Example[] = [{ may: 'anybody', ok: 200 }];
const SIGNED: Example[] = [
  { may: 'carriers', ok: 204, elsewhere: 'callbacks are tried below, and in webhooks.test.ts' },
];

const start = (body: object): InjectOptions => ({ url: '/api/outbound_calls/start', payload: body });

/** Every route of the server, each under `METHOD address`. A new route gets its entry here, or the matrix fails. */
export const EXAMPLES: Record<string, Example[]> = {
  'GET /api/lists': [{ may: READ, ok: 200 }],
  'POST /api/lists': [{ may: MANAGE, ok: 201, request: () => ({ payload: { name: 'a list' } }) }],
  'GET /api/lists/:list_id/leads': [
    { may: READ, ok: 200, names: { list: 'list_not_found' }, request: ({ list }) => url(`/api/lists/${list}/leads`) },
  ],
  'POST /api/lists/:list_id/import': [
    {
      may: MANAGE,
      ok: 200,
      names: { list: 'list_not_found' },
      request: ({ list }) => ({ url: `/api/lists/${list}/import`, ...csv(1) }),
    },
  ],
  'GET /api/lists/:list_id/imports': [
    { may: READ, ok: 200, names: { list: 'list_not_found' }, request: ({ list }) => url(`/api/lists/${list}/imports`) },
  ],
  'GET /api/imports/:import_id': [
    {
      may: READ,
      ok: 200,
      names: { import: 'import_not_found' },
      request: (ids) => url(`/api/imports/${ids.import}`),
    },
  ],
  'GET /api/imports/:import_id/events': [
    {
      may: READ,
      ok: 200,
      names: { import: 'import_not_found' },
      request: (ids) => url(`/api/imports/${ids.import}/events`),
    },
  ],
  'GET /api/imports/:import_id/rejected.csv': [
    {
      may: MANAGE,
      ok: 200,
      names: { import: 'import_not_found' },
      request: (ids) => url(`/api/imports/${ids.import}/rejected.csv`),
    },
  ],
  'POST /api/leads': [{ may: MANAGE, ok: 200, request: () => ({ payload: { phone: '+972501000000' } }) }],

  'GET /api/leads': [{ may: READ, ok: 200, request: () => url('/api/leads?search=0') }],
  'GET /api/leads/:lead_id': [
    { may: READ, ok: 200, names: { lead: 'lead_not_found' }, request: ({ lead }) => url(`/api/leads/${lead}`) },
  ],
  'GET /api/leads/:lead_id/history': [
    { may: READ, ok: 200, names: { lead: 'lead_not_found' }, request: ({ lead }) => url(`/api/leads/${lead}/history`) },
  ],
  'PATCH /api/leads/:lead_id': [
    {
      may: MANAGE,
      ok: 200,
      names: { lead: 'lead_not_found' },
      request: ({ lead }) => ({ url: `/api/leads/${lead}`, payload: { external_id: 'changed' } }),
    },
  ],
  'POST /api/leads/:lead_id/erase': [
    { may: OWN, ok: 200, names: { lead: 'lead_not_found' }, request: ({ lead }) => url(`/api/leads/${lead}/erase`) },
  ],

  'GET /api/readiness': [{ may: [...READ, ...SYSTEM], ok: 200 }],
  'GET /api/carrier_accounts': [{ may: OWN, ok: 200 }],
  'POST /api/carrier_accounts': [{ may: OWN, ok: 201, request: () => ({ payload: accountBody() }) }],
  'POST /api/carrier_accounts/:carrier_account_id/resume': [
    {
      may: OWN,
      ok: 200,
      names: { carrier_account: 'carrier_account_not_found' },
      request: ({ carrier_account }) => url(`/api/carrier_accounts/${carrier_account}/resume`),
    },
  ],

  'GET /api/outbound/runs': [{ may: READ, ok: 200 }],
  'GET /api/outbound/runs/:run_id': [
    { may: READ, ok: 200, names: { run: 'run_not_found' }, request: ({ run }) => url(`/api/outbound/runs/${run}`) },
  ],
  'GET /api/outbound/runs/:run_id/events': [
    {
      may: READ,
      ok: 200,
      // A run that has ended: its stream ends too.
      names: { final_run: 'run_not_found' },
      request: ({ final_run }) => url(`/api/outbound/runs/${final_run}/events`),
    },
  ],
  'GET /api/outbound/runs/:run_id/jobs': [
    {
      may: READ,
      ok: 200,
      names: { run: 'run_not_found' },
      request: ({ run }) => url(`/api/outbound/runs/${run}/jobs`),
    },
  ],
  'GET /api/outbound/runs/:run_id/jobs/:job_id': [
    {
      may: READ,
      ok: 200,
      names: { run: 'job_not_found' },
      request: ({ run }) => url(`/api/outbound/runs/${run}/jobs/${run}-1`),
    },
  ],
  'GET /api/outbound_calls/counts': [{ may: READ, ok: 200 }],
  'GET /api/audit_events': [{ may: OWN, ok: 200 }],
  'POST /api/outbound_calls/start': [
    {
      may: MANAGE,
      ok: 201,
      names: { list: 'list_not_found', carrier_account: 'carrier_account_not_found' },
      request: (ids) => start({ list_id: ids.list, carrier_account_id: ids.carrier_account }),
    },
    {
      may: MANAGE,
      ok: 201,
      names: { lead: 'lead_not_found', carrier_account: 'carrier_account_not_found' },
      request: (ids) => start({ lead_ids: [ids.lead], carrier_account_id: ids.carrier_account }),
    },
    {
      may: MANAGE,
      ok: 201,
      names: { final_run: 'run_not_found' },
      request: (ids) => start({ from_run: { run_id: ids.final_run } }),
    },
  ],
  'GET /api/outbound/runs/:run_id/export.csv': [
    {
      may: MANAGE,
      ok: 200,
      names: { run: 'run_not_found' },
      request: ({ run }) => url(`/api/outbound/runs/${run}/export.csv`),
    },
  ],
  'POST /api/outbound/runs/reconcile': [
    { may: MANAGE, ok: 200 },
    { may: MANAGE, ok: 200, names: { run: 'run_not_found' }, request: ({ run }) => ({ payload: { run_id: run } }) },
  ],
  'POST /api/outbound_calls/jobs/:job_id/resolve': [
    {
      may: READ,
      ok: 200,
      names: { review_run: 'job_not_found' },
      request: (ids) => ({ url: `/api/outbound_calls/jobs/${ids.review_run}-1/resolve`, payload: { as: 'called' } }),
    },
  ],
  'POST /api/outbound/runs/:run_id/pause': [
    {
      may: MANAGE,
      ok: 200,
      names: { run: 'run_not_found' },
      request: ({ run }) => ({ url: `/api/outbound/runs/${run}/pause`, payload: { live_calls: 'hang_up' } }),
    },
  ],
  'POST /api/outbound/runs/:run_id/resume': [
    {
      may: MANAGE,
      ok: 200,
      names: { paused_run: 'run_not_found' },
      request: ({ paused_run }) => url(`/api/outbound/runs/${paused_run}/resume`),
    },
  ],
  'POST /api/outbound/stop-queue': [
    {
      may: MANAGE,
      ok: 200,
      names: { run: 'queue_not_found' },
      request: ({ run }) => ({ payload: { run_id: run, live_calls: 'hang_up' } }),
    },
  ],
  'POST /api/outbound_calls/jobs/:job_id/cancel': [
    {
      may: MANAGE,
      ok: 200,
      names: { run: 'job_not_found' },
      request: ({ run }) => url(`/api/outbound_calls/jobs/${run}-1/cancel`),
    },
    // Older clients: a run's id stops that run.
    {
      may: MANAGE,
      ok: 200,
      names: { run: 'run_not_found' },
      request: ({ run }) => url(`/api/outbound_calls/jobs/${run}/cancel`),
    },
  ],

  'GET /api/keys': [{ may: OWN, ok: 200 }],
  'POST /api/keys': [{ may: OWN, ok: 201, request: () => ({ payload: { role: 'agent' } }) }],
  'POST /api/keys/:key_id/revoke': [
    { may: OWN, ok: 200, names: { key: 'key_not_found' }, request: ({ key }) => url(`/api/keys/${key}/revoke`) },
  ],

  'GET /api/businesses': [{ may: SYSTEM, ok: 200 }],
  'POST /api/businesses': [{ may: SYSTEM, ok: 201, request: () => ({ payload: { name: 'a business' } }) }],
  'POST /api/businesses/:business_id/enter': [
    {
      may: SYSTEM,
      ok: 201,
      names: { business: 'business_not_found' },
      request: ({ business }) => ({ url: `/api/businesses/${business}/enter`, payload: { reason: 'the matrix' } }),
    },
  ],
  'GET /api/security_events': [{ may: SYSTEM, ok: 200 }],

  'GET /healthz': PUBLIC,
  'HEAD /healthz': PUBLIC,
  'GET /readyz': PUBLIC,
  'HEAD /readyz': PUBLIC,
  'GET /metrics': PUBLIC,
  'GET /openapi.json': PUBLIC,
  'POST /carriers/:driver/:business_id/:carrier_account_id/:run_id/:seq/:attempt_no/:token/status': SIGNED,
  'POST /carriers/:driver/:business_id/:carrier_account_id/:run_id/:seq/:attempt_no/:token/answer': SIGNED,
};
