import {
  BusinessId,
  BusinessName,
  CreateBusiness,
  CreatedBusiness,
  EnterBusiness,
  Entry,
  page,
} from '@carillon/contract';
import { createBusiness, enterBusiness, listBusinesses } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, administratorOf, MAY_ADMINISTER } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, failures, idText, pageQuery } from '../schemas.ts';

/** For system administrators: that businesses exist, and the way into one. */
export function businessRoutes(app: ZodApp, { db }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/businesses',
    config: { access: MAY_ADMINISTER },
    schema: {
      tags: ['Businesses'],
      summary: 'The businesses, by number',
      querystring: z.object({ after: idText(BusinessId).optional().describe(after), ...pageQuery }),
      response: { 200: page(BusinessName), ...failures('invalid_request') },
    },
    handler: (request) => listBusinesses(db, request.query),
  });
  app.route({
    method: 'POST',
    url: '/api/businesses',
    config: { access: MAY_ADMINISTER },
    schema: {
      tags: ['Businesses'],
      summary: 'Create a business',
      description: "Answers with its owner's first key, which is shown this once.",
      body: CreateBusiness,
      response: { 201: CreatedBusiness, ...failures('invalid_request') },
    },
    async handler(request, reply) {
      return reply.code(201).send(await createBusiness(db, request.body, actorOf(request)));
    },
  });
  app.route({
    method: 'POST',
    url: '/api/businesses/:business_id/enter',
    config: { access: MAY_ADMINISTER },
    schema: {
      tags: ['Businesses'],
      summary: 'Enter a business',
      description:
        "Answers with a key of that business which may do what its owner may, until `expires_at`. The business's trail " +
        "shows who entered, the reason and until when, and each change made with it; its owner may revoke it. A system administrator's own key " +
        'reads no data of any business.',
      params: z.object({ business_id: idText(BusinessId) }),
      body: EnterBusiness,
      response: { 201: Entry, ...failures('business_not_found', 'invalid_request') },
    },
    async handler(request, reply) {
      const { business_id } = request.params;
      const entry = await enterBusiness(db, business_id, administratorOf(request), request.body, actorOf(request));
      return reply.code(201).send(entry);
    },
  });
}
