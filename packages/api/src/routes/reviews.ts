import { Reconcile, ReconcileReport, ResolveJob } from '@carillon/contract';
import { getJob, reconcileNow, resolveJob } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_MANAGE, MAY_READ, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { failures, JobWithAttempts } from '../schemas.ts';
import { JobId } from './jobs.ts';

/** What is stuck, unknown or under review. */
export function reviewRoutes(app: ZodApp, context: ApiContext): void {
  const { db, limits, waker } = context;
  app.route({
    method: 'POST',
    url: '/api/outbound/runs/reconcile',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Runs'],
      summary: 'Settle what is stuck or unknown, now',
      description:
        'Of one run, or of all when the body is left out. Workers ask the carrier at once instead of in their turn; ' +
        'nothing is believed any sooner for it, so an unknown call whose grace is not over stays unknown.',
      body: Reconcile.nullish(),
      response: { 200: ReconcileReport, ...failures('run_not_found', 'invalid_request') },
    },
    async handler(request) {
      const { business_id } = principalOf(request);
      const run_id = request.body?.run_id;
      const report = await reconcileNow(db, business_id, { run_id, actor: actorOf(request) });
      waker.wake(business_id);
      return report;
    },
  });
  app.route({
    method: 'POST',
    url: '/api/outbound_calls/jobs/:job_id/resolve',
    // Everybody who may look at a review may end it.
    config: { access: MAY_READ },
    schema: {
      tags: ['Jobs'],
      summary: 'Decide about a job under review',
      description:
        '`called` counts it as called: it is completed. `call_again` has it wait for its next call, due at once, while ' +
        'its run goes on; where that has ended, it is cancelled there and a follow-up run takes it up. What the carrier ' +
        'tells later still has the last word, unless the lead was called again by then.',
      params: z.object({ job_id: JobId }),
      body: ResolveJob,
      response: { 200: JobWithAttempts, ...failures('job_not_found', 'job_state_conflict', 'invalid_request') },
    },
    async handler(request) {
      const { business_id } = principalOf(request);
      const { job_id } = request.params;
      await resolveJob(db, business_id, job_id, request.body.as, { actor: actorOf(request), limits });
      waker.wake(business_id);
      return await getJob(db, business_id, job_id);
    },
  });
}
