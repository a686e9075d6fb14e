import {
  CarillonError,
  CarrierAccount,
  CarrierAccountId,
  CreateCarrierAccount,
  offeredDrivers,
  page,
} from '@carillon/contract';
import { createCarrierAccount, listCarrierAccounts, resumeLane } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_OWN, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, failures, idText, pageQuery } from '../schemas.ts';

export function carrierAccountRoutes(app: ZodApp, context: ApiContext): void {
  const { db, drivers, secret, waker } = context;
  app.route({
    method: 'GET',
    url: '/api/carrier_accounts',
    config: { access: MAY_OWN },
    schema: {
      tags: ['Carrier accounts'],
      summary: 'The carrier accounts, without their secrets',
      querystring: z.object({ after: idText(CarrierAccountId).optional().describe(after), ...pageQuery }),
      response: { 200: page(CarrierAccount), ...failures('invalid_request') },
    },
    handler: (request) => listCarrierAccounts(db, principalOf(request).business_id, request.query),
  });
  app.route({
    method: 'POST',
    url: '/api/carrier_accounts',
    config: { access: MAY_OWN },
    schema: {
      tags: ['Carrier accounts'],
      summary: 'Add a carrier account',
      description:
        '`driver` is `twilio` for all that speak its API. Secrets are kept sealed and never shown again. With `client_validation` requests are signed and expire: a create that arrives late makes no call, and a lost one is called again sooner.',
      body: CreateCarrierAccount,
      response: { 201: CarrierAccount, ...failures('unknown_driver', 'from_number_taken', 'invalid_request') },
    },
    async handler(request, reply) {
      const { driver } = request.body;
      const offered = offeredDrivers(drivers);
      if (!offered.includes(driver)) throw new CarillonError('unknown_driver', { driver, known: offered.join(', ') });
      const account = await createCarrierAccount(
        db,
        principalOf(request).business_id,
        request.body,
        secret,
        actorOf(request),
      );
      return reply.code(201).send(account);
    },
  });
  app.route({
    method: 'POST',
    url: '/api/carrier_accounts/:carrier_account_id/resume',
    config: { access: MAY_OWN },
    schema: {
      tags: ['Carrier accounts'],
      summary: 'Let a halted account call again',
      params: z.object({ carrier_account_id: idText(CarrierAccountId) }),
      response: { 200: CarrierAccount, ...failures('carrier_account_not_found') },
    },
    async handler(request) {
      const { business_id } = principalOf(request);
      const account = await resumeLane(db, business_id, request.params.carrier_account_id, actorOf(request));
      waker.wake(business_id);
      return account;
    },
  });
}
