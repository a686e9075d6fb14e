import { type BusinessId, ReadinessReport } from '@carillon/contract';
import {
  checkBusiness,
  checkReadiness,
  DEFAULT_TIMEOUT_MS,
  type ReadinessOptions,
  shareChecks,
} from '@carillon/readiness';
import type { Access } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { failures } from '../schemas.ts';

/** An answer is shared by all who ask for the same within this time. */
const FRESH_MS = 5_000;

const MAY_ASK: Access = ['agent', 'admin', 'owner', 'system_admin', 'system'];

/**
 * A key of a business is shown what concerns that business: its runs, accounts and backlog. The installation's report is
 * the system administrator's: it tells of tables, logins and workers, and of every business's runs by their numbers.
 */
export function readinessRoutes(app: ZodApp, context: ApiContext, app_url: string): void {
  const { db, drivers, secret, limits, clock, metrics } = context;
  const options: ReadinessOptions = {
    db,
    app_url,
    drivers,
    secret,
    limits,
    clock,
    timeout_ms: DEFAULT_TIMEOUT_MS,
    ask_carrier: false,
    stop: context.closing,
  };
  const ofInstallation = shareChecks<'installation', ReadinessReport>(clock, FRESH_MS, async () => {
    const report = await checkReadiness(options);
    metrics.tellReadiness(report);
    return report;
  });
  const ofBusiness = shareChecks<BusinessId, ReadinessReport>(clock, FRESH_MS, (id) => checkBusiness(options, id));
  app.route({
    method: 'GET',
    url: '/api/readiness',
    config: { access: MAY_ASK },
    schema: {
      tags: ['Operations'],
      summary: 'Whether everything is as it must be, with evidence',
      description:
        'For a system administrator: the seven points, each proven on the running installation in some seconds. For a ' +
        'business: its own runs, carrier accounts and backlog. `ok` says whether all of it holds; the status is 200 either way.',
      response: { 200: ReadinessReport, ...failures() },
    },
    handler: ({ principal }) => (principal ? ofBusiness(principal.business_id) : ofInstallation('installation')),
  });
}
