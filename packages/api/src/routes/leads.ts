import { CreateLead } from '@carillon/contract';
import { createLead } from '@carillon/engine';
import { z } from 'zod';
import { actorOf, MAY_MANAGE, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { failures } from '../schemas.ts';

export function leadRoutes(app: ZodApp, { db }: ApiContext): void {
  const Created = z.object({ lead_id: z.number() });
  app.route({
    method: 'POST',
    url: '/api/leads',
    config: { access: MAY_MANAGE },
    schema: {
      tags: ['Leads'],
      summary: 'Create a lead',
      description: '201 for a new lead, 200 for the one that has this number already, which stays as it is.',
      body: CreateLead,
      response: { 200: Created, 201: Created, ...failures('phone_invalid', 'invalid_request') },
    },
    async handler(request, reply) {
      const { lead_id, created } = await createLead(
        db,
        principalOf(request).business_id,
        request.body,
        actorOf(request),
      );
      return reply.code(created ? 201 : 200).send({ lead_id });
    },
  });
}
