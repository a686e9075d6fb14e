import formbody from '@fastify/formbody';
import {
  CALLBACK_ROUTE,
  CallbackPath,
  CarillonError,
  type CarrierCall,
  type CarrierDriver,
  type CarrierRequest,
} from '@carillon/contract';
import { readAnswer, type Recorded, reportForgottenCall } from '@carillon/engine';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { createCallbackNotes } from './callback-notes.ts';
import type { ApiContext } from './context.ts';
import { cacheCredentials, type ReadCredentials } from './credentials.ts';
import { describeError } from './logging.ts';
import { logSecurity } from './security.ts';

/**
 * What carriers call. No key: a request is believed for the signature of the account that its address names, looked up
 * inside the business that its address names. It is answered with success only once its evidence is committed, so that
 * the carrier comes again otherwise.
 */
export async function webhookRoutes(app: FastifyInstance, context: ApiContext): Promise<void> {
  app.removeAllContentTypeParsers();
  await app.register(formbody, { bodyLimit: context.api_limits.webhook_body_bytes });
  const credentials = cacheCredentials(context);
  const soon = boundWaiting(context);
  const heard = createCallbackNotes(context);
  // No receipts: evidence that is told twice changes nothing, carriers tell it again themselves, and it is by far the most
  // that is written.
  const config = { access: 'signed', expects: 'application/x-www-form-urlencoded', receipts: false } as const;
  const bodyLimit = context.api_limits.webhook_body_bytes;
  const schema = { hide: true };

  app.post(`${CALLBACK_ROUTE}/status`, { config, bodyLimit, schema }, async (request, reply) => {
    await soon(async () => {
      const { path, driver, carrier_request } = await readSigned(request, context, credentials);
      heard(path.business_id, path.carrier_account_id);
      const call = driver.readEvent(carrier_request);
      if (!call) throw new CarillonError('invalid_request', { problem: 'it is no status callback of this carrier' });
      const recorded = await recordCall(request, context, path, call);
      context.metrics.evidence.inc({ phase: call.phase, recorded });
    });
    return await reply.code(204).send();
  });

  app.post(`${CALLBACK_ROUTE}/answer`, { config, bodyLimit, schema }, async (request, reply) => {
    const answer = await soon(async () => {
      const { path, driver, carrier_request } = await readSigned(request, context, credentials);
      heard(path.business_id, path.carrier_account_id);
      // That the lead answers is evidence too, and may be the first that is heard of this call: an attempt that was
      // believed absent is taken back by it, before the lead is told to hang up.
      const call = driver.readEvent(carrier_request);
      const recorded = call ? await recordCall(request, context, path, call) : null;
      // The attempt may have its answer to give, and this is still no call of its: a second one under its token.
      if (recorded === 'unwanted' || recorded === 'unknown_attempt') return driver.hangUpAnswer();
      const wanted = await readAnswer(context.db, path);
      // The address names the account that signed; a call through another one is not the one that was asked for.
      const ours = wanted !== null && wanted.carrier_account_id === path.carrier_account_id;
      return ours ? driver.answer(wanted.script) : driver.hangUpAnswer();
    });
    return await reply.type(answer.content_type).send(answer.body);
  });
}

interface Signed {
  path: CallbackPath;
  driver: CarrierDriver;
  carrier_request: CarrierRequest;
}

/**
 * Throws `route_not_found` for an address that can't be one of ours, and `signature_invalid` for everything else that is
 * wrong: who can't sign learns nothing about which businesses and accounts exist.
 */
async function readSigned(request: FastifyRequest, context: ApiContext, credentials: ReadCredentials): Promise<Signed> {
  const parsed = CallbackPath.safeParse(request.params);
  const driver = parsed.success ? context.drivers.get(parsed.data.driver) : undefined;
  if (!parsed.success || !driver) throw new CarillonError('route_not_found');
  const path = parsed.data;
  const form = readForm(request.body);
  const carrier_request = { url: context.public_url() + request.raw.url, headers: request.headers, form: form ?? {} };
  const account = await credentials(path.business_id, path.carrier_account_id);
  if (!form || account?.driver !== path.driver || !driver.verify(account, carrier_request)) {
    logSecurity(request, context, 'signature_invalid');
    throw new CarillonError('signature_invalid');
  }
  return { path, driver, carrier_request };
}

/** Null for a repeated field, which no carrier sends and no signature that we know covers. */
function readForm(body: unknown): Record<string, string> | null {
  const fields = Object.entries(body ?? {});
  const texts = fields.filter((field): field is [string, string] => typeof field[1] === 'string');
  return texts.length === fields.length ? Object.fromEntries(texts) : null;
}

/** Records what a callback says; one for an attempt that the database does not know halts the lane. */
async function recordCall(
  request: FastifyRequest,
  context: ApiContext,
  path: CallbackPath,
  call: CarrierCall,
): Promise<Recorded> {
  const { business_id, run_id, seq, attempt_no, token, carrier_account_id } = path;
  const key = { business_id, run_id, seq, attempt_no, token };
  const actor = { name: 'carrier', user_id: null, source: request.ip, request_id: request.id };
  const recorded = await context.gatherer.record({ key, evidence: { kind: 'call', call }, actor });
  if (recorded === 'unknown_attempt') {
    logSecurity(request, context, 'forgotten_call', { call_id: call.call_id });
    await reportForgottenCall(context.db, business_id, carrier_account_id, call.call_id, actor);
    context.waker.wake(business_id);
  }
  return recorded;
}

/**
 * Waits for the database, but not for ever: after `webhook_wait_ms` the carrier is told to come again, while the work
 * goes on. What waits is bounded; above that nothing is begun.
 */
function boundWaiting(context: ApiContext): <T>(work: () => Promise<T>) => Promise<T> {
  const { webhook_wait_ms, webhook_waiting_requests } = context.api_limits;
  let waiting = 0;
  const putOff = () => {
    context.metrics.webhooks_put_off.inc();
    return new CarillonError('database_unavailable');
  };
  return async (work) => {
    if (waiting >= webhook_waiting_requests) throw putOff();
    waiting++;
    const done = work().finally(() => waiting--);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(putOff());
        // Nobody waits for it any more; what goes wrong from here on is told to the log.
        done.catch((error: unknown) =>
          context.log.warn({ error: describeError(error) }, 'a callback was put off and then not recorded'),
        );
      }, webhook_wait_ms);
    });
    return await Promise.race([done, late]).finally(() => clearTimeout(timer));
  };
}
