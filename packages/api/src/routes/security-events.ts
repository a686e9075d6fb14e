import { SecurityReport } from '@carillon/contract';
import { parseReportCursor, securityReport } from '@carillon/engine';
import { z } from 'zod';
import { MAY_ADMINISTER } from '../auth.ts';
import type { ApiContext, ZodApp } from '../context.ts';
import { after, failures, pageQuery } from '../schemas.ts';

const Cursor = z.string().transform((text, check) => {
  const cursor = parseReportCursor(text);
  if (!cursor) check.addIssue({ code: 'custom', message: 'the `next` of an earlier page' });
  return cursor ?? z.NEVER;
});

export function securityEventRoutes(app: ZodApp, { db }: ApiContext): void {
  app.route({
    method: 'GET',
    url: '/api/security_events',
    config: { access: MAY_ADMINISTER },
    schema: {
      tags: ['Businesses'],
      summary: 'What happened at the walls of all businesses, newest first',
      description:
        'Refused ids, told apart as `foreign` (another business had it) or `absent`; strangers at the door; and phone ' +
        'numbers that several businesses call from through one account at a carrier. Ids only, no data of a business.',
      querystring: z.object({ after: Cursor.optional().describe(after), ...pageQuery }),
      response: { 200: SecurityReport, ...failures('invalid_request') },
    },
    handler: (request) => securityReport(db, request.query),
  });
}
