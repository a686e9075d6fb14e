import { Counts } from '@carillon/contract';
import { countCalls } from '@carillon/engine';
import { MAY_READ, principalOf } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { failures } from '../schemas.ts';

export function countRoutes(app: ZodApp, { db }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/outbound_calls/counts',
    config: { access: MAY_READ },
    schema: {
      tags: ['Runs'],
      summary: 'Live, queued and finished today, against the limits',
      description: "Today begins at midnight in the business's time zone.",
      response: { 200: Counts, ...failures() },
    },
    handler: (request) => countCalls(db, principalOf(request).business_id),
  });
}
