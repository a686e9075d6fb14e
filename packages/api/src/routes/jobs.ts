import {
  CarillonError,
  Job,
  JOB_STATUSES,
  type JobKey,
  page,
  parseJobId,
  RunId,
  Seq,
  StoppedRun,
} from '@carillon/contract';
import { cancelJob, getJob, listJobs, stopRun } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_MANAGE, MAY_READ, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, failures, idText, JobWithAttempts, pageQuery } from '../schemas.ts';

export const JobId = z
  .string()
  .transform((text, check) => {
    const key = parseJobId(text);
    if (!key) check.addIssue({ code: 'custom', message: 'a job id such as 12-3' });
    return key ?? z.NEVER;
  })
  .describe('`<run_id>-<number in the run>`');

export function jobRoutes(app: ZodApp, context: ApiContext): void {
  const { db, limits, waker } = context;
  app.route({
    method: 'GET',
    url: '/api/outbound/runs/:run_id/jobs',
    config: { access: MAY_READ },
    schema: {
      tags: ['Jobs'],
      summary: "A run's jobs, by number",
      params: z.object({ run_id: idText(RunId) }),
      querystring: z.object({
        status: z.enum(JOB_STATUSES).optional().describe('Only jobs that effectively are in this state.'),
        after: idText(Seq).optional().describe(after),
        ...pageQuery,
      }),
      response: { 200: page(Job), ...failures('run_not_found', 'invalid_request') },
    },
    handler: (request) => listJobs(db, principalOf(request).business_id, request.params.run_id, request.query),
  });
  app.route({
    method: 'GET',
    url: '/api/outbound/runs/:run_id/jobs/:job_id',
    config: { access: MAY_READ },
    schema: {
      tags: ['Jobs'],
      summary: 'One job with all its attempts',
      params: z.object({ run_id: idText(RunId), job_id: JobId }),
      response: { 200: JobWithAttempts, ...failures('job_not_found') },
    },
    async handler(request) {
      const { run_id, job_id } = request.params;
      if (job_id.run_id !== run_id) throw new CarillonError('job_not_found');
      return await getJob(db, principalOf(request).business_id, job_id);
    },
  });
  app.route({
    method: 'POST',
    url: '/api/outbound_calls/jobs/:job_id/cancel',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Jobs'],
      summary: 'Cancel one job',
      description:
        'Answers with the job. One in progress has its call hung up and ends as that call ends. Older clients pass a ' +
        "run's id here: a bare number stops that run, draining its calls, and is answered with the run.",
      params: z.object({ job_id: z.union([JobId, idText(RunId)]) }),
      response: {
        200: z.union([JobWithAttempts, StoppedRun]),
        ...failures('job_not_found', 'run_not_found', 'job_state_conflict', 'run_state_conflict'),
      },
    },
    async handler(request) {
      const { business_id } = principalOf(request);
      const { job_id } = request.params;
      const actor = actorOf(request);
      const answer = isJobKey(job_id)
        ? await cancelJob(db, business_id, job_id, limits, actor).then(() => getJob(db, business_id, job_id))
        : await stopRun(db, business_id, job_id, 'drain', actor);
      waker.wake(business_id);
      return answer;
    },
  });
}

function isJobKey(id: JobKey | RunId): id is JobKey {
  return typeof id === 'object';
}
