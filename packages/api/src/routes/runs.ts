import {
  CarillonError,
  isFinalRun,
  LiveCalls,
  page,
  Run,
  RunId,
  StartRun,
  StoppedRun,
  StopQueue,
} from '@carillon/contract';
import { createRun, getRun, listRuns, pauseRun, resumeRun, stopRun } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_MANAGE, MAY_READ, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, EventHeaders, failures, IdempotencyHeaders, idText, pageQuery, text } from '../schemas.ts';
import { sendEvents } from '../sse.ts';

const RunParams = z.object({ run_id: idText(RunId) });

export function runRoutes(app: ZodApp, context: ApiContext): void {
  readRoutes(app, context);
  startRoute(app, context);
  controlRoutes(app, context);
  eventsRoute(app, context);
}

function readRoutes(app: ZodApp, context: ApiContext): void {
  const { db } = context;
  app.route({
    method: 'GET',
    url: '/api/outbound/runs',
    config: { access: MAY_READ },
    schema: {
      tags: ['Runs'],
      summary: 'The runs, newest first',
      querystring: z.object({ after: idText(RunId).optional().describe(after), ...pageQuery }),
      response: { 200: page(Run), ...failures('invalid_request') },
    },
    handler: (request) => listRuns(db, principalOf(request).business_id, request.query),
  });
  app.route({
    method: 'GET',
    url: '/api/outbound/runs/:run_id',
    config: { access: MAY_READ },
    schema: {
      tags: ['Runs'],
      summary: 'One run with its counters',
      description: 'The eight counters (`queued` to `needs_review`) add up to `total_leads`.',
      params: RunParams,
      response: { 200: Run, ...failures('run_not_found') },
    },
    handler: (request) => getRun(db, principalOf(request).business_id, request.params.run_id),
  });
}

function startRoute(app: ZodApp, context: ApiContext): void {
  app.route({
    method: 'POST',
    url: '/api/outbound_calls/start',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Runs'],
      summary: 'Start a run over a list, named leads, or the unreached of an earlier run',
      description:
        'Over a list, over `lead_ids`, or over those leads of an earlier run whose jobs ended in one of `outcomes` (when ' +
        'left out: busy, no_answer, voicemail, failed, cancelled). Such a run is like the earlier one where nothing else ' +
        'is said: name, account, concurrency, answer and policy. Leads are fixed when the run starts. ' +
        'With an `Idempotency-Key` the same request gets the run that it made before, as it is by then, with the ' +
        'header `idempotency-replayed: true`.',
      headers: IdempotencyHeaders,
      body: StartRun,
      response: {
        201: Run,
        ...failures(
          'list_not_found',
          'lead_not_found',
          'run_not_found',
          'carrier_account_not_found',
          'duplicate_lead',
          'idempotency_conflict',
          'list_empty',
          'follow_up_empty',
          'no_carrier_account',
          'carrier_account_ambiguous',
          'invalid_request',
          'body_too_large',
          'unsupported_media_type',
        ),
      },
    },
    async handler(request, reply) {
      const { business_id } = principalOf(request);
      const { run, created } = await createRun(context.db, business_id, request.body, {
        actor: actorOf(request),
        // With a key of our own where the client gave none: a run calls people, so a second thing beside its receipt
        // keeps it from being made twice.
        idempotency_key: request.headers['idempotency-key'] ?? `request ${request.id}`,
        limits: context.limits,
      }).catch((error: unknown) => {
        throw placeLead(error, request.body);
      });
      context.waker.wake(business_id);
      if (!created && request.headers['idempotency-key']) reply.header('idempotency-replayed', 'true');
      return reply.code(201).send(run);
    },
  });
}

/**
 * Says at which place the lead stands that the business has not, rather than which it is: so a lead of another business
 * and one that does not exist get the same answer to the byte.
 */
function placeLead(error: unknown, { lead_ids }: StartRun): unknown {
  if (!(error instanceof CarillonError && error.code === 'lead_not_found')) return error;
  const place = lead_ids?.findIndex((lead_id) => lead_id === error.details.lead_id) ?? -1;
  return new CarillonError('lead_not_found', place < 0 ? {} : { path: `lead_ids.${place}` }, { cause: error });
}

function controlRoutes(app: ZodApp, context: ApiContext): void {
  const { db, limits, waker } = context;
  app.route({
    method: 'POST',
    url: '/api/outbound/runs/:run_id/pause',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Runs'],
      summary: 'Pause a run',
      description:
        'Once this has answered no new call is begun. `in_flight` counts those begun before, which are drained or ' +
        'hung up as `live_calls` says (`drain` when left out). The body may be left out.',
      params: RunParams,
      body: z.strictObject({ live_calls: LiveCalls.default('drain') }).nullish(),
      response: { 200: StoppedRun, ...failures('run_not_found', 'run_state_conflict', 'invalid_request') },
    },
    async handler(request) {
      const { business_id } = principalOf(request);
      const live_calls = request.body?.live_calls ?? 'drain';
      const run = await pauseRun(db, business_id, request.params.run_id, live_calls, actorOf(request));
      waker.wake(business_id);
      return run;
    },
  });
  app.route({
    method: 'POST',
    url: '/api/outbound/runs/:run_id/resume',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Runs'],
      summary: 'Let a paused run go on, or start a draft',
      params: RunParams,
      response: { 200: Run, ...failures('run_not_found', 'run_state_conflict', 'list_empty', 'follow_up_empty') },
    },
    async handler(request) {
      const { business_id } = principalOf(request);
      const run = await resumeRun(db, business_id, request.params.run_id, limits, actorOf(request));
      waker.wake(business_id);
      return run;
    },
  });
  app.route({
    method: 'POST',
    url: '/api/outbound/stop-queue',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Runs'],
      summary: 'Stop a run for good',
      description:
        'Once this has answered no new call is begun. `in_flight` counts those begun before, which are drained or ' +
        'hung up as `live_calls` says. Stopping a stopped run changes nothing, but `hang_up` still hangs up.',
      body: StopQueue,
      response: { 200: StoppedRun, ...failures('queue_not_found', 'run_state_conflict', 'invalid_request') },
    },
    async handler(request) {
      const { business_id } = principalOf(request);
      const { run_id, live_calls } = request.body;
      const run = await stopRun(db, business_id, run_id, live_calls, actorOf(request)).catch((error: unknown) => {
        const absent = error instanceof CarillonError && error.code === 'run_not_found';
        throw absent ? new CarillonError('queue_not_found', {}, { cause: error }) : error;
      });
      waker.wake(business_id);
      return run;
    },
  });
}

function eventsRoute(app: ZodApp, context: ApiContext): void {
  const { db } = context;
  app.route({
    method: 'GET',
    url: '/api/outbound/runs/:run_id/events',
    config: { access: MAY_READ },
    schema: {
      tags: ['Runs'],
      summary: 'Follow a run (server-sent events)',
      description:
        'Events named `run`, each with the run as JSON in `data`: at once, and on each change, a few a second at most. ' +
        'A client that comes again with `Last-Event-ID` hears nothing twice. The stream ends when a final state was ' +
        'sent; asked again after that, the answer is 204, on which an EventSource stops asking.',
      params: RunParams,
      headers: EventHeaders,
      response: {
        200: text('text/event-stream', 'The stream'),
        204: z.undefined().describe('The run has ended, and its last state is the one named by Last-Event-ID'),
        ...failures('run_not_found', 'too_many_streams'),
      },
    },
    async handler(request, reply) {
      const { business_id } = principalOf(request);
      const read = () => getRun(db, business_id, request.params.run_id);
      const first = await read();
      return sendEvents(request, reply, context, business_id, {
        name: 'run',
        first,
        read,
        changedAt: (run) => run.updated_at,
        isFinal: (run) => isFinalRun(run.status),
      });
    },
  });
}
